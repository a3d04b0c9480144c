package publish

import (
	"context"
	"errors"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// Part adds what a network has of forwards and load balancers to its
// configuration. Back ends that do not answer are left out.
func (s *Service) Part(ctx context.Context, tx *db.Tx, n db.Network, cfg *networks.Config) error {
	var public, behind []networks.Published
	add := func(o owner, p plan) error {
		if err := fits(o.listen, p, n.Name, *cfg); err != nil {
			p.entries = nil // The network was changed behind our back.
		}
		for _, e := range p.entries {
			out := s.alive(o, p, e)
			if p.public {
				public = append(public, out)
			} else {
				behind = append(behind, out)
			}
		}
		return nil
	}
	err := errors.Join(each(ctx, tx, forwards, n.Name, add), each(ctx, tx, balancers, n.Name, add))
	if err != nil {
		return err
	}
	if s.Admit != nil {
		behind = s.Admit(ctx, behind)
	}
	cfg.Published = append(append(cfg.Published, public...), behind...)
	return nil
}

// Refresh has all networks follow what is let in now.
func (s *Service) Refresh(ctx context.Context) error {
	of := map[string]bool{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		note := func(o owner, _ plan) error {
			of[o.network] = true
			return nil
		}
		return errors.Join(each(ctx, tx, forwards, "", note), each(ctx, tx, balancers, "", note))
	})
	for _, network := range sortedKeys(of) {
		err = errors.Join(err, s.Nets.Reapply(ctx, network))
	}
	return err
}

// Check refuses a configuration of a network into which something of it does
// not lead any more.
func (s *Service) Check(ctx context.Context, tx *db.Tx, n db.Network, cfg networks.Config) error {
	check := func(o owner, p plan) error {
		if err := fits(o.listen, p, n.Name, cfg); err != nil {
			return errs.Conflictf("cannot change network %q: its %s %s would lead to nowhere: %w", n.Name, o.kind, o.listen, err)
		}
		return nil
	}
	return errors.Join(each(ctx, tx, forwards, n.Name, check), each(ctx, tx, balancers, n.Name, check))
}

// each calls fn with all of a kind that a network has. What cannot be read is
// left out: it was written by nobody who checks.
func each[T any](ctx context.Context, tx *db.Tx, k kind[T], network string, fn func(o owner, p plan) error) error {
	all, err := db.NetworkParts(ctx, tx, k.name, network)
	if err != nil {
		return err
	}
	for _, part := range all {
		listen, err := parseListen(part.Name)
		if err != nil {
			continue
		}
		p, err := k.read(listen, part.Document)
		if err != nil {
			continue
		}
		if err := fn(owner{string(k.name), part.Network, listen}, p); err != nil {
			return err
		}
	}
	return nil
}
