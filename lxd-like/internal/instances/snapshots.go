package instances

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Snapshots returns the snapshots of an instance, oldest first.
func (s *Service) Snapshots(ctx context.Context, name string) ([]api.InstanceSnapshot, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return nil, err
	}
	snaps, err := s.wholeSnapshots(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := s.apiSnapshots(ctx, snaps)
	if err != nil {
		return nil, err
	}
	s.measureSnapshots(ctx, in, all)
	return all, nil
}

// Snapshot returns a snapshot.
func (s *Service) Snapshot(ctx context.Context, name, snapshot string) (api.InstanceSnapshot, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return api.InstanceSnapshot{}, err
	}
	snap, err := s.snapshot(ctx, name, snapshot)
	if err != nil {
		return api.InstanceSnapshot{}, err
	}
	all, err := s.apiSnapshots(ctx, []db.Snapshot{snap})
	if err != nil {
		return api.InstanceSnapshot{}, err
	}
	s.measureSnapshots(ctx, in, all)
	return all[0], nil
}

func (s *Service) apiSnapshots(ctx context.Context, snaps []db.Snapshot) ([]api.InstanceSnapshot, error) {
	out := make([]api.InstanceSnapshot, 0, len(snaps))
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Profiles(ctx, tx)
		if err != nil {
			return err
		}
		out = out[:0]
		byName := profilesByName(all)
		for _, snap := range snaps {
			out = append(out, apiSnapshot(snap, byName))
		}
		return nil
	})
	return out, err
}

func apiSnapshot(snap db.Snapshot, byName map[string]db.Profile) api.InstanceSnapshot {
	own := profiles.Config{Options: snap.Config, Devices: snap.Devices}
	expanded := expand(own, choose(byName, snap.Profiles))
	return api.InstanceSnapshot{
		InstanceSnapshotPut: writable(snap),
		Architecture:        snap.Architecture, Config: apiConfig(snap.Config), Devices: apiDevices(snap.Devices),
		CreatedAt: snap.Created, LastUsedAt: snap.LastUsed, Ephemeral: snap.Ephemeral, Stateful: snap.Stateful,
		ExpandedConfig: apiConfig(expanded.Options), ExpandedDevices: apiDevices(expanded.Devices),
		Name: snap.Name, Profiles: orEmpty(snap.Profiles), Size: -1,
	}
}

// wholeSnapshots returns the snapshots that are whole, oldest first.
func (s *Service) wholeSnapshots(ctx context.Context, name string) ([]db.Snapshot, error) {
	var snaps []db.Snapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		snaps, err = db.Snapshots(ctx, tx, name)
		return err
	})
	return whole(snaps), err
}

// whole leaves out what is being made or deleted, and what is hidden.
func whole(snaps []db.Snapshot) []db.Snapshot {
	snaps = slices.DeleteFunc(snaps, func(s db.Snapshot) bool { return s.Status != db.Ready || storage.Hidden(s.Name) })
	slices.SortStableFunc(snaps, func(a, b db.Snapshot) int { return cmp.Compare(a.ID, b.ID) })
	return snaps
}

// snapshot reads a snapshot that is whole.
func (s *Service) snapshot(ctx context.Context, name, snapshot string) (snap db.Snapshot, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		snap, err = snapshotTx(ctx, tx, name, snapshot)
		return err
	})
	return snap, err
}

func snapshotTx(ctx context.Context, tx *db.Tx, name, snapshot string) (db.Snapshot, error) {
	if storage.Hidden(snapshot) {
		return db.Snapshot{}, noSnapshot(name, snapshot)
	}
	snap, err := db.GetSnapshot(ctx, tx, name, snapshot)
	if err == nil && snap.Status != db.Ready {
		err = errs.NotFoundf("snapshot %q of instance %q not found: it is being created or deleted", snapshot, name)
	}
	return snap, err
}

func noSnapshot(name, snapshot string) error {
	return errs.NotFoundf("snapshot %q of instance %q not found", snapshot, name)
}

// CreateSnapshot checks a request for a snapshot. The guest is frozen while
// the job makes it.
func (s *Service) CreateSnapshot(ctx context.Context, name string, req api.InstanceSnapshotsPost) (ops.Job, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	if req.Stateful {
		return ops.Job{}, errs.Newf(errs.Unsupported, "stateful snapshots are not supported")
	}
	if req.Name == "" {
		if req.Name, err = s.nextSnapshot(ctx, in); err != nil {
			return ops.Job{}, err
		}
	}
	if err := profiles.CheckSnapshotName(req.Name); err != nil {
		return ops.Job{}, err
	}
	expires, err := snapshotExpiry(in, req.ExpiresAt)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.freeSnapshot(ctx, name, req.Name); err != nil && (!req.Replace || !errs.Is(err, errs.Conflict)) {
		return ops.Job{}, err
	}
	volumes, err := s.disksOf(ctx, in, "disk_volumes_mode", req.Volumes)
	if err != nil {
		return ops.Job{}, err
	}
	job := snapshotJob("Snapshotting instance", name, req.Name)
	job.Run = func(ctx context.Context, op *ops.Op) error {
		want := newSnapshot{name: req.Name, description: req.Description, expires: expires}
		take := s.snapshotAll
		if req.Replace {
			take = s.replaceSnapshot
		}
		if err := take(ctx, name, want, volumes); err != nil {
			return fmt.Errorf("snapshot instance %q: %w", name, s.withRoom(ctx, in.Pool, err))
		}
		s.warnDelegated(ctx, in, op)
		return nil
	}
	return job, nil
}

