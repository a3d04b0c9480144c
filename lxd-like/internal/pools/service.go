// Package pools keeps the records of storage pools and opens their drivers.
package pools

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// A Service keeps storage pools. Its methods are safe for concurrent use.
type Service struct {
	DB       *db.DB
	Dir      string                  // The daemon's state directory.
	Types    map[string]storage.Type // By driver: overlay, btrfs, dir.
	Owner    storage.Owner           // The daemon.
	Events   *events.Hub
	Log      *slog.Logger
	Warnings *warnings.Service // Nil for none.

	// Appears and then Appeared are called, one after the other, with a pool
	// that was missing and is there now. Until those of Appears have returned
	// nobody else gets its driver.
	Appears, Appeared []func(ctx context.Context, pool string) error

	// change is held by what makes, opens, changes or removes pools, from
	// its first look at the records to the end of the driver's work.
	change sync.Mutex

	mu    sync.Mutex // Guards state.
	state state

	sweeper sweeper
	watch   watch
}

// state is what the service knows of pools beyond their records.
type state struct {
	open    map[string]storage.Driver
	missing map[string]error // Why pools that are to be open are not.
	coming  string           // The pool that appeared, while Appears are called.
}

// Driver returns the driver of a pool, and opens the pool if it is not open.
// While [Service.Run] runs that is its business, once a pool was missing.
func (s *Service) Driver(ctx context.Context, pool string) (storage.Driver, error) {
	if d, err := s.opened(ctx, pool); d != nil || err != nil {
		return d, err
	}
	s.change.Lock()
	defer s.change.Unlock()

	if d, err := s.opened(ctx, pool); d != nil || err != nil {
		return d, err
	}
	p, err := s.record(ctx, pool)
	if err != nil {
		return nil, err
	}
	if p.Status != db.Ready {
		return nil, errs.Conflictf("storage pool %q is being made or removed", pool)
	}
	return s.openPool(ctx, p)
}

// opened returns the driver of a pool that is open, and an error if the pool
// is known to be missing.
func (s *Service) opened(ctx context.Context, pool string) (storage.Driver, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.coming == pool && pool != "" && ctx.Value(comingKey{}) != pool {
		if err := s.state.missing[pool]; err != nil { // It is only tried.
			return nil, err
		}
		return nil, errs.Newf(errs.Unavailable, "storage pool %q has just appeared: what is in it is looked through", pool)
	}
	if d := s.state.open[pool]; d != nil {
		return d, nil
	}
	if err := s.state.missing[pool]; err != nil && s.watch.runs() {
		s.watch.poke()
		return nil, err
	}
	return nil, nil //nolint:nilnil // It is not known yet.
}

// openPool opens a pool. The caller holds change.
func (s *Service) openPool(ctx context.Context, p db.Pool) (storage.Driver, error) {
	return s.openAs(ctx, p, storage.Mine)
}

// openAs is openPool for a pool that another daemon can have.
func (s *Service) openAs(ctx context.Context, p db.Pool, claim storage.Claim) (storage.Driver, error) {
	typ, err := s.typ(p.Driver)
	if err != nil {
		return nil, err
	}
	cfg := s.config(p)
	cfg.Owner.Claim = claim
	d, err := typ.Open(ctx, cfg)
	if err != nil {
		err = fmt.Errorf("open storage pool %q: %w", p.Name, err)
	}
	s.mu.Lock()
	s.state.set(p.Name, d, err)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s.sweeper.add(p.Name, d)
	s.Warnings.Resolve(ctx, warnings.PoolAway, url(p.Name))
	return d, nil
}

// set notes that a pool is open, or why it is not.
func (st *state) set(pool string, d storage.Driver, err error) {
	if st.open == nil {
		st.open, st.missing = map[string]storage.Driver{}, map[string]error{}
	}
	delete(st.open, pool)
	delete(st.missing, pool)
	if err != nil {
		st.missing[pool] = err
	} else if d != nil {
		st.open[pool] = d
	}
}

