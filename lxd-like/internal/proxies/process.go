package proxies

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/process"
)

// A program is a process of cuib-shim.
type program struct {
	pidfd *os.File
	proc  *os.Process // Nil if it is no child of ours.
	began time.Time
}

func (p *program) close() { p.pidfd.Close() }

// wait returns when the process has ended.
func (p *program) wait() {
	if p.proc != nil {
		_, _ = p.proc.Wait() // How it ended does not matter.
		return
	}
	_ = process.Wait(p.pidfd) // It fails when the file is closed.
}

// kill ends the process. One that has ended is no error, and the kernel refuses
// no other.
func (p *program) kill() { _ = process.Signal(p.pidfd, unix.SIGKILL) }

// spawnTime is how long a proxy has to begin. It waits for nobody but the
// file systems that its sockets are in, which a guest may have made.
const spawnTime = 10 * time.Second

// spawn starts a process and returns when it listens.
func (s *Service) spawn(ctx context.Context, of Owner, r Rule) (_ *program, err error) {
	init, guest, err := s.Guest(of.Instance)
	if err != nil {
		return nil, err
	}
	defer guest.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "proxy"), os.NewFile(uintptr(pair[1]), "proxy")
	defer ours.Close()
	defer theirs.Close()
	if err := unix.SetNonblock(pair[1], false); err != nil {
		return nil, err
	}
	args, err := arguments(s.Dir, of, r, init)
	if err != nil {
		return nil, err
	}
	run, err := s.exec(args, []*os.File{theirs, guest})
	if err != nil {
		return nil, err
	}
	theirs.Close()
	defer func() {
		if err != nil {
			run.kill()
			run.wait()
			run.close()
		}
	}()
	if err := await(ctx, ours); err != nil {
		return nil, s.explain(r, err)
	}
	// From its record on it is found again, and only then does it begin.
	if err := s.remember(of, r, run); err != nil {
		return nil, err
	}
	if _, err := ours.Write([]byte("G")); err != nil {
		return nil, errors.Join(err, s.forget(of))
	}
	return run, nil
}

// exec starts cuib-shim. files are its descriptors from 3 on. It outlives us.
func (s *Service) exec(args []string, files []*os.File) (*program, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	fd := -1
	// Not by shared/run, which is for programs that come back.
	proc, err := os.StartProcess(s.Shim, append([]string{"cuib-shim"}, args...), &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"LC_ALL=C"},
		Files: append([]*os.File{null, null, null}, files...),
		Sys:   &syscall.SysProcAttr{Setsid: true, PidFD: &fd},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Shim, err)
	}
	if fd < 0 {
		fd, err = unix.PidfdOpen(proc.Pid, 0)
		if err != nil {
			return nil, errors.Join(os.NewSyscallError("pidfd_open", err), proc.Kill())
		}
	}
	return &program{pidfd: os.NewFile(uintptr(fd), "pidfd"), proc: proc, began: time.Now()}, nil
}

// busyError is a port that is taken.
type busyError struct{ port uint16 }

func (e *busyError) Error() string { return fmt.Sprintf("port %d is taken", e.port) }

// await waits for what a process says of its beginning.
func await(ctx context.Context, f *os.File) error {
	if err := f.SetReadDeadline(time.Now().Add(spawnTime)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }) // It is open.
	defer stop()
	buf := make([]byte, 1024)
	n, err := f.Read(buf)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errs.Newf(errs.Unavailable, "the proxy does not listen after %s", spawnTime)
	case err != nil || n == 0:
		return errors.New("the proxy ended before it listened")
	}
	switch text := string(buf[1:n]); buf[0] {
	case 'R':
		return nil
	case 'B':
		port, err := strconv.ParseUint(text, 10, 16)
		return errors.Join(&busyError{uint16(port)}, err)
	default:
		return errs.Invalidf("%s", text)
	}
}

// arguments are what the proxy mode of cuib-shim takes.
func arguments(dir string, of Owner, r Rule, init int) ([]string, error) {
	listen, err := profiles.ParseProxyAddress(r.Listen)
	if err != nil {
		return nil, err
	}
	connect, err := profiles.ParseProxyAddress(r.Connect)
	if err != nil {
		return nil, err
	}
	args := []string{"proxy", dir, of.Instance, of.Device, "init=" + strconv.Itoa(init)}
	if r.Inside {
		args = append(args, "bind=instance")
	}
	args = append(args, "listen="+canonical(listen, listen.ListenHost()), "connect="+canonical(connect, connect.ConnectHost()))
	if r.Header {
		args = append(args, "header=1")
	}
	for _, o := range [][2]string{{"mode", r.Mode}, {"uid", r.UID}, {"gid", r.GID}} {
		if o[1] != "" {
			args = append(args, o[0]+"="+o[1])
		}
	}
	if r.AsUID != "" || r.AsGID != "" {
		args = append(args, "as="+orZero(r.AsUID)+":"+orZero(r.AsGID))
	}
	return args, nil
}

func orZero(v string) string {
	if v == "" {
		return "0"
	}
	return v
}

// canonical is an address as the shim reads it.
func canonical(a profiles.ProxyAddress, addr netip.Addr) string {
	if a.Kind == "unix" {
		return "unix:" + a.Path
	}
	host := addr.String()
	if addr.Is6() {
		host = "[" + host + "]"
	}
	var ports []string
	for _, r := range a.Ports {
		ports = append(ports, fmt.Sprintf("%d-%d", r.First, r.Last))
	}
	return a.Kind + ":" + host + ":" + strings.Join(ports, ",")
}
