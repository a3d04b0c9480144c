package proxies

import (
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/cuib/cuib/shared/process"
)

// state is what a later daemon needs to know of a process.
type state struct {
	Rule Rule
	process.ID
}

// records are where the states are.
func (s *Service) records() *process.Records {
	s.recordsOnce.Do(func() { s.kept.Dir = s.Dir })
	return &s.kept
}

// remember writes down which process a proxy has.
func (s *Service) remember(of Owner, r Rule, run *program) error {
	id, err := process.IDOf(run.proc.Pid)
	if err != nil {
		return err
	}
	return s.records().Put(of.Instance, of.Device, state{r, id})
}

// forget removes what was written down of a proxy.
func (s *Service) forget(of Owner) error { return s.records().Forget(of.Instance, of.Device) }

// states are the processes of an instance that were written down, by device.
func (s *Service) states(instance string) (map[string]state, error) {
	devices, err := s.records().Devices(instance)
	out := map[string]state{}
	for _, name := range devices {
		var st state
		rerr := s.records().Get(instance, name, &st)
		var cut *json.SyntaxError
		if errors.As(rerr, &cut) || errors.Is(rerr, fs.ErrNotExist) {
			st, rerr = state{}, nil // It was cut short: no process has begun.
		}
		err = errors.Join(err, rerr)
		out[name] = st
	}
	return out, err
}

// find opens the process, if it still runs.
func (st state) find() (*program, error) {
	pidfd, err := st.Open()
	if err != nil {
		return nil, err
	}
	return &program{pidfd: pidfd, began: time.Now()}, nil
}

// discard ends a process that is not wanted, and forgets it.
func (s *Service) discard(of Owner, st state) error {
	if run, err := st.find(); err == nil {
		run.kill()
		run.wait()
		run.close()
	}
	return errors.Join(s.forget(of), removeListen(st.Rule))
}
