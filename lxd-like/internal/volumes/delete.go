package volumes

import (
	"context"
	"fmt"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Delete removes a volume that no instance and no profile uses, with its
// snapshots. One that a failed deletion left pending can be deleted again.
func (s *Service) Delete(ctx context.Context, ref Ref) error {
	release, err := s.claims.take("deleted", ref)
	if err != nil {
		return err
	}
	defer release()
	if err := s.delete(ctx, ref); err != nil {
		return err
	}
	s.event("storage-volume-deleted", ref, map[string]any{"type": "custom"})
	return nil
}

// delete marks the record before it removes anything, so that a crash ends in
// the deletion. If the pool fails, the volume is whole again but for the
// snapshots that were deleted already.
func (s *Service) delete(ctx context.Context, ref Ref) (err error) {
	ctx = db.Freeing(ctx)
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return err
	}
	unlock, err := s.aloneWithAll(ctx, d, ref)
	if err != nil {
		return err
	}
	defer unlock()
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetVolume(ctx, tx, ref); err != nil {
			return poolFirst(ctx, tx, ref, err)
		}
		by, err := usersOf(ctx, tx, ref)
		if err != nil {
			return err
		}
		if err := unused(target{Ref: ref}, by); err != nil {
			return err
		}
		return db.SetVolumeStatus(ctx, tx, ref, db.Pending)
	})
	if err != nil {
		return err
	}
	u.Push("unmark the volume", func(ctx context.Context) error { return s.mark(ctx, ref, db.Ready) })

	if err := s.remove(ctx, d, ref); err != nil {
		return fmt.Errorf("delete volume %q: %w", ref.Name, err)
	}
	u = undo.Stack{} // What is left is a record: Recover or another Delete deletes it.
	return s.forget(ctx, ref)
}

// remove deletes a volume after its snapshots, the newest first, with their
// records.
func (s *Service) remove(ctx context.Context, d storage.Driver, ref Ref) error {
	var snaps []db.VolumeSnapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		snaps, err = db.VolumeSnapshots(ctx, tx, ref)
		return err
	})
	if err != nil {
		return err
	}
	for _, snap := range slices.Backward(snaps) {
		if err := deleteVolume(ctx, d, snapshotVolume(ref, snap.Name)); err != nil {
			return fmt.Errorf("snapshot %q: %w", snap.Name, err)
		}
		if err := s.forgetSnapshot(ctx, ref, snap.Name); err != nil {
			return err
		}
	}
	if err := deleteVolume(ctx, d, volume(ref)); err != nil {
		// Hidden snapshots without a record can be in the way.
		if eerr := s.erase(ctx, d, ref); eerr != nil {
			return err
		}
	}
	return nil
}

// erase deletes what there is of a volume, whatever the records say.
func (s *Service) erase(ctx context.Context, d storage.Driver, ref Ref) error {
	all, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.Snapshot == "" || v.Parent() != volume(ref) {
			continue
		}
		if err := deleteVolume(ctx, d, v); err != nil {
			return fmt.Errorf("delete %s: %w", v, err)
		}
	}
	return deleteVolume(ctx, d, volume(ref))
}

func deleteVolume(ctx context.Context, d storage.Driver, v storage.Volume) error {
	if err := d.Unmount(ctx, v); err != nil {
		return err
	}
	return d.Delete(ctx, v)
}

func (s *Service) forgetSnapshot(ctx context.Context, ref Ref, snapshot string) error {
	return s.DB.Do(db.Freeing(ctx), func(ctx context.Context, tx *db.Tx) error {
		if err := db.DeleteVolumeSnapshot(ctx, tx, ref, snapshot); !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}
