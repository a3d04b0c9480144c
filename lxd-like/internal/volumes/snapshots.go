package volumes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/uuid"
	"github.com/cuib/cuib/storage"
)

// Snapshots returns the snapshots of a volume, oldest first; those of an
// instance's volume are the instance's.
func (s *Service) Snapshots(ctx context.Context, pool, typ, name string) ([]api.StorageVolumeSnapshot, error) {
	v, err := s.Get(ctx, pool, typ, name)
	if err != nil {
		return nil, err
	}
	return s.snapshotsOf(ctx, v)
}

func (s *Service) snapshotsOf(ctx context.Context, v api.StorageVolume) ([]api.StorageVolumeSnapshot, error) {
	out := []api.StorageVolumeSnapshot{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		switch v.Type {
		case typeCustom:
			row := db.Volume{VolumeRef: Ref{Pool: v.Pool, Name: v.Name}, ContentType: v.ContentType}
			snaps, err := db.VolumeSnapshots(ctx, tx, row.VolumeRef)
			out = describeSnapshots(row, seen(snaps))
			return err
		case typeContainer:
			snaps, err := db.Snapshots(ctx, tx, v.Name)
			out = out[:0]
			for _, snap := range snaps {
				if snap.Status == db.Ready && !storage.Hidden(snap.Name) {
					out = append(out, ofInstance(snap))
				}
			}
			return err
		}
		return nil
	})
	return out, err
}

func ofInstance(snap db.Snapshot) api.StorageVolumeSnapshot {
	out := api.StorageVolumeSnapshot{Name: snap.Name, Config: api.ConfigMap{}, ContentType: filesystem, CreatedAt: snap.Created}
	out.Description, out.ExpiresAt = snap.Description, expiry(snap.Expires)
	return out
}

func expiry(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func describeSnapshots(v db.Volume, snaps []db.VolumeSnapshot) []api.StorageVolumeSnapshot {
	out := make([]api.StorageVolumeSnapshot, 0, len(snaps))
	for _, snap := range snaps {
		one := api.StorageVolumeSnapshot{Name: snap.Name, Config: visible(snap.Config), ContentType: v.ContentType, CreatedAt: snap.Created}
		one.Description, one.ExpiresAt = snap.Description, expiry(snap.Expires)
		out = append(out, one)
	}
	return out
}

// seen are the snapshots that are whole and not hidden, oldest first.
func seen(snaps []db.VolumeSnapshot) []db.VolumeSnapshot {
	snaps = slices.DeleteFunc(slices.Clone(snaps), func(s db.VolumeSnapshot) bool { return s.Status != db.Ready || storage.Hidden(s.Name) })
	slices.SortStableFunc(snaps, func(a, b db.VolumeSnapshot) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return snaps
}

// Snapshot returns a snapshot of a volume.
func (s *Service) Snapshot(ctx context.Context, at Place) (api.StorageVolumeSnapshot, error) {
	all, err := s.Snapshots(ctx, at.Pool, at.Type, at.Volume)
	if err != nil {
		return api.StorageVolumeSnapshot{}, err
	}
	for _, snap := range all {
		if snap.Name == at.Snapshot {
			return snap, nil
		}
	}
	return api.StorageVolumeSnapshot{}, errs.NotFoundf("snapshot %q of volume %q not found in storage pool %q", at.Snapshot, at.Volume, at.Pool)
}

// A Place names a snapshot of a volume of any type.
type Place struct{ Pool, Type, Volume, Snapshot string }

// exists returns an error of kind [errs.NotFound] if a custom volume has no
// such snapshot, whole.
func (s *Service) exists(ctx context.Context, ref Ref, name string) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := loadTx(ctx, tx, ref); err != nil {
			return poolFirst(ctx, tx, ref, err)
		}
		snap, err := db.GetVolumeSnapshot(ctx, tx, ref, name)
		if err == nil && (snap.Status != db.Ready || storage.Hidden(name)) {
			err = errs.NotFoundf("snapshot %q of volume %q not found: it is being created or deleted", name, ref.Name)
		}
		return err
	})
}

// objects are what operations on the same volumes have in common.
func objects(refs ...Ref) []string {
	out := make([]string, 0, len(refs))
	for _, ref := range refs {
		out = append(out, "volume/"+ref.String())
	}
	return out
}

func resources(ref Ref) map[string][]string {
	return map[string][]string{"storage_volumes": {url(ref)}}
}

func snapshotJob(description string, ref Ref, snapshot string) ops.Job {
	r := resources(ref)
	r["storage_volume_snapshots"] = []string{snapshotURL(ref, snapshot)}
	return ops.Job{Description: description, Objects: objects(ref), Resources: r}
}

// A newSnapshot says what snapshot is to be made.
type newSnapshot struct {
	name, description string
	id                string
	expires           time.Time
	replace           bool       // It takes the place of one that has its name.
	also              clock.Done // Done in the transaction that makes it ready, if it is not nil.
}

