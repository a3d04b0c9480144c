package tpm

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/process"
)

// A swtpm is a process of that program.
type swtpm struct {
	pid    int
	fd     *os.File    // A pidfd.
	proc   *os.Process // Nil if it is no child of ours.
	output *os.File    // What it says; nil if it is no child of ours.
	ended  chan struct{}
}

func openSwtpm(pid int) (*swtpm, error) {
	fd, err := process.Open(pid)
	if err != nil {
		return nil, err
	}
	return watched(pid, fd), nil
}

// watched returns one whose end is waited for.
func watched(pid int, fd *os.File) *swtpm {
	p := &swtpm{pid: pid, fd: fd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = process.Wait(fd) // It fails when the file is closed.
	}()
	return p
}

func (p *swtpm) wait() { <-p.ended }

// close is for who needs the process no more, which has ended.
func (p *swtpm) close() {
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
func (p *swtpm) end() {
	p.signal(unix.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(endTime):
		p.signal(unix.SIGKILL)
		<-p.ended
	}
}

// signal sends a signal, which fails for none that runs.
func (p *swtpm) signal(sig unix.Signal) { _ = process.Signal(p.fd, sig) }

// said is what a process has said, for an error.
func (p *swtpm) said() string {
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
	process.ID
	Nodes Nodes // Zero until it answers.
}

// records are where that is.
func (s *Service) records() *process.Records {
	s.recordsOnce.Do(func() { s.kept.Dir = s.Dir })
	return &s.kept
}

// remember writes down which process a TPM has.
func (s *Service) remember(of Owner, pid int, nodes Nodes) error {
	id, err := process.IDOf(pid)
	if err != nil {
		return err
	}
	return s.records().Put(of.Instance, of.Device, record{id, nodes})
}

// forget removes what was written down of a TPM.
func (s *Service) forget(of Owner) error { return s.records().Forget(of.Instance, of.Device) }

// find opens the process of a record, if it still runs.
func (s *Service) find(of Owner) (*swtpm, Nodes, error) {
	var r record
	if err := s.records().Get(of.Instance, of.Device, &r); err != nil {
		return nil, Nodes{}, err
	}
	fd, err := r.Open()
	if err != nil {
		return nil, Nodes{}, err
	}
	return watched(r.PID, fd), r.Nodes, nil
}
