package pools

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Delete takes away a pool that nothing uses. Unpacked images that lie in it
// are no use: they go with it.
func (s *Service) Delete(ctx context.Context, name string) (err error) {
	ctx = db.Freeing(ctx)
	s.change.Lock()
	defer s.change.Unlock()

	var u undo.Stack
	defer u.Unwind(ctx, &err)

	var p db.Pool
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if p, err = db.GetPool(ctx, tx, name); err != nil {
			return err
		}
		if err := unused(ctx, tx, p); err != nil {
			return err
		}
		return db.SetPoolStatus(ctx, tx, name, db.Pending)
	})
	if err != nil {
		return err
	}
	u.Push("make the pool ready again", func(ctx context.Context) error {
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetPoolStatus(ctx, tx, name, p.Status) })
	})

	if err := s.remove(ctx, p); err != nil {
		return fmt.Errorf("delete storage pool %q: %w", name, err)
	}
	s.Events.Lifecycle("storage-pool-deleted", url(name), nil)
	return nil
}

// unused returns an error that names what uses the pool.
func unused(ctx context.Context, tx *db.Tx, p db.Pool) error {
	users, err := usersOf(ctx, tx)
	if err != nil {
		return err
	}
	var by []string
	for _, u := range users[p.Name] {
		if !strings.HasPrefix(u, imageURL) {
			by = append(by, strings.TrimPrefix(u, "/1.0/"))
		}
	}
	if len(by) == 0 {
		return nil
	}
	more := ""
	if len(by) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(by)-maxNamed)
		by = by[:maxNamed]
	}
	return errs.Conflictf("storage pool %q is in use by %s%s", p.Name, strings.Join(by, ", "), more)
}

// maxNamed is how many users of a pool an error names.
const maxNamed = 5

// remove takes a pool away with its images, and then its record. The caller
// holds change. It finishes what an earlier one left undone.
func (s *Service) remove(ctx context.Context, p db.Pool) error {
	typ, err := s.typ(p.Driver)
	if err != nil {
		return err
	}
	if err := s.removeImages(ctx, p); err != nil {
		return err
	}
	cfg := s.config(p)
	s.forget(p.Name)
	if err := typ.Remove(ctx, cfg); err != nil {
		return err
	}
	if err := os.Remove(s.noteOf(p.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := removeDir(cfg.Dir); err != nil {
		return err
	}
	return s.deleteRecord(ctx, p.Name)
}

// removeImages removes the volumes of images from a pool.
func (s *Service) removeImages(ctx context.Context, p db.Pool) error {
	var rows []db.ImageVolume
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.ImageVolumes(ctx, tx)
		for _, v := range all {
			if v.PoolID == p.ID {
				rows = append(rows, v)
			}
		}
		return err
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	d, err := s.opened(ctx, p.Name)
	if d == nil && err == nil {
		d, err = s.openPool(ctx, p)
	}
	if errs.Is(err, errs.Unavailable) {
		d, err = nil, nil // They are lost with the pool.
	}
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := s.removeImage(ctx, d, row); err != nil {
			return err
		}
	}
	return nil
}

// removeImage removes the volume of an image, and its record. Without a driver
// that is all.
func (s *Service) removeImage(ctx context.Context, d storage.Driver, row db.ImageVolume) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetImageVolumeStatus(ctx, tx, row.Fingerprint, row.PoolID, db.Pending)
	})
	if err != nil {
		return err
	}
	if d != nil {
		v := storage.Volume{Kind: storage.Image, Name: row.Fingerprint}
		if err := d.Unmount(ctx, v); err != nil {
			return err
		}
		if err := d.Delete(ctx, v); err != nil && !errs.Is(err, errs.Unavailable) { // Else it is lost with the pool.
			return err
		}
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.DeleteImageVolume(ctx, tx, row.Fingerprint, row.PoolID)
	})
}

// Recover unmakes the pools that a crash left half-made or half-removed, and
// opens the others. One that cannot be opened, because its disk is not there,
// is opened when it is next asked for.
func (s *Service) Recover(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()

	var all []db.Pool
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.Pools(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Status == db.Pending {
			err = s.remove(ctx, p)
		} else {
			_, err = s.openPool(ctx, p)
		}
		if err != nil {
			s.Log.WarnContext(ctx, "storage pool is not available", "pool", p.Name, "status", string(p.Status), "err", err)
			s.Warnings.Raise(ctx, warnings.PoolAway, url(p.Name), err.Error())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
