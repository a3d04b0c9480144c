package mounts

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// maxNamespaces is how many user namespaces are kept for the next use.
const maxNamespaces = 64

// namespaces are the user namespaces made before, by the text of their maps.
var namespaces = struct {
	mu    sync.Mutex // Guards known.
	known map[string]*os.File
}{known: map[string]*os.File{}}

// UserNS returns a user namespace with the given ids, in which nothing runs.
func UserNS(ids idmap.Map) (*os.File, error) {
	uids, gids := mapText(ids, uidOf), mapText(ids, gidOf)
	if uids == "" || gids == "" {
		return nil, errs.Invalidf("the id map has no user, or no group ids")
	}
	key := uids + "/" + gids
	if ns, err := knownNS(key); ns != nil || err != nil {
		return ns, err
	}
	ns, err := newUserNS(uids, gids)
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	kept, err := dup(ns)
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	keepNS(key, kept)
	return ns, nil
}

func knownNS(key string) (*os.File, error) {
	namespaces.mu.Lock()
	defer namespaces.mu.Unlock()
	ns := namespaces.known[key]
	if ns == nil {
		return nil, nil //nolint:nilnil // Not known is no error.
	}
	return dup(ns)
}

func keepNS(key string, ns *os.File) {
	namespaces.mu.Lock()
	defer namespaces.mu.Unlock()
	for k, old := range namespaces.known {
		if k != key && len(namespaces.known) < maxNamespaces {
			continue
		}
		old.Close()
		delete(namespaces.known, k)
	}
	namespaces.known[key] = ns
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "dup", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func uidOf(e idmap.Entry) bool { return e.UID }
func gidOf(e idmap.Entry) bool { return e.GID }

// mapText returns the entries that has holds for, as /proc/PID/uid_map has them.
func mapText(ids idmap.Map, has func(idmap.Entry) bool) string {
	var b strings.Builder
	for _, e := range ids {
		if has(e) {
			fmt.Fprintf(&b, "%d %d %d\n", e.Inside, e.Host, e.Size)
		}
	}
	return b.String()
}

// newUserNS makes a namespace by a child that does nothing but be in it.
func newUserNS(uids, gids string) (*os.File, error) {
	runtime.LockOSThread() // The child dies with the thread that made it.
	defer runtime.UnlockOSThread()

	pid, err := cloneIdle()
	if err != nil {
		return nil, fmt.Errorf("clone: %w", err)
	}
	defer func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		for {
			if _, err := unix.Wait4(pid, nil, unix.WALL, nil); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	proc := fmt.Sprintf("/proc/%d/", pid)
	if err := writeFile(proc+"uid_map", uids); err != nil {
		return nil, err
	}
	if err := writeFile(proc+"gid_map", gids); err != nil {
		return nil, err
	}
	return os.Open(proc + "ns/user")
}

// writeFile is os.WriteFile without creating.
func writeFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// cloneIdle makes a child in a new user namespace that waits to be killed.
// All signals are blocked across the clone, so that no handler of Go's runs
// in the child, which has one thread and no runtime.
func cloneIdle() (pid int, err error) {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, err
	}
	child, errno := idle()
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, errno
	}
	return int(child), nil
}

// idle clones. In the child it makes system calls only, on the stack that it
// has, and never returns.
//
//go:norace
//go:nosplit
func idle() (uintptr, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	_, _, _ = unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	for {
		var none unix.Timespec
		none.Sec = 60
		_, _, errno = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&none)), 0, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			continue
		}
		// The parent may have died before the prctl.
		if ppid, _, _ := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); ppid <= 1 {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}