// freeSnapshot returns an error of kind [errs.Conflict] if the name is taken.
func (s *Service) freeSnapshot(ctx context.Context, name, snapshot string) error {
	_, err := s.snapshot(ctx, name, snapshot)
	if err == nil {
		return errs.Conflictf("snapshot %q of instance %q exists already", snapshot, name)
	}
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

func snapshotJob(description, name, snapshot string) ops.Job {
	r := resources(name)
	r["instances_snapshots"] = []string{snapshotURL(name, snapshot)}
	return ops.Job{Description: description, Objects: objects(name), Resources: r}
}

func snapshotURL(name, snapshot string) string { return instanceURL(name) + "/snapshots/" + snapshot }

type newSnapshot struct {
	name, description string
	expires           time.Time
	also              func(context.Context, *db.Tx) error // In the transaction in which it becomes ready; nil for nothing.
	volumes           map[db.VolumeRef]string             // Ids of the snapshots of volumes that are made with it.
}

// createSnapshot makes a snapshot of in, whose lock is held.
func (s *Service) createSnapshot(ctx context.Context, in *instance, req newSnapshot) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	snap := db.Snapshot{
		Instance: in.Name, Name: req.name, Status: db.Pending, Architecture: in.Architecture, Description: req.description,
		Ephemeral: in.Ephemeral, Config: in.Config, Devices: in.Devices, Profiles: in.Profiles, LastUsed: in.LastUsed, Expires: req.expires,
	}
	if text, err := attached(in, req.volumes); err != nil || text != "" {
		if err != nil {
			return err
		}
		snap.Config = maps.Clone(snap.Config)
		snap.Config[keyAttached] = text
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		tx.Changed(db.OfSnapshots, "", in.Name)
		return db.AddSnapshot(ctx, tx, &snap)
	})
	if err != nil {
		return err
	}
	u.Push("forget the snapshot", func(ctx context.Context) error { return s.forgetSnapshot(ctx, in.Name, req.name) })

	v := in.snapshotVolume(req.name)
	if err := s.still(ctx, in.Name, func() error { return d.Snapshot(ctx, v) }); err != nil {
		return err
	}
	u.Push("delete the volume's snapshot", func(ctx context.Context) error { return d.Delete(ctx, v) })

	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.SetSnapshotStatus(ctx, tx, in.Name, req.name, db.Ready); err != nil || req.also == nil {
			return err
		}
		return req.also(ctx, tx)
	})
	if err != nil {
		return err
	}
	s.event("instance-snapshot-created", in.Name+"/snapshots/"+req.name, nil)
	return nil
}

func (s *Service) forgetSnapshot(ctx context.Context, name, snapshot string) error {
	return s.DB.Do(db.Freeing(ctx), func(ctx context.Context, tx *db.Tx) error {
		if err := db.DeleteSnapshot(ctx, tx, name, snapshot); !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}

// RenameSnapshot checks a request for another name of a snapshot.
func (s *Service) RenameSnapshot(ctx context.Context, name, snapshot string, req api.InstanceSnapshotPost) (ops.Job, error) {
	if _, err := s.snapshot(ctx, name, snapshot); err != nil {
		return ops.Job{}, err
	}
	if req.Migration {
		return ops.Job{}, errs.Newf(errs.Unsupported, "moving snapshots to other servers is not supported")
	}
	if err := profiles.CheckSnapshotName(req.Name); err != nil {
		return ops.Job{}, err
	}
	if err := s.freeSnapshot(ctx, name, req.Name); err != nil {
		return ops.Job{}, err
	}
	job := snapshotJob("Renaming snapshot", name, snapshot)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		in, unlock, err := s.locked(ctx, name)
		if err != nil {
			return err
		}
		defer unlock()
		if err := s.renameSnapshot(ctx, in, snapshot, req.Name); err != nil {
			return fmt.Errorf("rename snapshot %q of instance %q: %w", snapshot, name, err)
		}
		s.event("instance-snapshot-renamed", name+"/snapshots/"+req.Name, map[string]any{"old_name": snapshot})
		return nil
	}
	return job, nil
}

// renameSnapshot renames the volume's snapshot and then the record. A crash
// between the two is told by the volume that has no record, and the record
// that has no volume: see [Service.recoverSnapshots].
func (s *Service) renameSnapshot(ctx context.Context, in *instance, from, to string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.visits.end(ctx, visitKey(in.Name, from)); err != nil {
		return err
	}
	if err := d.Rename(ctx, in.snapshotVolume(from), to); err != nil {
		return err
	}
	u.Push("rename the volume's snapshot back", func(ctx context.Context) error {
		return d.Rename(ctx, in.snapshotVolume(to), from)
	})
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.RenameSnapshot(ctx, tx, in.Name, from, to)
	})
}