// forget has a pool be neither open nor missing, and not be swept.
func (s *Service) forget(pool string) {
	s.sweeper.drop(pool)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.set(pool, nil, nil)
}

func (s *Service) typ(driver string) (storage.Type, error) {
	typ, ok := s.Types[driver]
	if !ok {
		return typ, errs.Invalidf("storage driver %q is not known: use one of %s", driver, strings.Join(slices.Sorted(maps.Keys(s.Types)), ", "))
	}
	return typ, nil
}

// config returns the driver's configuration of a pool.
func (s *Service) config(p db.Pool) storage.Config {
	return storage.Config{
		Name:    p.Name,
		Dir:     filepath.Join(s.Dir, "pools", p.Name),
		Source:  p.Config["source"],
		Options: maps.Clone(p.Config),
		Owner:   s.Owner,
	}
}

func (s *Service) record(ctx context.Context, name string) (p db.Pool, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = db.GetPool(ctx, tx, name)
		return err
	})
	return p, err
}

func url(pool string) string { return "/1.0/storage-pools/" + pool }

// Create makes a pool.
func (s *Service) Create(ctx context.Context, req api.StoragePoolsPost) error {
	if err := profiles.CheckPoolName(req.Name); err != nil {
		return err
	}
	typ, err := s.typ(req.Driver)
	if err != nil {
		return err
	}
	p := db.Pool{Name: req.Name, Driver: req.Driver, Description: req.Description, Status: db.Pending, Config: map[string]string{}}
	for k, v := range req.Config {
		if err := checkKey(p.Driver, typ, k, v); err != nil {
			return err
		}
		if v != "" {
			p.Config[k] = v
		}
	}
	delete(p.Config, keyInitial)
	switch source := p.Config[keySource]; {
	case source == "":
	case within(source, s.config(p).Dir):
		delete(p.Config, keySource) // It is of a pool without one, as it was shown.
	default:
		p.Config[keyInitial] = source
	}
	if err := typ.Check(ctx); err != nil {
		return fmt.Errorf("storage driver %q: %w", p.Driver, err)
	}
	s.change.Lock()
	defer s.change.Unlock()

	return s.create(ctx, p, typ)
}

// addRecord adds the record of a pool that is apart from the others.
func (s *Service) addRecord(ctx context.Context, p *db.Pool) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		others, err := db.Pools(ctx, tx)
		if err != nil {
			return err
		}
		if err := checkApart(*p, others); err != nil {
			return err
		}
		return db.AddPool(ctx, tx, p)
	})
}

func (s *Service) create(ctx context.Context, p db.Pool, typ storage.Type) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.addRecord(ctx, &p); err != nil {
		return err
	}
	u.Push("delete the record", func(ctx context.Context) error { return s.deleteRecord(ctx, p.Name) })

	cfg := s.config(p)
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return err
	}
	u.Push("remove the pool's directory", func(context.Context) error { return removeDir(cfg.Dir) })

	cfg, err = typ.Make(ctx, cfg)
	if err != nil {
		return fmt.Errorf("make storage pool %q: %w", p.Name, err)
	}
	u.Push("remove the pool", func(ctx context.Context) error { return typ.Remove(ctx, cfg) })

	p.Config = cfg.Options
	if _, err := s.openPool(ctx, p); err != nil {
		return err
	}
	u.Push("forget the driver", func(context.Context) error { s.forget(p.Name); return nil })

	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.UpdatePool(ctx, tx, p); err != nil {
			return err
		}
		return db.SetPoolStatus(ctx, tx, p.Name, db.Ready)
	})
	if err != nil {
		return err
	}
	s.Events.Lifecycle("storage-pool-created", url(p.Name), nil)
	return nil
}

func (s *Service) deleteRecord(ctx context.Context, name string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeletePool(ctx, tx, name) })
}

// removeDir removes a directory that is empty, or none.
func removeDir(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