// CreateSnapshot checks a request for a snapshot. Instances that use the
// volume are frozen while the job makes it.
func (s *Service) CreateSnapshot(ctx context.Context, ref Ref, req api.StorageVolumeSnapshotsPost) (ops.Job, error) {
	v, err := s.load(ctx, ref)
	if err != nil {
		return ops.Job{}, err
	}
	if req.Name == "" {
		if req.Name, err = s.nextSnapshot(ctx, v, time.Now()); err != nil {
			return ops.Job{}, err
		}
	}
	if err := profiles.CheckSnapshotName(req.Name); err != nil {
		return ops.Job{}, err
	}
	made := newSnapshot{name: req.Name, description: req.Description, id: req.ID, replace: req.Replace}
	if req.ExpiresAt != nil {
		made.expires = *req.ExpiresAt
	} else if made.expires, err = profiles.Expiry(cmp.Or(v.Config["snapshots.expiry.manual"], v.Config["snapshots.expiry"]), time.Now()); err != nil {
		return ops.Job{}, err
	}
	if err := s.freeSnapshot(ctx, ref, req.Name); err != nil && (!req.Replace || !errs.Is(err, errs.Conflict)) {
		return ops.Job{}, err
	}
	job := snapshotJob("Snapshotting volume", ref, req.Name)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		return s.createSnapshot(ctx, ref, made)
	}
	return job, nil
}

// freeSnapshot returns an error of kind [errs.Conflict] if the name is taken.
func (s *Service) freeSnapshot(ctx context.Context, ref Ref, name string) error {
	err := s.exists(ctx, ref, name)
	switch {
	case err == nil:
		return errs.Conflictf("snapshot %q of volume %q in storage pool %q exists already", name, ref.Name, ref.Pool)
	case errs.Is(err, errs.NotFound):
		return nil
	}
	return err
}

// nextSnapshot makes up a name by snapshots.pattern.
func (s *Service) nextSnapshot(ctx context.Context, v db.Volume, now time.Time) (string, error) {
	var taken []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, err := db.VolumeSnapshots(ctx, tx, v.VolumeRef)
		taken = taken[:0]
		for _, snap := range have {
			taken = append(taken, snap.Name)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return profiles.SnapshotName(v.Config["snapshots.pattern"], taken, now)
}

// createSnapshot claims a volume and makes a snapshot of it.
func (s *Service) createSnapshot(ctx context.Context, ref Ref, req newSnapshot) error {
	release, err := s.claims.take("snapshotted", ref)
	if err != nil {
		return err
	}
	defer release()
	take := s.makeSnapshot
	if req.replace {
		take = s.replaceSnapshot
	}
	if err := take(ctx, ref, req); err != nil {
		return fmt.Errorf("snapshot volume %q: %w", ref.Name, s.withRoom(ctx, ref.Pool, err))
	}
	s.snapshotEvent("storage-volume-snapshot-created", ref, req.name, nil)
	return nil
}

func (s *Service) snapshotEvent(action string, ref Ref, snapshot string, details map[string]any) {
	s.Events.Lifecycle(action, snapshotURL(ref, snapshot), details)
}

func (s *Service) makeSnapshot(ctx context.Context, ref Ref, req newSnapshot) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return err
	}
	row := db.VolumeSnapshot{Volume: ref, Name: req.name, Status: db.Pending, Description: req.description, Expires: req.expires}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := loadTx(ctx, tx, ref)
		if err != nil {
			return err
		}
		row.Config = visible(v.Config)
		row.Config[keyID] = cmp.Or(req.id, uuid.New())
		tx.Changed(db.OfVolumeSnapshots, ref.Pool, ref.Name)
		return db.AddVolumeSnapshot(ctx, tx, &row)
	})
	if err != nil {
		return err
	}
	u.Push("forget the snapshot", func(ctx context.Context) error { return s.forgetSnapshot(ctx, ref, req.name) })

	sv := snapshotVolume(ref, req.name)
	if err := s.still(ctx, ref, func() error { return d.Snapshot(ctx, sv) }); err != nil {
		return err
	}
	u.Push("delete the volume's snapshot", func(ctx context.Context) error { return d.Delete(ctx, sv) })
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if req.also != nil {
			if err := req.also(ctx, tx); err != nil {
				return err
			}
		}
		return db.SetVolumeSnapshotStatus(ctx, tx, db.VolumeSnapshot{Volume: ref, Name: req.name, Status: db.Ready})
	})
}

func (s *Service) markSnapshot(ctx context.Context, ref Ref, snapshot string, status db.Status) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetVolumeSnapshotStatus(ctx, tx, db.VolumeSnapshot{Volume: ref, Name: snapshot, Status: status})
	})
}

