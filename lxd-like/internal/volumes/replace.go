package volumes

import (
	"context"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// replaceSnapshot is makeSnapshot in place of a snapshot that has the name, if there
// is one: it is hidden until the other is there, and then deleted. After a crash it
// has its name again, unless the new one is whole.
func (s *Service) replaceSnapshot(ctx context.Context, ref Ref, req newSnapshot) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	aside := storage.Aside(req.name)
	err = s.exists(ctx, ref, req.name)
	if err == nil {
		if err := s.unhide(ctx, ref, aside); err != nil { // One that could not be deleted.
			return err
		}
		if err := s.renameSnapshot(ctx, ref, req.name, aside); err != nil {
			return err
		}
		u.Push("give the old snapshot its name back", func(ctx context.Context) error { return s.renameSnapshot(ctx, ref, aside, req.name) })
	} else if !errs.Is(err, errs.NotFound) {
		return err
	}
	if err := s.makeSnapshot(ctx, ref, req); err != nil {
		return err
	}
	u.Push("delete the new snapshot", func(ctx context.Context) error { return s.removeSnapshot(ctx, ref, req.name) })
	if err := s.markSnapshot(ctx, ref, aside, db.Pending); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	u = undo.Stack{} // The old one goes now, or at the next start.
	s.unhideLater(ctx, ref, aside)
	return nil
}

// unreplace gives snapshots their names back that were to be replaced by others,
// which are not whole.
func (s *Service) unreplace(ctx context.Context, d storage.Driver, left *remains) error {
	all := map[string]db.VolumeSnapshot{}
	for _, snap := range left.snapshots {
		all[snap.Name] = snap
	}
	for _, snap := range all {
		name, ok := storage.IsAside(snap.Name)
		if !ok || snap.Status == db.Pending { // It was replaced.
			continue
		}
		other, ok := all[name]
		if ok && other.Status == db.Ready {
			continue // It is whole.
		}
		if err := s.reappear(ctx, d, snap, name, left); err != nil {
			return err
		}
	}
	return nil
}

// reappear gives a snapshot its name back, and deletes what was to replace it. A
// crash can have come between the renaming of its volume and that of its record.
func (s *Service) reappear(ctx context.Context, d storage.Driver, snap db.VolumeSnapshot, name string, left *remains) error {
	ref := snap.Volume
	is, was := snapshotVolume(ref, snap.Name), snapshotVolume(ref, name)
	if slices.ContainsFunc(left.snapshots, func(s db.VolumeSnapshot) bool { return s.Name == name }) {
		if err := deleteVolume(ctx, d, was); err != nil {
			return err
		}
		if err := s.forgetSnapshot(ctx, ref, name); err != nil {
			return err
		}
	}
	if left.have[is] {
		if err := d.Rename(ctx, is, name); err != nil {
			return err
		}
		delete(left.have, is)
		left.have[was] = true
	}
	left.snapshots = slices.DeleteFunc(slices.Clone(left.snapshots), func(s db.VolumeSnapshot) bool {
		return s.Name == name || s.Name == snap.Name
	})
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.RenameVolumeSnapshot(ctx, tx, snap, name) })
}
