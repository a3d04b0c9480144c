package instances

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// bulk is how many instances change their state at once.
const bulk = 8

// verbs are what the actions on an instance's state are called.
var verbs = map[string]string{
	"start": "Starting instance", "stop": "Stopping instance", "restart": "Restarting instance",
	"freeze": "Freezing instance", "unfreeze": "Unfreezing instance",
}

// SetState checks a request to start, stop, restart, freeze or unfreeze an
// instance. Its jobs hold no other operation up: a stop that waits for the
// guest can be overtaken by one that does not.
func (s *Service) SetState(ctx context.Context, name string, req api.InstanceStatePut) (ops.Job, error) {
	if err := checkAction(req); err != nil {
		return ops.Job{}, err
	}
	in, err := s.load(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.allowed(in, req.Action); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: verbs[req.Action], Resources: resources(name), Cancelable: req.Action == "stop",
		Run: func(ctx context.Context, _ *ops.Op) error { return s.act(ctx, name, req) },
	}, nil
}

func checkAction(req api.InstanceStatePut) error {
	if _, ok := verbs[req.Action]; !ok {
		return errs.Invalidf("action %q is not known: it is start, stop, restart, freeze or unfreeze", req.Action)
	}
	if req.Stateful {
		return errs.Newf(errs.Unsupported, "stateful is true: the memory of an instance cannot be kept, as CRIU does not restore its mapped root file system")
	}
	return nil
}

// allowed says whether the action makes sense now.
func (s *Service) allowed(in *instance, action string) error {
	state := s.code(in.Name)
	running := state != api.Stopped
	switch {
	case action == "start" && state == api.Frozen:
		return nil // It goes on.
	case action == "start" && running:
		return errs.Conflictf("instance %q is running already", in.Name)
	case action == "start" && isTrue(in.expanded.Options["security.protection.start"]):
		return errs.Conflictf("instance %q is protected: unset security.protection.start first", in.Name)
	case action == "start":
		return nil
	case action == "stop" && s.index.get(in.Name) != nil:
		return nil // It runs, or is on its way up or down: both are waited for.
	case !running:
		return errs.Conflictf("instance %q is not running: cannot %s it", in.Name, action)
	case action == "freeze" && state == api.Frozen:
		return errs.Conflictf("instance %q is frozen already", in.Name)
	case action == "unfreeze" && state != api.Frozen:
		return errs.Conflictf("instance %q is not frozen", in.Name)
	}
	return nil
}

func (s *Service) act(ctx context.Context, name string, req api.InstanceStatePut) error {
	var err error
	switch req.Action {
	case "start":
		err = s.startNamed(ctx, name)
	case "stop":
		err = s.end(ctx, name, ending{force: req.Force, timeout: grace(req.Timeout), wish: wishStop})
	case "restart":
		err = s.restart(ctx, name, ending{force: req.Force, timeout: grace(req.Timeout), wish: wishRestart})
	case "freeze":
		err = s.freeze(ctx, name)
	case "unfreeze":
		err = s.thaw(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("%s instance %q: %w", req.Action, name, err)
	}
	return nil
}

// grace is how long a clean stop waits for the guest.
func grace(seconds int) time.Duration {
	if seconds <= 0 {
		return stopGrace
	}
	return time.Duration(seconds) * time.Second
}

// SetStates checks a request for the state of all instances. Those for which
// it makes no sense, such as a stop of one that does not run, stay as they
// are.
func (s *Service) SetStates(ctx context.Context, in string, req api.InstanceStatePut) (ops.Job, error) {
	if err := checkAction(req); err != nil {
		return ops.Job{}, err
	}
	all, _, err := s.all(ctx)
	if err != nil {
		return ops.Job{}, err
	}
	names, urls := []string{}, []string{}
	for _, one := range all {
		if project.OfInstance(one.Name) == in && s.allowed(one, req.Action) == nil {
			names, urls = append(names, one.Name), append(urls, one.url())
		}
	}
	return ops.Job{
		Description: verbs[req.Action] + "s", Resources: map[string][]string{"instances": urls},
		Run: func(ctx context.Context, _ *ops.Op) error {
			return each(names, bulk, func(name string) error {
				err := s.act(ctx, name, req)
				if req.Action == "start" && errs.Is(err, errs.Conflict) && s.index.get(name) != nil {
					return nil // Another one needed it, and was faster.
				}
				return err
			})
		},
	}, nil
}

// each calls fn with all names, so many at once, and returns all errors.
func each(names []string, limit int, fn func(string) error) error {
	var g errgroup.Group
	g.SetLimit(limit)
	var mu sync.Mutex
	var all []error
	for _, name := range names {
		g.Go(func() error {
			if err := fn(name); err != nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, err)
			}
			return nil
		})
	}
	_ = g.Wait() // No function returns an error.
	return errors.Join(all...)
}

func (s *Service) freeze(ctx context.Context, name string) error {
	unlock := s.locks.Lock(name)
	defer unlock()
	if err := s.Runtime.Freeze(ctx, name); err != nil {
		return err
	}
	s.event("instance-paused", name, nil)
	return nil
}

func (s *Service) thaw(ctx context.Context, name string) error {
	unlock := s.locks.Lock(name)
	defer unlock()
	if err := s.Runtime.Thaw(ctx, name); err != nil {
		return err
	}
	s.event("instance-resumed", name, nil)
	return nil
}