// UpdateSnapshot changes a snapshot's expiry and description.
func (s *Service) UpdateSnapshot(ctx context.Context, ref Ref, snapshot string, put api.StorageVolumeSnapshotPut) error {
	if err := s.exists(ctx, ref, snapshot); err != nil {
		return err
	}
	row := db.VolumeSnapshot{Volume: ref, Name: snapshot, Description: put.Description}
	if put.ExpiresAt != nil {
		row.Expires = *put.ExpiresAt
	}
	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdateVolumeSnapshot(ctx, tx, row) }); err != nil {
		return err
	}
	s.snapshotEvent("storage-volume-snapshot-updated", ref, snapshot, nil)
	return nil
}

// RenameSnapshot checks a request for another name of a snapshot.
func (s *Service) RenameSnapshot(ctx context.Context, ref Ref, snapshot string, req api.StorageVolumeSnapshotPost) (ops.Job, error) {
	if err := s.exists(ctx, ref, snapshot); err != nil {
		return ops.Job{}, err
	}
	to := strings.TrimPrefix(req.Name, ref.Name+"/") // Some clients send both names.
	if err := profiles.CheckSnapshotName(to); err != nil {
		return ops.Job{}, err
	}
	if err := s.freeSnapshot(ctx, ref, to); err != nil {
		return ops.Job{}, err
	}
	job := snapshotJob("Renaming snapshot", ref, snapshot)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		release, err := s.claims.take("changed", ref)
		if err != nil {
			return err
		}
		defer release()
		if err := s.renameSnapshot(ctx, ref, snapshot, to); err != nil {
			return fmt.Errorf("rename snapshot %q of volume %q: %w", snapshot, ref.Name, err)
		}
		s.snapshotEvent("storage-volume-snapshot-renamed", ref, to, map[string]any{"old_name": snapshot})
		return nil
	}
	return job, nil
}

// renameSnapshot writes down first what is renamed: Recover takes back what a
// crash cut short.
func (s *Service) renameSnapshot(ctx context.Context, ref Ref, from, to string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	v, d, unlock, err := s.idleSnapshot(ctx, ref, from)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.patch(ctx, &v, map[string]string{keySnapshot: from + "/" + to}); err != nil {
		return err
	}
	u.Push("unmark the volume", func(ctx context.Context) error { return s.patch(ctx, &v, map[string]string{keySnapshot: ""}) })

	if err := d.Rename(ctx, snapshotVolume(ref, from), to); err != nil {
		return err
	}
	u.Push("rename the volume's snapshot back", func(ctx context.Context) error { return d.Rename(ctx, snapshotVolume(ref, to), from) })
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.RenameVolumeSnapshot(ctx, tx, db.VolumeSnapshot{Volume: ref, Name: from}, to); err != nil {
			return err
		}
		return db.PatchVolumeConfig(ctx, tx, ref, map[string]string{keySnapshot: ""})
	})
}

// DeleteSnapshot checks that a snapshot can be deleted: also one that is not
// whole, as a deletion can leave it that ended too early.
func (s *Service) DeleteSnapshot(ctx context.Context, ref Ref, snapshot string) (ops.Job, error) {
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetVolumeSnapshot(ctx, tx, ref, snapshot)
		return err
	})
	if err == nil && storage.Hidden(snapshot) {
		err = errs.NotFoundf("snapshot %q of volume %q not found", snapshot, ref.Name)
	}
	if err != nil {
		return ops.Job{}, err
	}
	job := snapshotJob("Deleting snapshot", ref, snapshot)
	job.Run = func(ctx context.Context, _ *ops.Op) error { return s.deleteSnapshot(ctx, ref, snapshot) }
	return job, nil
}

// deleteSnapshot claims a volume and deletes a snapshot of it.
func (s *Service) deleteSnapshot(ctx context.Context, ref Ref, snapshot string) error {
	ctx = db.Freeing(ctx)
	release, err := s.claims.take("changed", ref)
	if err != nil {
		return err
	}
	defer release()
	if err := s.removeSnapshot(ctx, ref, snapshot); err != nil {
		return fmt.Errorf("delete snapshot %q of volume %q: %w", snapshot, ref.Name, err)
	}
	s.snapshotEvent("storage-volume-snapshot-deleted", ref, snapshot, nil)
	return nil
}

// removeSnapshot marks the record first: from then on a crash ends in the
// deletion. If the pool fails the snapshot is whole again.
func (s *Service) removeSnapshot(ctx context.Context, ref Ref, snapshot string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	_, d, unlock, err := s.idleSnapshot(ctx, ref, snapshot)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.markSnapshot(ctx, ref, snapshot, db.Pending); err != nil {
		return err
	}
	u.Push("unmark the snapshot", func(ctx context.Context) error { return s.markSnapshot(ctx, ref, snapshot, db.Ready) })

	if err := d.Delete(ctx, snapshotVolume(ref, snapshot)); err != nil {
		return err
	}
	u = undo.Stack{} // What is left is a record; Recover deletes it, too.
	return s.forgetSnapshot(ctx, ref, snapshot)
}
