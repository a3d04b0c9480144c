package nets

import (
	"context"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
)

// A Part adds to a network's wanted configuration what another service keeps
// of it, such as forwards. It reads records and nothing else, and fails only
// if they cannot be read: what it cannot make any sense of it leaves out, or
// the whole network would be gone. The network may have no record yet.
type Part func(ctx context.Context, tx *db.Tx, n db.Network, cfg *networks.Config) error

// A Check refuses a configuration that a network is to get, for the sake of
// what another service keeps of it.
type Check func(ctx context.Context, tx *db.Tx, n db.Network, cfg networks.Config) error

// A Use returns the URLs of what uses a network, besides instances and
// profiles. A network that is used is not deleted or renamed; what only
// belongs to it, and goes with it, does not use it.
type Use func(ctx context.Context, tx *db.Tx, network string) ([]string, error)

// A Rename changes what another service keeps that names a network which is
// renamed, in the transaction that does it.
type Rename func(ctx context.Context, tx *db.Tx, from, to string) error

// Reapply makes the host follow a network of which a part has changed. It
// succeeds if the network is being made or removed: who does that has the
// parts from the records, as it has.
func (s *Service) Reapply(ctx context.Context, network string) error {
	s.change.Lock()
	defer s.change.Unlock()

	n, d, err := s.get(ctx, network)
	if err != nil || n.Status != db.Ready {
		return err
	}
	if err := s.reapply(ctx, n, d); err != nil {
		return err
	}
	s.touch()
	return nil
}

// reapply applies the parts alone, if the driver can and has made the rest.
func (s *Service) reapply(ctx context.Context, n db.Network, d networks.Driver) error {
	quick, can := d.(networks.PartApplier)
	if !can || s.failure(n.Name) != nil {
		return s.apply(ctx, n, d)
	}
	cfg, err := s.withHosts(ctx, n)
	if err != nil {
		return err
	}
	return quick.ApplyParts(ctx, cfg)
}

// whole is config with what other services keep of the network.
func (s *Service) whole(ctx context.Context, n db.Network) (cfg networks.Config, err error) {
	if cfg, err = s.config(n); err != nil || len(s.Parts) == 0 {
		return cfg, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, part := range s.Parts {
			if err := part(ctx, tx, n, &cfg); err != nil {
				return err
			}
		}
		return nil
	})
	return cfg, err
}

// check asks those who keep parts of networks about a configuration.
func (s *Service) check(ctx context.Context, n db.Network, cfg networks.Config) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, check := range s.Checks {
			if err := check(ctx, tx, n, cfg); err != nil {
				return err
			}
		}
		return nil
	})
}

// usedBy returns the URLs of all that uses a network.
func (s *Service) usedBy(ctx context.Context, u users, network string) ([]string, error) {
	all := u.of(network)
	if len(s.Uses) == 0 {
		return all, nil
	}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, use := range s.Uses {
			more, err := use(ctx, tx, network)
			if err != nil {
				return err
			}
			for _, url := range more {
				if !slices.Contains(all, url) {
					all = append(all, url)
				}
			}
		}
		return nil
	})
	return all, err
}