// UpdateSnapshot checks a change of a snapshot's expiry and description.
func (s *Service) UpdateSnapshot(ctx context.Context, name, snapshot string, change Change[api.InstanceSnapshotPut]) (ops.Job, error) {
	snap, err := s.snapshot(ctx, name, snapshot)
	if err != nil {
		return ops.Job{}, err
	}
	if _, err := change(writable(snap)); err != nil {
		return ops.Job{}, err
	}
	job := snapshotJob("Updating snapshot", name, snapshot)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			snap, err := db.GetSnapshot(ctx, tx, name, snapshot)
			if err != nil {
				return err
			}
			put, err := change(writable(snap))
			if err != nil {
				return err
			}
			snap.Expires, snap.Description = put.ExpiresAt, put.Description
			return db.UpdateSnapshot(ctx, tx, snap)
		})
		if err == nil {
			s.event("instance-snapshot-updated", name+"/snapshots/"+snapshot, nil)
		}
		return err
	}
	return job, nil
}

func writable(snap db.Snapshot) api.InstanceSnapshotPut {
	return api.InstanceSnapshotPut{ExpiresAt: snap.Expires, Description: snap.Description}
}

// DeleteSnapshot checks that a snapshot can be deleted: also one that is not
// whole, as a deletion can leave it that ended too early.
func (s *Service) DeleteSnapshot(ctx context.Context, name, snapshot string) (ops.Job, error) {
	if storage.Hidden(snapshot) {
		return ops.Job{}, noSnapshot(name, snapshot)
	}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetSnapshot(ctx, tx, name, snapshot)
		return err
	})
	if err != nil {
		return ops.Job{}, err
	}
	job := snapshotJob("Deleting snapshot", name, snapshot)
	job.Run = func(ctx context.Context, _ *ops.Op) error {
		in, unlock, err := s.locked(ctx, name)
		if err != nil {
			return err
		}
		defer unlock()
		if err := s.deleteSnapshot(ctx, in, snapshot); err != nil {
			return fmt.Errorf("delete snapshot %q of instance %q: %w", snapshot, name, err)
		}
		s.event("instance-snapshot-deleted", name+"/snapshots/"+snapshot, nil)
		return nil
	}
	return job, nil
}

// deleteSnapshot marks the record first: from then on a crash ends in the
// deletion. If the pool fails the snapshot is whole again.
func (s *Service) deleteSnapshot(ctx context.Context, in *instance, snapshot string) (err error) {
	ctx = db.Freeing(ctx)
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.visits.end(ctx, visitKey(in.Name, snapshot)); err != nil {
		return err
	}
	if err := s.markSnapshot(ctx, in.Name, snapshot, db.Pending); err != nil {
		return err
	}
	u.Push("unmark the snapshot", func(ctx context.Context) error {
		return s.markSnapshot(ctx, in.Name, snapshot, db.Ready)
	})
	if err := d.Delete(ctx, in.snapshotVolume(snapshot)); err != nil {
		return err
	}
	u = undo.Stack{} // What is left is a record; Recover deletes it, too.
	return s.forgetSnapshot(ctx, in.Name, snapshot)
}

func (s *Service) markSnapshot(ctx context.Context, name, snapshot string, status db.Status) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetSnapshotStatus(ctx, tx, name, snapshot, status)
	})
}

// nextSnapshot makes up a name by snapshots.pattern.
func (s *Service) nextSnapshot(ctx context.Context, in *instance) (string, error) {
	var taken []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		taken, err = db.SnapshotNamesOf(ctx, tx, in.Name)
		return err
	})
	if err != nil {
		return "", err
	}
	return profiles.SnapshotName(in.expanded.Options["snapshots.pattern"], taken, time.Now())
}

// snapshotExpiry is when a new snapshot expires: as the request says, or as
// the configuration does.
func snapshotExpiry(in *instance, asked *time.Time) (time.Time, error) {
	if asked != nil {
		return *asked, nil
	}
	span := in.expanded.Options["snapshots.expiry.manual"]
	if span == "" {
		span = in.expanded.Options["snapshots.expiry"]
	}
	return profiles.Expiry(span, time.Now())
}

// Expire deletes the snapshots whose time is over.
func (s *Service) Expire(ctx context.Context, now time.Time) error {
	var over []db.SnapshotName
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		over, err = db.ExpiredSnapshots(ctx, tx, now)
		return err
	})
	for _, snap := range over {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // The next daemon goes on.
		}
		if eerr := s.expire(ctx, snap.Instance, snap.Name); eerr != nil && !errs.Is(eerr, errs.NotFound) {
			s.Logger.WarnContext(ctx, "cannot delete an expired snapshot", "instance", snap.Instance, "snapshot", snap.Name, "err", eerr)
		}
	}
	return err
}

func (s *Service) expire(ctx context.Context, name, snapshot string) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.deleteSnapshot(ctx, in, snapshot); err != nil {
		return err
	}
	s.event("instance-snapshot-deleted", name+"/snapshots/"+snapshot, nil)
	return nil
}
