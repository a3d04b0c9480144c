// Package tpm gives instances TPMs in software.
//
// Each is a process of swtpm, behind a device that the kernel makes for it
// (tpm_vtpm_proxy). The process outlives the daemon, which finds it again, and
// ends with the instance.
package tpm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/process"
)

// A Rule is what the configuration says of a TPM. The zero value is none.
type Rule struct {
	Path, Manager string // Where it is inside, and its resource manager.
}

// Nodes are the numbers of the device nodes of a TPM and of its resource
// manager.
type Nodes struct {
	Device, Manager Number
}

// Number is that of a character device.
type Number struct{ Major, Minor uint32 }

// An Owner is the device of an instance that a TPM is for.
type Owner struct{ Instance, Device string }

// A Maker makes the devices behind which processes answer.
type Maker interface {
	// Check reports what the host lacks for that.
	Check(ctx context.Context) error
	// New makes a device, which is there while its server is open, and returns
	// the server, where commands are read and answered.
	New() (server *os.File, number int, err error)
	// Await waits until somebody answers and the device's nodes are there.
	Await(ctx context.Context, number int) (Nodes, error)
}

// A Service keeps TPMs. Its methods are safe for concurrent use; those for one
// instance are not called at the same time.
type Service struct {
	Dir     string // What belongs to those that run.
	Program string // swtpm, if not by its name.
	Devices Maker
	Log     *slog.Logger

	// Lost is called when a TPM has ended by itself.
	Lost func(of Owner)

	recordsOnce sync.Once
	kept        process.Records // See [Service.records].

	mu  sync.Mutex // Guards all.
	all map[Owner]*swtpm
}

const program = "swtpm"

// Check reports what the host lacks to have TPMs.
func (s *Service) Check(ctx context.Context) error {
	if _, err := s.lookProgram(); err != nil {
		return err
	}
	return s.Devices.Check(ctx)
}

func (s *Service) lookProgram() (string, error) {
	name := s.Program
	if name == "" {
		name = program
	}
	at, err := exec.LookPath(name)
	if err != nil {
		return "", errs.Newf(errs.Unsupported, "a TPM needs the program %s, which the host lacks: install the package swtpm", name)
	}
	return at, nil
}

// A State is the directory that a TPM keeps what it holds in, and whose it is
// on the host.
type State struct {
	Dir         *os.File
	User, Group uint32
}

// Start starts a TPM, and returns the nodes that it has when programs can use
// them.
func (s *Service) Start(ctx context.Context, of Owner, st State) (_ Nodes, err error) {
	at, err := s.lookProgram()
	if err != nil {
		return Nodes{}, err
	}
	if err := s.Devices.Check(ctx); err != nil {
		return Nodes{}, err
	}
	server, number, err := s.Devices.New()
	if err != nil {
		return Nodes{}, err
	}
	p, err := start(at, server, st)
	server.Close() // The process has it; with its end the device goes.
	if err != nil {
		return Nodes{}, err
	}
	defer func() {
		if err != nil {
			p.end()
			p.close()
		}
	}()
	// From its record on it is found again.
	if err := s.remember(of, p.pid, Nodes{}); err != nil {
		return Nodes{}, err
	}
	nodes, err := s.await(ctx, p, number)
	if err == nil {
		err = s.remember(of, p.pid, nodes)
	}
	if err != nil {
		return Nodes{}, errors.Join(err, s.forget(of))
	}
	s.look(of, p)
	return nodes, nil
}

// await waits until a TPM answers, or has ended.
func (s *Service) await(ctx context.Context, p *swtpm, number int) (Nodes, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		p.wait()
		cancel(fmt.Errorf("%s ended at once: %s", program, p.said()))
	}()
	nodes, err := s.Devices.Await(ctx, number)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nodes, err
}

// start starts swtpm, as the user who owns the state, to whom the kernel gives
// nothing else.
func start(at string, server *os.File, st State) (*swtpm, error) {
	said, err := os.CreateTemp("", "cuib-tpm")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(said.Name()); err != nil {
		return nil, errors.Join(err, said.Close())
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, said.Close())
	}
	defer null.Close()
	const serverAt, stateAt = 3, 4 // After the three that all have.
	args := []string{
		program, "chardev", "--tpm2", "--fd", strconv.Itoa(serverAt), "--tpmstate", fmt.Sprintf("dir=/proc/self/fd/%d,mode=0600", stateAt),
		"--flags", "not-need-init,startup-clear", "--locality", "allow-set-locality",
	}
	// Not by shared/run, which is for programs that come back.
	proc, err := os.StartProcess(at, args, &os.ProcAttr{
		Dir: "/", Env: []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Files: []*os.File{null, said, said, server, st.Dir},
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: st.User, Gid: st.Group}},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", program, err), said.Close())
	}
	p, err := openSwtpm(proc.Pid)
	if err != nil {
		return nil, errors.Join(err, proc.Kill(), said.Close())
	}
	p.proc, p.output = proc, said
	return p, nil
}

// look looks after a process until it has ended.
func (s *Service) look(of Owner, p *swtpm) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[Owner]*swtpm{}
	}
	s.all[of] = p
	go func() {
		p.wait()
		s.mu.Lock()
		wanted := s.all[of] == p
		if wanted {
			delete(s.all, of)
		}
		s.mu.Unlock()
		p.close()
		if wanted && s.Lost != nil {
			s.Lost(of)
		}
	}()
}

// Stop ends a TPM. It succeeds if there is none.
func (s *Service) Stop(of Owner) error {
	s.mu.Lock()
	p := s.all[of]
	delete(s.all, of)
	s.mu.Unlock()
	if p != nil {
		p.end()
	}
	return s.forget(of)
}

// End ends all TPMs of an instance that has ended.
func (s *Service) End(instance string) error {
	names, failed := s.records().Devices(instance)
	for _, device := range names {
		failed = errors.Join(failed, s.Stop(Owner{instance, device}))
	}
	return failed
}

// Recover takes over the TPMs of an instance that runs, and returns which of
// the devices have one. Others that an earlier daemon has started are ended.
func (s *Service) Recover(instance string, wants func(device string) bool) (map[string]bool, error) {
	names, failed := s.records().Devices(instance)
	have := map[string]bool{}
	for _, device := range names {
		of := Owner{instance, device}
		p, nodes, err := s.find(of)
		switch {
		case err == nil && wants(device) && nodes != (Nodes{}):
			s.look(of, p)
			have[device] = true
			continue
		case err == nil:
			p.end()
			p.close()
		}
		failed = errors.Join(failed, s.forget(of))
	}
	return have, failed
}

// Settle ends what earlier daemons left of TPMs of instances that do not run.
func (s *Service) Settle(runs func(instance string) bool) error {
	instances, failed := s.records().Instances()
	for _, instance := range instances {
		if !runs(instance) {
			_, err := s.Recover(instance, func(string) bool { return false })
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
