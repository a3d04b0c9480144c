package nets

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/project"
)

// An opener lets the packets of bridges through the firewalls of others. It is
// [integrate.Host].
type opener interface {
	Open(ctx context.Context, bridge string, mode networks.Integration, lost []firewall.Obstacle) error
	Close(ctx context.Context, bridge string) error
	Bridges(ctx context.Context) ([]string, error)
}

// A closed firewall is one that nothing is let through.
type closed struct{}

func (closed) Open(context.Context, string, networks.Integration, []firewall.Obstacle) error {
	return nil
}
func (closed) Close(context.Context, string) error       { return nil }
func (closed) Bridges(context.Context) ([]string, error) { return nil, nil }

func (s *Service) opener() opener {
	if s.Opener == nil {
		return closed{}
	}
	return s.Opener
}

// An attempt to let packets pass, with what came of it.
type attempt struct {
	lost []firewall.Obstacle // What was lost in the end.
	mode networks.Integration
	err  error
}

// open lets pass what the host's firewall drops of what a network needs, and
// reports whether something was tried: what did not help is not tried again
// until something else is lost. The network may have gone meanwhile.
func (s *Service) open(ctx context.Context, cfg networks.Config, lost []firewall.Obstacle) (tried bool, err error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	last, known := s.attempts[cfg.Key]
	if known && last.mode == cfg.Integration && len(lost) > 0 && slices.Equal(last.lost, lost) {
		return false, last.err
	}
	n, _, err := s.ready(ctx, cfg.Key)
	if err != nil {
		return false, nil // Who removes it takes out what is there for it.
	}
	if now, err := s.config(n); err != nil || now.Integration != cfg.Integration {
		return false, err
	}
	return true, s.opener().Open(ctx, cfg.Name, cfg.Integration, lost)
}

// tried notes what is lost of a network although it was tried to let it pass.
func (s *Service) tried(cfg networks.Config, lost []firewall.Obstacle, err error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	if s.attempts == nil {
		s.attempts = map[string]attempt{}
	}
	s.attempts[cfg.Key] = attempt{lost, cfg.Integration, err}
}

// shut takes out of the host's firewall what is there for a network, which its
// record does not want there any more, or soon will not.
func (s *Service) shut(ctx context.Context, name string) error {
	return s.shutAnd(ctx, name, func(context.Context) error { return nil })
}

// shutAnd is shut for a record that write writes, before anything is let pass
// again.
func (s *Service) shutAnd(ctx context.Context, name string, write func(context.Context) error) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	delete(s.attempts, name)
	if err := s.opener().Close(ctx, project.Link(name)); err != nil {
		return err
	}
	return write(ctx)
}

// shutLost takes out of the host's firewall what is there for networks that are
// gone or do not want it any more, as after the daemon was killed.
func (s *Service) shutLost(ctx context.Context) error {
	s.opening.Lock()
	defer s.opening.Unlock()
	some, err := s.opener().Bridges(ctx)
	if err != nil || len(some) == 0 {
		return err
	}
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range some {
		wanted := slices.ContainsFunc(all, func(n db.Network) bool {
			cfg, err := s.config(n)
			return project.Link(n.Name) == name && n.Status == db.Ready && err == nil && cfg.Integration != networks.IntegrateNever
		})
		if !wanted {
			failed = append(failed, s.opener().Close(ctx, name))
		}
	}
	return errors.Join(failed...)
}

// sameBut tells whether two configurations differ in nothing that the driver
// makes.
func sameBut(a, b networks.Config) bool {
	a.Integration, b.Integration = 0, 0
	return reflect.DeepEqual(a, b)
}
