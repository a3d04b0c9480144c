package instances

import (
	"context"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// replaceSnapshot is snapshotAll in place of a snapshot that has the name, if there
// is one: it is hidden until all is there, and then deleted. After a crash it has
// its name again, unless the new one is whole.
func (s *Service) replaceSnapshot(ctx context.Context, name string, want newSnapshot, volumes []db.VolumeRef) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	aside := storage.Aside(want.name)
	there, err := s.setAside(ctx, name, want.name)
	if err != nil {
		return err
	}
	if there {
		u.Push("give the old snapshot its name back", func(ctx context.Context) error {
			in, unlock, err := s.locked(ctx, name)
			if err != nil {
				return err
			}
			defer unlock()
			return s.renameSnapshot(ctx, in, aside, want.name)
		})
	}
	if err := s.snapshotAll(ctx, name, want, volumes); err != nil {
		return err
	}
	u.Push("delete the new snapshot", func(ctx context.Context) error { return s.expire(ctx, name, want.name) })
	if err := s.markSnapshot(ctx, name, aside, db.Pending); err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	u = undo.Stack{} // The old one goes now, or at the next start.
	s.unhideLater(ctx, name, aside)
	return nil
}

// setAside hides the snapshot of an instance, and reports whether there is one.
func (s *Service) setAside(ctx context.Context, name, snapshot string) (there bool, err error) {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()
	_, err = s.snapshot(ctx, name, snapshot)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := s.unhide(ctx, in, storage.Aside(snapshot)); err != nil { // One that could not be deleted.
		return false, err
	}
	return true, s.renameSnapshot(ctx, in, snapshot, storage.Aside(snapshot))
}

// unreplace gives snapshots their names back that were to be replaced by others,
// which are not whole.
func (s *Service) unreplace(ctx context.Context, d storage.Driver, in *instance, left *remains) error {
	rows, asides := map[string]db.Status{}, map[string]bool{}
	for _, snap := range left.snapshots {
		rows[snap.Name] = snap.Status
		asides[snap.Name] = true
	}
	for v := range left.have {
		if v.Parent() == in.volume() {
			asides[v.Snapshot] = true
		}
	}
	for aside := range asides {
		name, ok := storage.IsAside(aside)
		if !ok || rows[aside] == db.Pending { // Those were replaced.
			continue
		}
		if rows[name] == db.Ready && (left.have[in.snapshotVolume(name)] || !left.have[in.snapshotVolume(aside)]) {
			continue // The other is whole.
		}
		if err := s.reappear(ctx, d, in, left, name); err != nil {
			return err
		}
	}
	return nil
}

// reappear gives a snapshot its name back, and deletes what was to replace it. A
// crash can have come between the renaming of its volume and that of its record.
func (s *Service) reappear(ctx context.Context, d storage.Driver, in *instance, left *remains, name string) error {
	find := func(name string) int {
		return slices.IndexFunc(left.snapshots, func(s db.Snapshot) bool { return s.Name == name })
	}
	was, is := in.snapshotVolume(name), in.snapshotVolume(storage.Aside(name))
	left.snapshots = slices.Clone(left.snapshots)
	if i := find(name); i >= 0 && left.snapshots[i].Status == db.Pending {
		if err := s.recoverSnapshot(ctx, d, in, left.snapshots[i]); err != nil {
			return err
		}
		delete(left.have, was)
		left.snapshots = slices.Delete(left.snapshots, i, i+1)
	}
	if left.have[is] {
		if err := d.Rename(ctx, is, name); err != nil {
			return err
		}
		delete(left.have, is)
		left.have[was] = true
	}
	i := find(is.Snapshot)
	if i < 0 {
		return nil
	}
	left.snapshots[i].Name = name
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.RenameSnapshot(ctx, tx, in.Name, is.Snapshot, name)
	})
}
