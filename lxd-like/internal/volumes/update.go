package volumes

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Update changes a volume's description and configuration, or puts a snapshot
// back if put says so.
func (s *Service) Update(ctx context.Context, ref Ref, put api.StorageVolumePut) error {
	if put.Restore != "" {
		return s.Restore(ctx, ref, strings.TrimPrefix(put.Restore, ref.Name+"/"))
	}
	release, err := s.claims.take("changed", ref)
	if err != nil {
		return err
	}
	defer release()
	v, err := s.load(ctx, ref)
	if err != nil {
		return err
	}
	p, err := s.pool(ctx, ref.Pool)
	if err != nil {
		return err
	}
	next, err := s.changed(v, put, p)
	if err == nil {
		err = s.checkRepository(ctx, v.Config["backups.repository"], next)
	}
	if err != nil {
		return err
	}
	if err := s.update(ctx, v, next, p); err != nil {
		return fmt.Errorf("update volume %q: %w", ref.Name, err)
	}
	s.event("storage-volume-updated", ref, map[string]any{"type": "custom"})
	return nil
}

// changed returns the record of a volume as put wants it.
func (s *Service) changed(v db.Volume, put api.StorageVolumePut, p db.Pool) (db.Volume, error) {
	next := v
	next.Description, next.Config = put.Description, given(put.Config)
	for k, value := range v.Config {
		if isInternal(k) {
			next.Config[k] = value
		}
	}
	for _, k := range []string{"initial.uid", "initial.gid", "initial.mode"} {
		if next.Config[k] != v.Config[k] {
			return v, errs.Invalidf("%s: it is for new volumes, and cannot be changed", k)
		}
	}
	return next, s.validate(next, p)
}

// update makes a volume, which is claimed, what next says: in the pool first,
// and if that goes well, in the database. While the pool is changed the record
// says so: Recover sets then what the record says.
func (s *Service) update(ctx context.Context, v, next db.Volume, p db.Pool) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	admitted := s.DB.Try(ctx, db.ProjectObject{Kind: db.OfVolumes, Pool: v.Pool, Key: v.Name}, func(ctx context.Context, tx *db.Tx) error {
		return db.UpdateVolume(ctx, tx, next)
	})
	if admitted != nil {
		return admitted
	}
	before, after := s.options(v, p), s.options(next, p)
	if v.Config["size"] != next.Config["size"] || !maps.Equal(before, after) {
		if err := s.patch(ctx, &v, map[string]string{keyShaping: "true"}); err != nil {
			return err
		}
		u.Push("unmark the volume", func(ctx context.Context) error { return s.patch(ctx, &v, map[string]string{keyShaping: ""}) })
		if err := s.reshape(ctx, v, next, p, &u); err != nil {
			return err
		}
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdateVolume(ctx, tx, next) })
}

// reshape changes size and options of a volume, with what takes it back.
func (s *Service) reshape(ctx context.Context, v, next db.Volume, p db.Pool, u *undo.Stack) error {
	d, err := s.driver(ctx, v.Pool)
	if err != nil {
		return err
	}
	unlock := s.locks.Lock(v.String())
	defer unlock()
	if v.Config["size"] != next.Config["size"] {
		if err := resize(ctx, d, v, next, u); err != nil {
			return err
		}
	}
	before, after := s.options(v, p), s.options(next, p)
	if maps.Equal(before, after) {
		return nil
	}
	u.Push("set the options back", func(ctx context.Context) error { return s.tune(ctx, d, v.VolumeRef, before) })
	return s.tune(ctx, d, v.VolumeRef, after)
}

// resize changes the size of a volume, with what takes it back.
func resize(ctx context.Context, d storage.Driver, v, next db.Volume, u *undo.Stack) error {
	was, err := sizeOf(v)
	if err != nil {
		return err
	}
	size, err := sizeOf(next)
	if err != nil {
		return err
	}
	if err := roomy(ctx, d, v, size); err != nil {
		return err
	}
	if err := limit(ctx, d, volume(v.VolumeRef), size); err != nil {
		return err
	}
	u.Push("set the size back", func(ctx context.Context) error { return limit(ctx, d, volume(v.VolumeRef), was) })
	return nil
}

// sizeOf returns the size of a volume in bytes, 0 for no limit.
func sizeOf(v db.Volume) (int64, error) {
	if v.Config["size"] == "" {
		return 0, nil
	}
	size, err := profiles.ParseSize(v.Config["size"])
	if err != nil {
		return 0, fmt.Errorf("size: %w", err)
	}
	return size, nil
}

// roomy refuses to make a volume smaller than what it holds.
func roomy(ctx context.Context, d storage.Driver, v db.Volume, size int64) error {
	before, err := sizeOf(v)
	if err != nil || size == 0 || before != 0 && size >= before {
		return err
	}
	return storage.MustFit(ctx, d, volume(v.VolumeRef), size)
}
