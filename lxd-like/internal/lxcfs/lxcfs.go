// Package lxcfs sees to it that lxcfs runs, which shows each guest its own
// memory, processors and uptime where the kernel shows the host's.
//
// One that the host runs is used, and else one is started in the daemon's
// directory. It outlives the daemon, and comes back if it is killed; [Keeper]
// then says so, for guests to get it anew.
package lxcfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
)

// HostDir is where an lxcfs serves that the host runs.
const HostDir = "/var/lib/lxcfs"

// Program is the path of lxcfs, as Debian has it.
const Program = "/usr/bin/lxcfs"

// files are what a container gets of lxcfs, where it serves them.
var files = []string{
	"proc/cpuinfo", "proc/diskstats", "proc/loadavg", "proc/meminfo", "proc/slabinfo", "proc/stat", "proc/swaps",
	"proc/uptime", "sys/devices/system/cpu",
}

// Served is what an lxcfs serves. The zero value is nothing.
type Served struct {
	Dir    string
	Device string   // Number of its file system, as in mountinfo, which no other one has at the same time.
	Files  []string // Below /proc and /sys of a guest, without the first slash.
}

// Look returns what the lxcfs serves that is mounted on a directory; nothing if
// there is none, or if it has ended.
func Look(dir string) Served {
	mounted, err := mounts.Mounted(dir)
	if err != nil || !mounted {
		return Served{}
	}
	device, err := mounts.DeviceOf(dir)
	if err != nil {
		return Served{}
	}
	s := Served{Dir: dir, Device: device}
	for _, name := range files {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			s.Files = append(s.Files, name)
		}
	}
	if len(s.Files) == 0 {
		return Served{}
	}
	return s
}

// A Keeper keeps an lxcfs running. Its fields do not change.
type Keeper struct {
	Host     string // Where the host's own would serve.
	Dir      string // Where one of ours does, in the daemon's directory.
	Program  string // Empty to start none.
	Log      *slog.Logger
	Warnings *warnings.Service // Nil for none.

	// Changed is called when another lxcfs serves than before, on the
	// goroutine of Run.
	Changed func(context.Context)

	mu      sync.Mutex // Guards the fields below.
	now     Served
	stopped bool
}

// Served returns what serves now. It asks no lxcfs, which could hang.
func (k *Keeper) Served() Served {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now
}

// Times of Run: how often it looks; how long a new lxcfs takes at most to serve,
// and how often that is looked at; after how long it is tried again at first, and
// at last.
const (
	every      = 500 * time.Millisecond
	startWait  = 10 * time.Second
	startLook  = 5 * time.Millisecond
	retryFirst = time.Second
	retryLast  = time.Minute
)

// Run keeps an lxcfs running until ctx ends, which leaves it running.
func (k *Keeper) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	var last time.Time // When one was started.
	pause := retryFirst
	for !k.isStopped() {
		s, err := k.patientLook(ctx)
		switch {
		case err != nil: // It hangs, and guests with it, until somebody ends it.
		case s.Dir != "" || k.Program == "":
			k.set(ctx, s)
		case time.Since(last) > pause:
			last = time.Now()
			pause = k.again(ctx, pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
	return k.clear() // It may just have started one.
}

// again starts one of ours, and returns for how long that is not done again:
// longer each time that it serves nothing.
func (k *Keeper) again(ctx context.Context, pause time.Duration) time.Duration {
	err := k.start(ctx)
	now := k.look()
	k.set(ctx, now)
	if now.Dir != "" || ctx.Err() != nil {
		return retryFirst
	}
	if err == nil {
		err = errs.Newf(errs.Unavailable, "what it serves cannot be shown")
	}
	k.Log.WarnContext(ctx, "guests see the host's memory and processors: lxcfs does not run", "err", err)
	k.Warnings.Raise(ctx, warnings.LXCFSDown, "", err.Error()+": guests see the host's memory and processors")
	return min(2*pause, retryLast)
}

func (k *Keeper) isStopped() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.stopped
}

// patientLook is look, for which nobody waits longer than ctx lives: an lxcfs that
// is stopped does not answer.
func (k *Keeper) patientLook(ctx context.Context) (Served, error) {
	found := make(chan Served, 1)
	go func() { found <- k.look() }()
	select {
	case s := <-found:
		return s, nil
	case <-ctx.Done():
		return Served{}, context.Cause(ctx)
	}
}

// look prefers what serves already, so that guests keep what they have; at
// first, that of the host.
func (k *Keeper) look() (s Served) {
	var err error
	host := Look(k.Host)
	if k.Served().Dir != "" || host.Dir == "" || deviceOf(k.Dir) == host.Device {
		s, err = k.shown()
	}
	if s.Dir == "" && host.Dir != "" && err == nil {
		s, err = k.showHosts()
	}
	if err != nil {
		k.Log.Debug("what lxcfs serves cannot be shown read-only", "err", err)
		return Served{}
	}
	return s
}

// deviceOf returns the number of what is mounted on a directory; empty if that
// cannot be said.
func deviceOf(dir string) string {
	device, err := mounts.DeviceOf(dir)
	if err != nil {
		return ""
	}
	return device
}

func (k *Keeper) set(ctx context.Context, s Served) {
	k.mu.Lock()
	changed := k.now.Device != s.Device || k.now.Dir != s.Dir
	k.now = s
	k.mu.Unlock()
	if !changed {
		return
	}
	k.Log.DebugContext(ctx, "another lxcfs serves", "at", s.Dir)
	if s.Dir == "" {
		return
	}
	k.Warnings.Resolve(ctx, warnings.LXCFSDown, "")
	if k.Changed != nil {
		k.Changed(ctx)
	}
}

// start starts one of our own, and returns when it serves.
func (k *Keeper) start(ctx context.Context) error {
	if _, err := os.Stat(k.Program); err != nil {
		return errs.Newf(errs.Unsupported, "%s is not installed: %w", filepath.Base(k.Program), err)
	}
	if err := k.clear(); err != nil { // Of one that has ended.
		return err
	}
	if err := os.MkdirAll(k.Dir, 0o755); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// Not by shared/run, which is for programs that come back.
	args := []string{"lxcfs", "-f", "-l", "-p", k.Dir + ".pid", k.Dir}
	proc, err := os.StartProcess(k.Program, args, &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, Files: []*os.File{null, null, null},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start lxcfs: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = proc.Wait() // How it ended does not matter.
	}()
	if err := k.await(ctx, ended); err != nil {
		_ = proc.Kill() // It has ended, or nobody waits for it any more.
		<-ended
		return errors.Join(err, k.clear())
	}
	return nil
}

func (k *Keeper) await(ctx context.Context, ended <-chan struct{}) error {
	timed, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for Look(k.Dir).Dir == "" {
		select {
		case <-ended:
			return errs.Newf(errs.Unavailable, "lxcfs ended at once: is there /dev/fuse?")
		case <-timed.Done():
			return errs.Newf(errs.Unavailable, "lxcfs does not serve: %w", context.Cause(timed))
		case <-time.After(startLook):
		}
	}
	return nil
}

// Stop ends an lxcfs of our own, which guests use no more, and Run.
func (k *Keeper) Stop() error {
	k.mu.Lock()
	k.stopped = true
	k.mu.Unlock()
	return k.clear()
}
