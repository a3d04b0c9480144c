package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// What the daemon makes when it is used before it was set up.
const (
	defaultPool    = "default"
	defaultNetwork = "cuibbr0"
)

// lockDefaults is a lock that is no instance's.
const lockDefaults = "/defaults"

// giveDevices expands a new instance by its profiles, and gives it a root disk if
// it has none. A device of its own that names no type changes the one that there
// is by that name, which a server that was not set up before has only now.
func (s *Service) giveDevices(ctx context.Context, in *instance) error {
	changes := map[string]profiles.Device{}
	for name, dev := range in.Devices {
		if dev["type"] == "" {
			changes[name] = dev
			delete(in.Devices, name)
		}
	}
	if err := s.refresh(ctx, in); err != nil {
		return err
	}
	if _, _, ok := root(in.expanded); !ok {
		if err := s.giveRoot(ctx, in); err != nil {
			return err
		}
	}
	if len(changes) == 0 {
		return nil
	}
	for name, dev := range changes {
		whole := maps.Clone(in.expanded.Devices[name])
		if whole == nil {
			whole = profiles.Device{}
		}
		maps.Copy(whole, dev)
		in.Devices[name] = whole
	}
	return s.refresh(ctx, in)
}

// giveRoot gives an instance that has no root disk one: in the only pool that
// there is, or in the default one. A server that was not set up is now.
func (s *Service) giveRoot(ctx context.Context, in *instance) error {
	unlock := s.locks.Lock(lockDefaults)
	defer unlock()
	if err := s.refresh(ctx, in); err != nil {
		return err
	}
	if _, _, ok := root(in.expanded); ok {
		return nil // Another one was faster.
	}
	if _, taken := in.expanded.Devices["root"]; taken {
		return errs.Invalidf("instance %q has no root disk: add a disk device with path / and a pool to it or to one of its profiles", in.Name)
	}
	pool, err := s.obviousPool(ctx)
	if err != nil {
		return err
	}
	fresh, err := s.fresh(ctx, pool)
	if err != nil {
		return err
	}
	if fresh {
		if pool, err = s.firstUse(ctx, pool); err != nil {
			return err
		}
		if err := s.refresh(ctx, in); err != nil {
			return err
		}
		if _, _, ok := root(in.expanded); ok {
			return nil
		}
	}
	in.Devices = maps.Clone(in.Devices)
	in.Devices["root"] = rootIn(pool)
	in.expanded.Devices["root"] = in.Devices["root"]
	return nil
}

// obviousPool is the pool to use where nothing is said; empty for none.
func (s *Service) obviousPool(ctx context.Context) (string, error) {
	names, err := s.Pools.Names(ctx)
	switch {
	case len(names) == 1:
		return names[0], err
	case slices.Contains(names, defaultPool):
		return defaultPool, err
	}
	return "", err
}

func rootIn(pool string) profiles.Device {
	return profiles.Device{"type": "disk", "path": "/", "pool": pool}
}

// fresh reports whether the server was not set up: it has no pool to use where
// nothing is said, or nothing but a pool.
func (s *Service) fresh(ctx context.Context, pool string) (bool, error) {
	if pool == "" {
		return true, nil
	}
	var p db.Profile
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = db.GetProfile(ctx, tx, defaultProfile)
		return err
	})
	if err != nil || len(p.Devices) > 0 {
		return false, err
	}
	all, err := s.Nets.List(ctx)
	return !slices.ContainsFunc(all, func(n api.Network) bool { return n.Managed }), err
}

// firstUse makes a network, and a pool if none is given, and puts them into the
// default profile. What the profile has already stays, and its instances get what
// it did not have. The network comes first: while there is no pool, the server was
// not set up, and the next use goes on here.
func (s *Service) firstUse(ctx context.Context, pool string) (string, error) {
	if err := s.setUp(ctx, &pool); err != nil {
		return "", fmt.Errorf("set up the server: %w", err)
	}
	return pool, nil
}

func (s *Service) setUp(ctx context.Context, pool *string) error {
	if err := s.firstNetwork(ctx); err != nil {
		return err
	}
	if *pool == "" {
		*pool = defaultPool
		if err := s.firstPool(ctx); err != nil {
			return err
		}
	}
	p, err := s.Profile(ctx, defaultProfile)
	if err != nil {
		return err
	}
	devices := api.DevicesMap{
		"root": api.ConfigMap(rootIn(*pool)),
		"eth0": {"type": "nic", "network": defaultNetwork, "name": "eth0"},
	}
	maps.Copy(devices, p.Devices)
	p.Devices = devices
	return s.UpdateProfile(ctx, defaultProfile, p.ProfilePut)
}

// WantPool sets the server up if the pool is the one that this makes, and no
// pool is there at all.
func (s *Service) WantPool(ctx context.Context, pool string) error {
	if pool != defaultPool {
		return nil
	}
	unlock := s.locks.Lock(lockDefaults)
	defer unlock()
	usual, err := s.obviousPool(ctx)
	if err != nil || usual != "" {
		return err
	}
	_, err = s.firstUse(ctx, "")
	return err
}

// firstPool makes the default pool, of the best kind that the host can run.
func (s *Service) firstPool(ctx context.Context) error {
	req := api.StoragePoolsPost{Name: defaultPool, Driver: "overlay"}
	err := s.Pools.Create(ctx, req)
	if errs.Is(err, errs.Unsupported) {
		req.Driver = "dir"
		err = s.Pools.Create(ctx, req)
	}
	return err
}

func (s *Service) firstNetwork(ctx context.Context) error {
	err := s.Nets.Exists(ctx, defaultNetwork)
	if err == nil || !errs.Is(err, errs.NotFound) {
		return err
	}
	return s.Nets.Create(ctx, api.NetworksPost{Name: defaultNetwork, Type: "bridge"})
}
