package tpm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A process is one of swtpm, that cannot be mistaken for a later one with the
// same number.
type process struct {
	pid    int
	fd     *os.File    // A pidfd.
	proc   *os.Process // Nil if it is no child of ours.
	output *os.File    // What it says; nil if it is no child of ours.
	ended  chan struct{}
}

func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	p := &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd"), ended: make(chan struct{})}
	go p.watch()
	return p, nil
}

// watch closes ended when the process has ended.
func (p *process) watch() {
	defer close(p.ended)
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool { return hasEnded(int(fd)) }) // It fails when the file is closed.
}

func hasEnded(pidfd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0) //nolint:gosec // Descriptors are small.
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

func (p *process) wait() { <-p.ended }

// close is for who needs the process no more, which has ended.
func (p *process) close() {
	if p.proc != nil {
		_, _ = p.proc.Wait() // How it ended does not matter.
	}
	p.fd.Close()
	if p.output != nil {
		p.output.Close()
	}
}

// endTime is how long a process has to write down what it holds.
const endTime = 5 * time.Second

// end ends the process and waits for that.
func (p *process) end() {
	p.signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(endTime):
		p.signal(unix.SIGKILL)
		<-p.ended
	}
}

func (p *process) signal(sig unix.Signal) {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), sig, nil, 0) }) // It has ended, else.
}

// said is what a process has said, for an error.
func (p *process) said() string {
	const most = 1024
	if p.output == nil {
		return ""
	}
	text, err := io.ReadAll(io.NewSectionReader(p.output, 0, most))
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// record is what a later daemon needs to know of a process.
type record struct {
	PID   int
	Start string // When it began, as /proc/PID/stat has it: with PID it is one process of this boot.
	Boot  string // The host's boot.
	Nodes Nodes  // Zero until it answers.
}

func (s *Service) file(of Owner) string { return filepath.Join(s.Dir, of.Instance, of.Device) }

// remember writes down which process a TPM has.
func (s *Service) remember(of Owner, r record) (err error) {
	if r.Start, err = startOf(r.PID); err != nil {
		return err
	}
	if r.Boot, err = bootID(); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.files.Lock()
	defer s.files.Unlock()
	file := s.file(of)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+"~", data, 0o600); err != nil { // No device's name ends so.
		return err
	}
	return os.Rename(file+"~", file)
}

// forget removes what was written down of a TPM, and directories that have
// nothing else.
func (s *Service) forget(of Owner) error {
	s.files.Lock()
	defer s.files.Unlock()
	for _, file := range []string{s.file(of) + "~", s.file(of), filepath.Dir(s.file(of)), s.Dir} {
		err := os.Remove(file)
		if errors.Is(err, unix.ENOTEMPTY) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// recorded are the devices of an instance that have a record.
func (s *Service) recorded(instance string) ([]string, error) {
	all, err := names(filepath.Join(s.Dir, instance))
	out := make([]string, 0, len(all))
	for _, name := range all {
		if !strings.HasSuffix(name, "~") {
			out = append(out, name)
		}
	}
	return out, err
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

var errGone = errors.New("the process has ended")

// find opens the process of a record, if it still runs.
func (s *Service) find(of Owner) (*process, Nodes, error) {
	data, err := os.ReadFile(s.file(of))
	if err != nil {
		return nil, Nodes{}, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, Nodes{}, err
	}
	boot, err := bootID()
	if err != nil || r.PID <= 0 || r.Boot != boot {
		return nil, Nodes{}, errors.Join(err, errGone)
	}
	p, err := openProcess(r.PID)
	if err != nil {
		return nil, Nodes{}, err
	}
	if start, err := startOf(r.PID); err != nil || start != r.Start || hasEnded(int(p.fd.Fd())) {
		p.fd.Close()
		return nil, Nodes{}, errors.Join(err, errGone)
	}
	return p, r.Nodes, nil
}

// startOf returns when a process began, in the kernel's own unit.
func startOf(pid int) (string, error) {
	const field = 19 // Of those after the name, from 0; see proc(5).
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= field {
		return "", fmt.Errorf("/proc/%d/stat is cut off", pid)
	}
	return fields[field], nil
}

// bootID tells the host's boots apart.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}
