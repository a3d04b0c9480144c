package volumes

import (
	"context"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Hidden snapshots ([storage.Hidden]) of a volume have records as others, whose
// status says what becomes of them at the next start of the daemon: one that
// is pending is deleted, one that is ready is kept if somebody remembers it.

// remembered returns the hidden snapshots of a volume that somebody needs for
// longer than a daemon runs.
func remembered(ctx context.Context, tx *db.Tx, ref Ref) (map[string]bool, error) {
	return db.HiddenOfBackups(ctx, tx, db.BackupOwner{Volume: ref})
}

// hide makes a hidden snapshot of a volume, whose users are frozen meanwhile.
// Its record says status.
func (s *Service) hide(ctx context.Context, ref Ref, snapshot string, status db.Status) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.claims.admits(ref); err != nil {
		return err
	}
	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return err
	}
	row := db.VolumeSnapshot{Volume: ref, Name: snapshot, Status: db.Pending}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := loadTx(ctx, tx, ref); err != nil {
			return err
		}
		return db.AddVolumeSnapshot(ctx, tx, &row)
	})
	if err != nil {
		return err
	}
	u.Push("forget the hidden snapshot", func(ctx context.Context) error { return s.forgetSnapshot(ctx, ref, snapshot) })

	v := snapshotVolume(ref, snapshot)
	if err := s.still(ctx, ref, func() error { return d.Snapshot(ctx, v) }); err != nil {
		return err
	}
	u.Push("delete the hidden snapshot", func(ctx context.Context) error { return d.Delete(ctx, v) })
	if status == db.Pending {
		return nil
	}
	return s.markSnapshot(ctx, ref, snapshot, status)
}

// unhide deletes a hidden snapshot. It does nothing if there is none.
func (s *Service) unhide(ctx context.Context, ref Ref, snapshot string) error {
	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return err
	}
	unlock, err := s.aloneWith(ctx, d, target{ref, snapshot})
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.Delete(ctx, snapshotVolume(ref, snapshot)); err != nil {
		return err
	}
	return s.forgetSnapshot(ctx, ref, snapshot)
}

// unhideLater is unhide for who has nobody to tell that it failed: the next
// start of the daemon tries again.
func (s *Service) unhideLater(ctx context.Context, ref Ref, snapshot string) {
	ctx = context.WithoutCancel(ctx)
	if err := s.unhide(ctx, ref, snapshot); err != nil && !errs.Is(err, errs.NotFound) {
		s.Log.WarnContext(ctx, "cannot delete a hidden snapshot", "volume", ref.String(), "snapshot", snapshot, "err", err)
	}
}

// Stilled calls fn with the directory of a volume as it is now, which nothing
// changes: a snapshot, deleted when fn returns. Instances that use the volume
// are frozen while that is made, and go on. Until fn returns the volume cannot
// be renamed or deleted.
func (s *Service) Stilled(ctx context.Context, pool, name string, fn func(ctx context.Context, dir string) error) error {
	ref := Ref{Pool: pool, Name: name}
	snapshot := storage.NewHidden(storage.ForReading)
	if err := s.hide(ctx, ref, snapshot, db.Pending); err != nil {
		return fmt.Errorf("make a snapshot of volume %q to read: %w", name, err)
	}
	defer s.unhideLater(ctx, ref, snapshot)
	dir, leave, err := s.visit(ctx, target{ref, snapshot})
	if err != nil {
		return err
	}
	defer leave()
	return fn(ctx, dir)
}
