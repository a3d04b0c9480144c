package dnsmasq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// stopTimeout is how long dnsmasq has to end before it is killed.
const stopTimeout = 3 * time.Second

// A Process is the dnsmasq of a network, which runs. It is known by its
// command line, which names the network's configuration file: a process that
// got the same id later is never taken for it.
type Process struct {
	pid  int
	file *os.File // The pidfd.
}

// Find returns the network's dnsmasq. It is nil if none runs.
func Find(cfg networks.Config) (*Process, error) {
	data, err := os.ReadFile(filepath.Join(cfg.Dir, pidFile))
	if err == nil {
		pid, err := strconv.Atoi(string(bytes.TrimSpace(data)))
		if err == nil && pid > 0 {
			if p, err := open(cfg, pid); p != nil || err != nil {
				return p, err
			}
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, confFile)); errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // documented: nil if none runs
	}
	return search(cfg) // The pid file is lost or old.
}

// search is Find that looks at every process. It finds one too whose directory
// is lost.
func search(cfg networks.Config) (*Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !ours(cfg, pid) {
			continue
		}
		if p, err := open(cfg, pid); p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil //nolint:nilnil // documented: nil if none runs
}

// open opens the process if it is the network's dnsmasq, and else returns nil.
func open(cfg networks.Config, pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, nil //nolint:nilnil // as Find
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	p := &Process{pid, os.NewFile(uintptr(fd), "pidfd")}
	// Only now: the id cannot pass to another process any more unnoticed.
	if !ours(cfg, pid) {
		p.Close()
		return nil, nil //nolint:nilnil // as Find
	}
	return p, nil
}

// ours reports whether the process is the network's dnsmasq by its command
// line and its network: that of a daemon in a guest can have the same command
// line. The command line of a process that has ended is empty.
func ours(cfg networks.Config, pid int) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	got, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil || string(got) != "dnsmasq\x00"+confFlag(cfg)+"\x00" {
		return false
	}
	its, err := os.Readlink(filepath.Join(proc, netNS))
	if err != nil {
		return false
	}
	here, err := os.Readlink(filepath.Join("/proc/thread-self", netNS))
	return err == nil && its == here
}

const netNS = "ns/net"

func confFlag(cfg networks.Config) string { return "--conf-file=" + filepath.Join(cfg.Dir, confFile) }

// Close forgets the process, which goes on.
func (p *Process) Close() { p.file.Close() }

// Wait waits until the process has ended.
func (p *Process) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.file.SetReadDeadline(time.Unix(0, 1)) })
	defer stop()

	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (p *Process) signal(s unix.Signal) error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = conn.Control(func(fd uintptr) { serr = unix.PidfdSendSignal(int(fd), s, nil, 0) })
	return errors.Join(err, serr)
}

// stop ends the process.
func (p *Process) stop(ctx context.Context) error {
	if err := p.signal(unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end dnsmasq %d: %w", p.pid, err)
	}
	short, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if p.Wait(short) == nil {
		return nil
	}
	if err := p.signal(unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill dnsmasq %d: %w", p.pid, err)
	}
	if err := p.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	return p.Wait(ctx)
}
