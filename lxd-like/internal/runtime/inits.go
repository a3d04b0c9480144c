package runtime

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
	"github.com/cuib/cuib/shared/units"
)

// initKind says how a guest's init is spoken to. What it is was found out by
// its program; nothing but how it is asked to end depends on it.
type initKind struct {
	Name    string // systemd, busybox, runit, sysvinit, or empty for others.
	Version int    // Of systemd; 0 for unknown.

	Halt, Reboot unix.Signal // What raw.lxc says; 0 for nothing.
}

// onlyV2Version is the first systemd that does without v1 cgroups altogether.
const onlyV2Version = 256

// onlyV2 tells whether the init is to see nothing but cgroup2. The error is of
// kind Unsupported if the host has none.
func (k initKind) onlyV2(host Cgroups) (bool, error) {
	if k.Version < onlyV2Version {
		return false, nil
	}
	if host.V2 == "" {
		return false, errs.Newf(errs.Unsupported, "the instance has systemd %d, which needs cgroup2, and the host has none mounted: "+
			"run \"mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified\" on the host and restart cuibd, "+
			"or boot the host with systemd.unified_cgroup_hierarchy=1", k.Version)
	}
	return true, nil
}

// halt and reboot are the signals on which the init ends and reboots.
func (k initKind) halt() unix.Signal {
	switch {
	case k.Halt != 0:
		return k.Halt
	case k.Name == "systemd":
		return rtmin + 3
	case k.Name == "busybox":
		return unix.SIGUSR2
	}
	return unix.SIGPWR
}

func (k initKind) reboot() unix.Signal {
	switch {
	case k.Reboot != 0:
		return k.Reboot
	case k.Name == "systemd":
		return rtmin + 5
	case k.Name == "busybox":
		return unix.SIGTERM
	}
	return unix.SIGINT
}

const rtmin = unix.Signal(34) // As glibc and systemd count.

// asks returns the program of the guest that asks its init to go to a
// runlevel, of those inits that take no signal for it: runit's has none, and
// what System V's does on SIGPWR is up to its inittab, which seldom says that
// it halts.
func (k initKind) asks(runlevel string, raw unix.Signal) []string {
	switch {
	case raw != 0:
		return nil
	case k.Name == "runit":
		return []string{"/sbin/init", runlevel}
	case k.Name == "sysvinit":
		return []string{"/sbin/telinit", runlevel}
	}
	return nil
}

// detectInit looks at the program that is to be init.
func detectInit(s Spec) (initKind, error) {
	root, err := os.OpenFile(s.Root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return initKind{}, fmt.Errorf("root file system: %w", err)
	}
	defer root.Close()
	f, err := inroot.Open(root, s.Init[0], unix.O_PATH, 0)
	if err != nil {
		return initKind{}, errs.Invalidf("init %s of the instance cannot be run: %w", s.Init[0], err)
	}
	defer f.Close()
	target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return initKind{}, err
	}
	if !isProgram(f) {
		return initKind{}, errs.Invalidf("init %s of the instance is no program", s.Init[0])
	}
	kind := initKind{}
	switch name := filepath.Base(target); {
	case strings.Contains(name, "systemd"):
		kind = initKind{Name: "systemd", Version: systemdVersion(root)}
	case strings.Contains(name, "busybox"):
		kind.Name = "busybox"
	case strings.HasPrefix(name, "runit"):
		kind.Name = "runit"
	case name == "init" && hasProgram(root, "sbin/telinit") && inRoot(root, "etc/inittab"):
		kind.Name = "sysvinit"
	}
	kind.Halt, kind.Reboot, err = rawSignals(s.Raw)
	return kind, err
}

// isProgram tells whether a file can be run by somebody.
func isProgram(f *os.File) bool {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0
}

func hasProgram(root *os.File, name string) bool {
	f, err := inroot.Open(root, name, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return isProgram(f)
}

func inRoot(root *os.File, name string) bool {
	f, err := inroot.Open(root, name, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// rawSignals returns the signals that lines of raw.lxc name, and 0 for those
// that they do not.
func rawSignals(raw string) (halt, reboot unix.Signal, err error) {
	for line := range strings.Lines(raw) {
		key, value, _ := strings.Cut(line, "=")
		var to *unix.Signal
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "lxc.signal.halt":
			to = &halt
		case "lxc.signal.reboot":
			to = &reboot
		default:
			continue
		}
		n, err := units.ParseSignal(strings.TrimSpace(value))
		if err != nil {
			return 0, 0, errs.Invalidf("raw.lxc: %s: %w", strings.TrimSpace(key), err)
		}
		*to = unix.Signal(n)
	}
	return halt, reboot, nil
}

// How long a guest's program may take to ask its init, and how long it is
// waited before it is asked again: while it boots, init does not listen yet, or
// forgets what it heard, as runit does. One that is on its way down already
// takes the same again for what it was told.
const (
	askLimit = 10 * time.Second
	askPause = 500 * time.Millisecond
	askAgain = 5 * time.Second
)

// ask runs a guest's program until init has ended, or for so long as an init is
// waited for that does not handle a signal yet; and if it never can, sends the
// signal.
func (r *Runtime) ask(ctx context.Context, c *container, in *guestInit, args []string, sig unix.Signal) {
	asked := false
	for deadline := time.Now().Add(handlerLimit); time.Now().Before(deadline); {
		if in.ended() {
			return
		}
		pause := askPause
		if r.askOnce(ctx, c.name, args) {
			asked, pause = true, askAgain
		}
		select {
		case <-c.gone:
			return
		case <-time.After(pause):
		}
	}
	if !asked {
		_ = in.signal(sig) // It fails only if init has ended.
	}
}

// askOnce runs a program and tells whether that was of use. What it says is
// for nobody.
func (r *Runtime) askOnce(ctx context.Context, name string, args []string) bool {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	p, err := r.Exec(ctx, name, Exec{Args: args})
	if err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(unix.SIGKILL) }) // It may have ended.
	defer stop()
	p.Stdin.Close()
	for _, f := range []*os.File{p.Stdout, p.Stderr} {
		go func() {
			defer f.Close()
			_, _ = io.Copy(io.Discard, f)
		}()
	}
	status, err := p.Wait(ctx)
	return err == nil && status == 0
}

// systemdVersion returns the version of the guest's systemd, which the name of
// its library has.
func systemdVersion(root *os.File) int {
	for _, dir := range []string{"usr/lib/systemd", "lib/systemd", "usr/lib/x86_64-linux-gnu/systemd", "usr/lib/aarch64-linux-gnu/systemd", "usr/lib64/systemd"} {
		d, err := inroot.Open(root, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			continue
		}
		names, err := d.Readdirnames(-1)
		d.Close()
		if err != nil {
			continue
		}
		var version int
		i := slices.IndexFunc(names, func(name string) bool {
			n, err := fmt.Sscanf(name, "libsystemd-shared-%d", &version)
			return err == nil && n == 1
		})
		if i >= 0 {
			return version
		}
	}
	return 0
}
