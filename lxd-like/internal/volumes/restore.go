package volumes

import (
	"context"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// idleSnapshot opens the pool of a snapshot that nobody uses, whose volume is
// locked then.
func (s *Service) idleSnapshot(ctx context.Context, ref Ref, snapshot string) (v db.Volume, d storage.Driver, unlock func(), err error) { //nolint:revive // It is the beginning of three functions.
	if v, err = s.load(ctx, ref); err != nil {
		return v, nil, nil, err
	}
	if d, err = s.driver(ctx, ref.Pool); err != nil {
		return v, nil, nil, err
	}
	t := target{ref, snapshot}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		by, err := users(ctx, tx)
		if err != nil {
			return err
		}
		return unused(t, by[t])
	})
	if err != nil {
		return v, nil, nil, err
	}
	unlock, err = s.aloneWith(ctx, d, t)
	return v, d, unlock, err
}

// Restore gives a volume, which no running instance uses, the contents that it
// had when the snapshot was made.
func (s *Service) Restore(ctx context.Context, ref Ref, snapshot string) error {
	release, err := s.claims.take("restored", ref)
	if err != nil {
		return err
	}
	defer release()
	if err := s.restore(ctx, ref, snapshot); err != nil {
		return fmt.Errorf("restore snapshot %q of volume %q: %w", snapshot, ref.Name, s.withRoom(ctx, ref.Pool, err))
	}
	s.event("storage-volume-restored", ref, map[string]any{"snapshot": snapshot})
	return nil
}

// restore writes down first what is restored: Recover ends what a crash cut
// short.
func (s *Service) restore(ctx context.Context, ref Ref, snapshot string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.exists(ctx, ref, snapshot); err != nil {
		return err
	}
	v, err := s.load(ctx, ref)
	if err != nil {
		return err
	}
	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return err
	}
	unlock, err := s.aloneWith(ctx, d, target{Ref: ref})
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.patch(ctx, &v, map[string]string{keyRestoring: snapshot}); err != nil {
		return err
	}
	u.Push("unmark the volume", func(ctx context.Context) error { return s.patch(ctx, &v, map[string]string{keyRestoring: ""}) })

	if err := d.Restore(ctx, snapshotVolume(ref, snapshot)); err != nil {
		return err
	}
	u = undo.Stack{} // The contents are those of the snapshot: only forward now.
	if err := s.shape(ctx, d, v); err != nil {
		return err
	}
	return s.patch(ctx, &v, map[string]string{keyRestoring: ""})
}
