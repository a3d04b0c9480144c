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
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// A Service keeps storage pools. Its methods are safe for concurrent use.
type Service struct {
	DB     *db.DB
	Dir    string                  // The daemon's state directory.
	Types  map[string]storage.Type // By driver: overlay, btrfs, dir.
	Events *events.Hub
	Log    *slog.Logger

	// change is held by what makes, opens, changes or removes pools, from
	// its first look at the records to the end of the driver's work.
	change sync.Mutex

	mu   sync.Mutex // Guards open.
	open map[string]storage.Driver
}

// Driver returns the driver of a pool, and opens the pool if it is not open.
func (s *Service) Driver(ctx context.Context, pool string) (storage.Driver, error) {
	if d := s.opened(pool); d != nil {
		return d, nil
	}
	s.change.Lock()
	defer s.change.Unlock()

	if d := s.opened(pool); d != nil {
		return d, nil
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

func (s *Service) opened(pool string) storage.Driver {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[pool]
}

// openPool opens a pool. The caller holds change.
func (s *Service) openPool(ctx context.Context, p db.Pool) (storage.Driver, error) {
	typ, err := s.typ(p.Driver)
	if err != nil {
		return nil, err
	}
	d, err := typ.Open(ctx, s.config(p))
	if err != nil {
		return nil, fmt.Errorf("open storage pool %q: %w", p.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]storage.Driver{}
	}
	s.open[p.Name] = d
	return d, nil
}

func (s *Service) forget(pool string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, pool)
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
	if err := typ.Check(ctx); err != nil {
		return fmt.Errorf("storage driver %q: %w", p.Driver, err)
	}
	s.change.Lock()
	defer s.change.Unlock()

	return s.create(ctx, p, typ)
}

// checkKey returns an error if the driver has no such key, or the key no such
// value.
func checkKey(driver string, typ storage.Type, key, value string) error {
	if strings.HasPrefix(key, "user.") || key == "source" {
		return nil
	}
	if key == "size" {
		if value == "" {
			return nil
		}
		n, err := units.ParseBytes(value)
		if err == nil && n <= 0 {
			err = errs.Invalidf("%q is no size: use one such as 20GiB", value)
		}
		if err != nil {
			return fmt.Errorf("configuration key \"size\": %w", err)
		}
		return nil
	}
	if _, ok := typ.Options[key]; ok {
		return nil
	}
	known := append(slices.Sorted(maps.Keys(typ.Options)), "size", "source", "user.*")
	return errs.Invalidf("configuration key %q is not known to storage driver %q: use %s", key, driver, strings.Join(known, ", "))
}

func (s *Service) create(ctx context.Context, p db.Pool, typ storage.Type) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddPool(ctx, tx, &p) }); err != nil {
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

// Update changes a pool's description and configuration. What cannot be
// changed may be left out.
func (s *Service) Update(ctx context.Context, name string, put api.StoragePoolPut) error {
	s.change.Lock()
	defer s.change.Unlock()

	p, err := s.record(ctx, name)
	if err != nil {
		return err
	}
	typ, err := s.typ(p.Driver)
	if err != nil {
		return err
	}
	for k, v := range put.Config {
		if p.Config[k] == v {
			continue
		}
		if err := checkKey(p.Driver, typ, k, v); err != nil {
			return err
		}
	}
	next, grown, err := changed(p, put)
	if err != nil {
		return err
	}
	if grown > 0 {
		if err := s.grow(ctx, p, grown); err != nil {
			return err
		}
	}
	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdatePool(ctx, tx, next) }); err != nil {
		return err
	}
	s.Events.Lifecycle("storage-pool-updated", url(name), nil)
	return nil
}

// changed returns the pool's record with what put changes, and the new size
// if that is one of it.
func changed(p db.Pool, put api.StoragePoolPut) (next db.Pool, size int64, err error) {
	next = p
	next.Description, next.Config = put.Description, maps.Clone(p.Config)
	maps.DeleteFunc(next.Config, func(k, _ string) bool { return strings.HasPrefix(k, "user.") })
	for k, v := range put.Config {
		switch {
		case strings.HasPrefix(k, "user."):
			if v != "" {
				next.Config[k] = v
			}
		case v == p.Config[k]:
		case k == "size" && v != "":
			if size, err = larger(p.Config[k], v); err != nil {
				return p, 0, err
			}
			next.Config[k] = v
		default:
			return p, 0, errs.Invalidf("configuration key %q of a storage pool cannot be changed", k)
		}
	}
	return next, size, nil
}

// larger returns the size after, if it is larger than before.
func larger(before, after string) (int64, error) {
	size, err := units.ParseBytes(after)
	if err != nil {
		return 0, fmt.Errorf("configuration key \"size\": %w", err)
	}
	if old, err := units.ParseBytes(before); err == nil && size < old {
		return 0, errs.Invalidf("configuration key \"size\": a storage pool cannot become smaller: it has %s", before)
	}
	return size, nil
}

// grow makes a pool larger. The caller holds change.
func (s *Service) grow(ctx context.Context, p db.Pool, size int64) error {
	d := s.opened(p.Name)
	if d == nil {
		var err error
		if d, err = s.openPool(ctx, p); err != nil {
			return err
		}
	}
	g, ok := d.(storage.Grower)
	if !ok {
		return errs.Invalidf("configuration key \"size\": a pool of storage driver %q has the room of what it is on", p.Driver)
	}
	if err := g.Grow(ctx, size); err != nil {
		return fmt.Errorf("grow storage pool %q: %w", p.Name, err)
	}
	return nil
}
