package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// Shutdown asks init to end, in the way that its kind of init takes, and
// returns at once.
func (r *Runtime) Shutdown(ctx context.Context, name string) error {
	return r.signalInit(ctx, name, func(k initKind) (unix.Signal, []string) { return k.halt(), k.asks("0", k.Halt) })
}

// Reboot asks init to reboot, likewise.
func (r *Runtime) Reboot(ctx context.Context, name string) error {
	return r.signalInit(ctx, name, func(k initKind) (unix.Signal, []string) { return k.reboot(), k.asks("6", k.Reboot) })
}

// The kernel drops signals to an init that does not handle them (yet): how
// long the caller waits for that, how long it is waited for behind their back,
// and how often it is looked in that time.
const (
	handlerWait  = time.Second
	handlerLimit = 30 * time.Second
	handlerLooks = 500
)

func (r *Runtime) signalInit(ctx context.Context, name string, choose func(initKind) (unix.Signal, []string)) error {
	c, in, err := r.findInit(name)
	if err != nil {
		return err
	}
	sig, program := choose(c.kind)
	if len(program) > 0 {
		go r.ask(context.WithoutCancel(ctx), c, in, program, sig)
		return nil
	}
	handled, err := in.awaitHandler(ctx, sig, handlerWait)
	if err != nil {
		return err
	}
	if !handled {
		// It may never, or boot on a slow host: the signal is then lost.
		later := context.WithoutCancel(ctx)
		go func() {
			if handled, err := in.awaitHandler(later, sig, handlerLimit); err == nil && handled {
				_ = in.signal(sig) // It fails only if init has ended.
			}
		}()
	}
	return in.signal(sig)
}

// awaitHandler waits for so long until init handles a signal, and reports
// whether it does; also if it has ended, as the signal itself tells that.
func (in *guestInit) awaitHandler(ctx context.Context, sig unix.Signal, limit time.Duration) (bool, error) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if in.ended() || handles(in.pid, sig) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(limit / handlerLooks):
		}
	}
	return false, nil
}

// handles reports whether a process catches a signal, or blocks it to read it.
func handles(pid int, sig unix.Signal) bool {
	data, err := readFile(filepath.Join(procDir(pid), "status"))
	if err != nil {
		return true // It has ended.
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "SigBlk" && key != "SigCgt" {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && set>>(sig-1)&1 == 1 {
			return true
		}
	}
	return false
}

// Steps of Kill: how often init is looked for, as the guest can be between
// two boots, and how long the shim may take to see init's end.
const (
	killEvery = 20 * time.Millisecond
	killShim  = 10 * time.Second
)

// Kill ends a container and returns when it is gone.
func (r *Runtime) Kill(ctx context.Context, name string) error {
	c, err := r.find(name)
	if err != nil {
		return err
	}
	tick := time.NewTicker(killEvery)
	defer tick.Stop()
	last := time.After(killShim)
	var unplugged sync.WaitGroup
	defer unplugged.Wait()
	for killed := false; ; killed = true {
		// Once it was killed, what it had can go away at any moment.
		if err := r.killInit(c); err != nil && (!killed || !c.shim.ended()) {
			return c.orGone(err)
		}
		if !killed {
			unplugged.Go(c.unplug)
		}
		select {
		case <-c.gone:
			return nil
		case <-tick.C:
		case <-last:
			if err := c.shim.signal(unix.SIGKILL); err != nil && !c.shim.ended() {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// killInit kills the init that runs now, if one does.
func (r *Runtime) killInit(c *container) error {
	in, err := c.lookup()
	if in == nil || err != nil {
		return err
	}
	if in.v2.inode != 0 {
		// This reaches all processes, programs of ours too, at once.
		err := in.v2.write("cgroup.kill", "1")
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	if err := in.signal(unix.SIGKILL); err != nil {
		return err
	}
	if dir := in.dirs["freezer"]; dir != "" { // Frozen processes of v1 do not die.
		err := writeValue(dir, freezerState, "THAWED")
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	return nil
}

const (
	freezerState = "freezer.state"
	freezePause  = 50 * time.Microsecond // At first, and then longer:
	freezeDoze   = time.Millisecond      // while the guest stands still, each counts.
	freezeWait   = 10 * time.Second
)

// A freezer is how a cgroup is frozen, in v1 or v2.
type freezer struct {
	dir        string
	file       string // What is written to.
	on, off    string
	seen       string // What is read, and contains what is wanted once it is so.
	seenFrozen string
	seenThawed string
}

func freezerOf(in *guestInit) (freezer, error) {
	if dir := in.dirs["freezer"]; dir != "" {
		return freezer{dir, freezerState, "FROZEN", "THAWED", freezerState, "FROZEN", "THAWED"}, nil
	}
	if dir := in.dirs[""]; dir != "" {
		return freezer{dir, "cgroup.freeze", "1", "0", "cgroup.events", "frozen 1", "frozen 0"}, nil
	}
	return freezer{}, errs.Newf(errs.Unsupported, "the host has no cgroup that freezes")
}

// Freeze stops all processes of the container, and returns when they have.
func (r *Runtime) Freeze(ctx context.Context, name string) error {
	return r.setFrozen(ctx, name, func(f freezer) (string, string) { return f.on, f.seenFrozen })
}

// Thaw lets the processes go on.
func (r *Runtime) Thaw(ctx context.Context, name string) error {
	return r.setFrozen(ctx, name, func(f freezer) (string, string) { return f.off, f.seenThawed })
}

func (r *Runtime) setFrozen(ctx context.Context, name string, choose func(freezer) (write, want string)) error {
	c, in, err := r.findInit(name)
	if err != nil {
		return err
	}
	f, err := freezerOf(in)
	if err != nil {
		return err
	}
	write, want := choose(f)
	if err := writeValue(f.dir, f.file, write); err != nil {
		return c.during(in, err)
	}
	err = f.wait(ctx, want)
	if err != nil && write == f.on {
		err = errors.Join(err, writeValue(f.dir, f.file, f.off))
	}
	return c.during(in, err)
}

// wait returns when the cgroup is as wanted. v1 tells only who asks.
func (f freezer) wait(ctx context.Context, want string) error {
	ctx, cancel := context.WithTimeout(ctx, freezeWait)
	defer cancel()
	for pause := freezePause; ; pause = min(2*pause, freezeDoze) {
		is, err := f.is(want)
		if err != nil || is {
			return err
		}
		select {
		case <-ctx.Done():
			return errs.Newf(errs.Unavailable, "the instance's processes did not stop or go on: %w", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func (f freezer) is(want string) (bool, error) {
	now, err := readValue(f.dir, f.seen)
	return containsLine(now, want), err
}

func (r *Runtime) frozen(in *guestInit) (bool, error) {
	f, err := freezerOf(in)
	if err != nil {
		return false, nil //nolint:nilerr // What cannot be frozen is not.
	}
	return f.is(f.seenFrozen)
}

// Root opens the root directory as the container sees it, for openat2.
func (r *Runtime) Root(name string) (*os.File, error) {
	c, in, err := r.findInit(name)
	if err != nil {
		return nil, err
	}
	root, err := in.open("root", unix.O_PATH|unix.O_DIRECTORY)
	return root, c.orGone(err)
}
