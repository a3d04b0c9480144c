package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/seccomp"
)

// Which system calls containers may make: programs for the kernel, that
// cuib-shim loads (filter.c). Those of all containers that ask for nothing
// else are in Dir, others in Dir/NAME.
const (
	profileFile = "seccomp.none"
	filterFile  = "seccomp.bpf"
	notifyFile  = "seccomp.notify"

	interceptFile   = "intercept"
	interceptSocket = "intercept.sock"
)

// noCalls is the profile that liblxc gets: it is never loaded, and allows
// nothing in case that it is.
const noCalls = "1\nallowlist\n"

// writeSeccomp writes what all containers have in common into Dir and returns
// liblxc's profile's path.
func (r *Runtime) writeSeccomp() (profile string, err error) {
	programs, err := seccomp.Policy{}.Compile(runtime.GOARCH)
	if err != nil {
		return "", err
	}
	profile = filepath.Join(r.Dir, profileFile)
	return profile, errors.Join(update(profile, []byte(noCalls)), update(filepath.Join(r.Dir, filterFile), programs.Main))
}

// update writes a file if it is not as it is to be.
func update(path string, content []byte) error {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, content) {
		return nil
	}
	return replaceFile(path, content)
}

// oldProfileFile is the profile of containers that an older daemon has started,
// with a cuib-shim that loads it: it stays as that daemon has left it.
const oldProfileFile = "seccomp.profile"

// profileOf is the profile of a container. One that runs may need that of an
// older daemon: its shim is as old, and starts it over when the guest boots
// again.
func (r *Runtime) profileOf(c *container, profile string) string {
	old := filepath.Join(r.Dir, oldProfileFile)
	conf, err := os.ReadFile(r.path(c.name, confFile))
	if err != nil || c.shim.fd == nil || !strings.Contains(string(conf), "lxc.seccomp.profile = "+old+"\n") {
		return profile
	}
	return old
}

// writeOwnSeccomp writes what a container has for itself.
func (r *Runtime) writeOwnSeccomp(s Spec, h Host) error {
	if s.Syscalls.IsDefault() {
		return nil
	}
	programs, err := s.Syscalls.Compile(runtime.GOARCH)
	if err != nil {
		return err
	}
	err = update(r.path(s.Name, filterFile), programs.Main)
	if len(programs.Notify) == 0 {
		return err
	}
	if nerr := checkNotify(); nerr != nil {
		return nerr
	}
	return errors.Join(err,
		update(r.path(s.Name, notifyFile), programs.Notify),
		update(r.path(s.Name, interceptFile), []byte(interceptSettings(s, h))))
}

// checkNotify reports whether the kernel can tell others of system calls.
func checkNotify() error {
	actions, err := readValue("/proc/sys/kernel/seccomp", "actions_avail")
	if err != nil || !slices.Contains(strings.Fields(actions), "user_notif") {
		return errs.Newf(errs.Unsupported, "system calls cannot be intercepted: this host's kernel has no user_notif in /proc/sys/kernel/seccomp/actions_avail, Linux 5.5 has it")
	}
	return nil
}

// interceptSettings is what the handler of a container's system calls reads
// (settings.c).
func interceptSettings(s Spec, h Host) string {
	var b strings.Builder
	for _, call := range s.Syscalls.Intercept {
		fmt.Fprintf(&b, "call %s\n", call)
	}
	for _, fs := range s.Mounting.FileSystems {
		fmt.Fprintf(&b, "fs %s\n", fs)
	}
	for _, fs := range sortedKeys(s.Mounting.Programs) {
		fmt.Fprintf(&b, "fuse %s %s\n", fs, s.Mounting.Programs[fs])
	}
	if s.Mounting.Shift {
		b.WriteString("shift 1\n")
	}
	if s.DevicePrograms {
		b.WriteString("bpf-devices 1\n")
	}
	for _, n := range s.Nodes {
		if n.Block {
			fmt.Fprintf(&b, "block %d:%d\n", n.Major, n.Minor)
		}
	}
	for _, controller := range sortedKeys(h.Cgroups.V1) {
		fmt.Fprintf(&b, "cgroup %s %s\n", controller, h.Cgroups.V1[controller])
	}
	if h.Cgroups.V2 != "" {
		fmt.Fprintf(&b, "cgroup v2 %s\n", h.Cgroups.V2)
	}
	if slices.Contains(h.LXCFS.Files, "proc/loadavg") {
		fmt.Fprintf(&b, "lxcfs loadavg %s/proc/loadavg\n", h.LXCFS.Dir)
	}
	return b.String()
}

// filterArgs are the programs as cuib-shim's attach mode takes them.
func (r *Runtime) filterArgs(s Spec) []string {
	if s.Syscalls.IsDefault() {
		return []string{filepath.Join(r.Dir, filterFile), "-", r.path(s.Name)}
	}
	notify := r.path(s.Name, notifyFile)
	if _, err := os.Stat(notify); err != nil {
		notify = "-"
	}
	return []string{r.path(s.Name, filterFile), notify, r.path(s.Name)}
}

// replaceFile writes a file at once: nobody sees half of it.
func replaceFile(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, os.Remove(tmp.Name()))
	if errors.Is(err, unix.ENOSPC) && overwrite(path, content) == nil {
		return nil
	}
	return err
}

// overwrite changes a file in its place, with the blocks that it has: on a
// full disk this is how a change can still be taken back.
func overwrite(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if blocks := (info.Size() + blockSize - 1) / blockSize; int64(len(content)) > blocks*blockSize {
		return unix.ENOSPC
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return f.Truncate(int64(len(content)))
}

// blockSize is at most what file systems give a file that has a byte.
const blockSize = 1024
