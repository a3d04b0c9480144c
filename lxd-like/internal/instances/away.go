package instances

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// away has the instances whose pool was not there when the daemon started, by
// the pool's name: what a crash left of them is still to be put right, and
// nothing else happens to their volumes before. The zero value is ready to
// use.
type away struct {
	mu    sync.Mutex // Guards pools.
	pools map[string]string
}

func (a *away) add(instance, pool string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pools == nil {
		a.pools = map[string]string{}
	}
	a.pools[instance] = pool
}

func (a *away) remove(instance string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.pools, instance)
}

// in returns the names of the instances of a pool.
func (a *away) in(pool string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for name, p := range a.pools {
		if p == pool {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (a *away) check(in *instance) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pools[in.Name] != in.Pool {
		return nil
	}
	return errs.Newf(errs.Unavailable, "storage pool %q of instance %q was not there when the daemon started, and is not in use yet", in.Pool, in.Name)
}

// PoolAppeared puts right what concerns the instances of a pool that was not
// there when the daemon started, and starts those that are to run, as those
// that have volumes of it. It does nothing for other pools.
func (s *Service) PoolAppeared(ctx context.Context, pool string) error {
	start, err := s.volumesAppeared(ctx, pool)
	if err != nil {
		return err
	}
	names := s.away.in(pool)
	if len(names)+len(start) == 0 {
		return nil
	}
	have, err := s.lookIntoPoolFirst(ctx, pool)
	if err != nil {
		return err
	}
	rows, b, err := s.everything(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, row := range rows {
		if !slices.Contains(names, row.Name) {
			continue
		}
		s.away.remove(row.Name)
		in := newInstance(row, choose(b.profiles, row.Profiles))
		if err := s.recoverOne(ctx, in, remains{have: have, snapshots: b.snapshots[row.Name]}); err != nil {
			failed = errors.Join(failed, fmt.Errorf("recover instance %q: %w", row.Name, err))
			continue
		}
		if row.Status == db.Ready {
			start = append(start, row.Name)
		}
	}
	all, err := s.ToStart(ctx)
	if err != nil {
		return errors.Join(failed, err)
	}
	all = slices.DeleteFunc(all, func(name string) bool { return !slices.Contains(start, name) })
	return errors.Join(failed, s.Autostart(ctx, all))
}

// lookIntoPools lists what is in the pools of the instances, by pool. It
// leaves out those that are not there.
func (s *Service) lookIntoPools(ctx context.Context, rows []db.Instance) map[string]map[storage.Volume]bool {
	out := map[string]map[storage.Volume]bool{}
	pools := map[string]bool{}
	for _, row := range rows {
		pools[row.Pool] = true
		if pool, _, ok := strings.Cut(row.Config[keyMoving], "/"); ok {
			pools[pool] = true
		}
	}
	for pool := range pools {
		have, err := s.lookIntoPoolFirst(ctx, pool)
		if err != nil {
			s.Logger.ErrorContext(ctx, "cannot look into a storage pool: its instances wait for it", "pool", pool, "err", err)
			continue
		}
		out[pool] = have
	}
	return out
}

// lookIntoPoolFirst is lookIntoPool after it has finished or taken back what
// a crash left of copies.
func (s *Service) lookIntoPoolFirst(ctx context.Context, pool string) (map[storage.Volume]bool, error) {
	d, err := s.Pools.Driver(ctx, pool)
	if err != nil {
		return nil, err
	}
	if err := transfer.RecoverRefresh(ctx, d); err != nil {
		s.Logger.ErrorContext(ctx, "cannot put right what a crash left of a copy", "pool", pool, "err", err)
	}
	return s.lookIntoPool(ctx, pool)
}

// lookIntoPool lists what is in a pool.
func (s *Service) lookIntoPool(ctx context.Context, pool string) (map[storage.Volume]bool, error) {
	d, err := s.Pools.Driver(ctx, pool)
	if err != nil {
		return nil, err
	}
	all, err := d.List(ctx)
	if err != nil {
		return nil, err
	}
	have := make(map[storage.Volume]bool, len(all))
	for _, v := range all {
		have[v] = true
	}
	return have, nil
}
