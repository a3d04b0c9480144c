package pools

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// A Found is a pool that is there, and that the database need not know.
type Found struct {
	api.StoragePoolsPost

	Driver storage.Driver
	Known  bool // By the database.
}

// noteOf returns the file beside a pool that says where it is, for when the
// database is lost.
func (s *Service) noteOf(pool string) string { return filepath.Join(s.Dir, "pools", pool, "pool.yaml") }

// Note keeps a document about a pool beside it, in the state directory. One that
// is being removed gets none: the error is of kind NotFound.
func (s *Service) Note(ctx context.Context, pool string, doc []byte) error {
	s.change.Lock()
	defer s.change.Unlock()

	p, err := s.record(ctx, pool)
	if err == nil && p.Status != db.Ready {
		err = errs.NotFoundf("storage pool %q is being made or removed", pool)
	}
	if err != nil {
		return err
	}
	path := s.noteOf(pool)
	fresh := path + ".new"
	if err := os.WriteFile(fresh, doc, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// Unknown returns the names of pools that are in the state directory and not
// in the database, with the documents that [Service.Note] kept.
func (s *Service) Unknown(ctx context.Context) (map[string][]byte, error) {
	out := map[string][]byte{}
	entries, err := os.ReadDir(filepath.Join(s.Dir, "pools"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		_, err := s.record(ctx, e.Name())
		if err == nil || !e.IsDir() || profiles.CheckPoolName(e.Name()) != nil {
			continue
		}
		if !errs.Is(err, errs.NotFound) {
			return nil, err
		}
		doc, err := os.ReadFile(s.noteOf(e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		out[e.Name()] = doc
	}
	return out, nil
}

// Find opens a pool that is there: one of the database, of which the name is
// enough, or one that it has lost. Where no driver is named, all are tried.
// Nothing is registered, and nothing in the pool changes.
func (s *Service) Find(ctx context.Context, req api.StoragePoolsPost) (Found, error) {
	found := Found{StoragePoolsPost: req}
	p, err := s.record(ctx, req.Name)
	if err == nil {
		found.Known = true
		found.StoragePoolsPost.Driver, found.Config, found.Description = p.Driver, p.Config, p.Description
		found.Driver, err = s.Driver(ctx, req.Name)
		return found, err
	}
	if !errs.Is(err, errs.NotFound) {
		return found, err
	}
	if err := profiles.CheckPoolName(req.Name); err != nil {
		return found, err
	}
	drivers := []string{req.Driver}
	if req.Driver == "" {
		drivers = slices.Sorted(maps.Keys(s.Types))
	}
	var failed []error
	for _, driver := range drivers {
		err := s.find(ctx, &found, driver)
		if err == nil {
			return found, nil
		}
		failed = append(failed, err)
	}
	return found, errors.Join(failed...)
}

// find opens a pool of the driver that the database has lost.
func (s *Service) find(ctx context.Context, found *Found, driver string) error {
	typ, err := s.typ(driver)
	if err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	p := db.Pool{Name: found.Name, Config: maps.Clone(found.Config)}
	cfg, err := typ.Adopt(ctx, s.config(p))
	if err != nil {
		return fmt.Errorf("find storage pool %q: %w", p.Name, err)
	}
	cfg.Owner.Claim = storage.Glance
	d, err := typ.Open(ctx, cfg)
	if err != nil {
		return fmt.Errorf("open storage pool %q: %w", p.Name, err)
	}
	found.StoragePoolsPost.Driver, found.Config, found.Driver = driver, cfg.Options, d
	return nil
}

// TakeOver takes a pool that the database knows over from another daemon, which
// does not run. What is not there, or is not another's, is left as it is.
func (s *Service) TakeOver(ctx context.Context, pool string) error {
	_, err := s.Driver(ctx, pool)
	if !errs.Is(err, errs.Unavailable) {
		return nil
	}
	s.change.Lock()
	defer s.change.Unlock()
	p, err := s.record(ctx, pool)
	if err != nil {
		return err
	}
	typ, err := s.typ(p.Driver)
	if err != nil {
		return err
	}
	cfg := s.config(p)
	cfg.Owner.Claim = storage.Take
	if _, err := typ.Open(ctx, cfg); err != nil {
		return fmt.Errorf("take storage pool %q over: %w", pool, err)
	}
	s.watch.poke() // It is looked through as one that has appeared.
	return nil
}

// Register puts a pool that was found into the database. The driver of what
// it opens from now on is another.
func (s *Service) Register(ctx context.Context, found Found) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	s.change.Lock()
	defer s.change.Unlock()
	p := db.Pool{
		Name: found.Name, Driver: found.StoragePoolsPost.Driver, Description: found.Description, Status: db.Ready, Config: map[string]string{},
	}
	for k, v := range found.Config {
		if v != "" {
			p.Config[k] = v
		}
	}
	if err := s.addRecord(ctx, &p); err != nil {
		return err
	}
	u.Push("delete the record", func(ctx context.Context) error { return s.deleteRecord(ctx, p.Name) })

	if _, err := s.openAs(ctx, p, storage.Take); err != nil {
		return err
	}
	s.Events.Lifecycle("storage-pool-created", url(p.Name), nil)
	return nil
}
