package mounts

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

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

	pid, err := idleChild()
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

// idleChild makes a child in a new user namespace that waits to be killed.
// All signals are blocked across the clone, so that no handler of Go's runs
// in the child, which has one thread and no runtime.
func idleChild() (pid int, err error) {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, err
	}
	pid = int(cloneIdle(unix.CLONE_NEWUSER|sharing|uintptr(unix.SIGCHLD), uintptr(unix.Getpid())))
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return 0, err
	}
	if pid < 0 {
		return 0, unix.Errno(-pid)
	}
	return pid, nil
}
