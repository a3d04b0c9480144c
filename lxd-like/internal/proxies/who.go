package proxies

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/host"
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
	return errs.Conflictf("listen: port %d of %s is taken by %s", busy.port, r.Listen, host.Kernel{}.Holder(protocol(listen.Kind), busy.port))
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
