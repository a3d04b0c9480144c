package instances

import (
	"context"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Hidden snapshots ([storage.Hidden]) of an instance have records as others, whose
// status says what becomes of them at the next start of the daemon: one that
// is pending is deleted, one that is ready is kept if somebody remembers it.

// remembered returns the hidden snapshots of an instance that somebody needs
// for longer than a daemon runs.
func remembered(ctx context.Context, tx *db.Tx, name string) (map[string]bool, error) {
	return db.HiddenOfBackups(ctx, tx, db.BackupOwner{Instance: name})
}

// hide makes a hidden snapshot of an instance, whose lock is held, and which
// is frozen meanwhile if it runs. Its record says status.
func (s *Service) hide(ctx context.Context, in *instance, snapshot string, status db.Status) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	row := db.Snapshot{
		Instance: in.Name, Name: snapshot, Status: db.Pending, Architecture: in.Architecture, Ephemeral: in.Ephemeral,
		Config: in.Config, Devices: in.Devices, Profiles: in.Profiles,
	}
	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddSnapshot(ctx, tx, &row) }); err != nil {
		return err
	}
	u.Push("forget the hidden snapshot", func(ctx context.Context) error { return s.forgetSnapshot(ctx, in.Name, snapshot) })

	v := in.snapshotVolume(snapshot)
	if err := s.still(ctx, in.Name, func() error { return d.Snapshot(ctx, v) }); err != nil {
		return err
	}
	u.Push("delete the hidden snapshot", func(ctx context.Context) error { return d.Delete(ctx, v) })
	if status == db.Pending {
		return nil
	}
	return s.markSnapshot(ctx, in.Name, snapshot, status)
}

// unhide deletes a hidden snapshot of an instance whose lock is held. It does
// nothing if there is none.
func (s *Service) unhide(ctx context.Context, in *instance, snapshot string) error {
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.visits.end(ctx, visitKey(in.Name, snapshot)); err != nil {
		return err
	}
	if err := deleteVolume(ctx, d, in.snapshotVolume(snapshot)); err != nil {
		return err
	}
	return s.forgetSnapshot(ctx, in.Name, snapshot)
}

// unhideLater is unhide for who does not hold the lock, and has nobody to tell
// that it failed: the next start of the daemon tries again.
func (s *Service) unhideLater(ctx context.Context, name, snapshot string) {
	ctx = context.WithoutCancel(ctx)
	in, unlock, err := s.locked(ctx, name)
	if errs.Is(err, errs.NotFound) {
		return
	}
	if err == nil {
		defer unlock()
		err = s.unhide(ctx, in, snapshot)
	}
	if err != nil {
		s.Logger.WarnContext(ctx, "cannot delete a hidden snapshot", "instance", name, "snapshot", snapshot, "err", err)
	}
}

// Stilled calls fn with the directory of the volume of an instance as it is
// now, which nothing changes: a snapshot, deleted when fn returns. If the
// instance runs it is frozen while that is made, and goes on. Until fn
// returns the instance cannot be renamed or deleted.
func (s *Service) Stilled(ctx context.Context, name string, fn func(ctx context.Context, dir string) error) error {
	snapshot := storage.NewHidden(storage.ForReading)
	v, err := s.stilled(ctx, name, snapshot)
	if err != nil {
		return fmt.Errorf("make a snapshot of instance %q to read: %w", name, err)
	}
	defer s.unhideLater(ctx, name, snapshot)
	defer v.leave()
	return fn(ctx, v.dir)
}

func (s *Service) stilled(ctx context.Context, name, snapshot string) (_ *visit, err error) {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.hide(ctx, in, snapshot, db.Pending); err != nil {
		return nil, err
	}
	s.warnDelegated(ctx, in, nil)
	v, err := s.visit(ctx, name, snapshot)
	if err != nil {
		if herr := s.unhide(context.WithoutCancel(ctx), in, snapshot); herr != nil {
			err = fmt.Errorf("%w; %w", err, herr)
		}
		return nil, err
	}
	return v, nil
}

// recoverHidden deletes the hidden snapshots that nobody remembers: those of
// the pool without a record too.
func (s *Service) recoverHidden(ctx context.Context, d storage.Driver, in *instance, left remains) error {
	var keep map[string]bool
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		keep, err = remembered(ctx, tx, in.Name)
		return err
	})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, snap := range left.snapshots {
		known[snap.Name] = true
		if !storage.Hidden(snap.Name) || snap.Status == db.Pending || keep[snap.Name] {
			continue
		}
		if err := s.unhide(ctx, in, snap.Name); err != nil {
			return err
		}
	}
	for v := range left.have {
		if v.Parent() != in.volume() || !storage.Hidden(v.Snapshot) || known[v.Snapshot] {
			continue
		}
		if err := deleteVolume(ctx, d, v); err != nil {
			return err
		}
		delete(left.have, v)
	}
	return nil
}
