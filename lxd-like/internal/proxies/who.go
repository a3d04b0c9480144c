package proxies

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// explain says who has what a proxy was to listen on.
func (s *Service) explain(r Rule, err error) error {
	busy, ok := errors.AsType[*busyError](err)
	if !ok {
		return err
	}
	listen, perr := profiles.ParseProxyAddress(r.Listen)
	switch {
	case perr != nil:
		return perr
	case listen.Kind == "unix":
		return errs.Conflictf("listen: somebody listens on %s already", listen.Path)
	case r.Inside:
		return errs.Conflictf("listen: port %d of %s is taken by a program in the instance", busy.port, r.Listen)
	}
	return errs.Conflictf("listen: port %d of %s is taken by %s", busy.port, r.Listen, listenerOf(listen.Kind, busy.port))
}

// listenerOf names the process of the host that has a port. To look takes as
// long as the host has processes; nobody looks who gets the port.
func listenerOf(kind string, port uint16) string {
	inodes := map[string]bool{}
	for _, file := range []string{"/proc/thread-self/net/" + kind, "/proc/thread-self/net/" + kind + "6"} {
		inodesOf(file, kind, port, inodes)
	}
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(inodes) == 0 {
		return "somebody"
	}
	for _, dir := range pids {
		if hasSocket(dir, inodes) {
			name, err := os.ReadFile(filepath.Join(dir, "comm"))
			if err != nil {
				continue
			}
			return fmt.Sprintf("process %s (%s)", filepath.Base(dir), strings.TrimSpace(string(name)))
		}
	}
	return "somebody"
}

// inodesOf adds the sockets of a port that take clients, as
// /proc/net/tcp and the like list them; see proc(5).
func inodesOf(file, kind string, port uint16, inodes map[string]bool) {
	const local, status, inode, listens = 1, 3, 9, "0A"
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	want := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > inode && strings.HasSuffix(fields[local], want) && (kind == "udp" || fields[status] == listens) {
			inodes["socket:["+fields[inode]+"]"] = true
		}
	}
}

func hasSocket(dir string, inodes map[string]bool) bool {
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return false
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, "fd", e.Name())); err == nil && inodes[target] {
			return true
		}
	}
	return false
}

// removeSocket removes the socket with a path that a proxy has listened on.
func (s *Service) removeSocket(ctx context.Context, p *proxy) error {
	a, err := profiles.ParseProxyAddress(p.rule.Listen)
	if err != nil || !strings.HasPrefix(a.Path, "/") {
		return err
	}
	if !p.rule.Inside {
		return removeHostSocket(a.Path)
	}
	pid, guest, err := s.Guest(p.owner.Instance)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer guest.Close()
	run, err := s.exec([]string{"forget", strconv.Itoa(pid), a.Path}, []*os.File{nil, guest})
	if err != nil {
		return err
	}
	defer run.close()
	// A file system of the guest's can keep it for ever.
	timed, cancel := context.WithTimeout(context.WithoutCancel(ctx), spawnTime)
	defer cancel()
	stop := context.AfterFunc(timed, run.kill)
	defer stop()
	run.wait()
	return nil
}

// removeListen removes the socket of the host that a proxy which has ended
// listened on.
func removeListen(r Rule) error {
	a, err := profiles.ParseProxyAddress(r.Listen)
	if err != nil || r.Inside || r.NAT {
		return nil //nolint:nilerr // One that cannot be read never ran.
	}
	return removeHostSocket(a.Path)
}

// removeHostSocket removes a socket on which nobody listens, and nothing else,
// if path is one of the file system.
func removeHostSocket(path string) error {
	if !strings.HasPrefix(path, "/") {
		return nil
	}
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil || info.Mode().Type() != fs.ModeSocket || !abandoned(path) {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// abandoned reports whether nobody listens on a socket.
func abandoned(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	_ = unix.Close(fd) // It is open.
	return errors.Is(err, unix.ECONNREFUSED)
}
