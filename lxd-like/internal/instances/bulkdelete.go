package instances

import (
	"context"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// DeleteSnapshots checks that snapshots of an instance can be deleted. The job
// deletes them one after the other, and says of the first that it cannot; it
// asks the database twice for all of them.
func (s *Service) DeleteSnapshots(ctx context.Context, name string, snapshots []string) (ops.Job, error) {
	if len(snapshots) == 0 {
		return ops.Job{}, errs.Invalidf("names is empty: it is the snapshots to delete")
	}
	if err := noDuplicates("snapshot", snapshots); err != nil {
		return ops.Job{}, err
	}
	if err := s.haveSnapshots(ctx, name, snapshots); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Deleting snapshots", Objects: objects(name), Resources: resources(name), Cancelable: true,
		Run: func(ctx context.Context, _ *ops.Op) error {
			in, unlock, err := s.locked(ctx, name)
			if err != nil {
				return err
			}
			defer unlock()
			if err := s.haveSnapshots(ctx, name, snapshots); err != nil {
				return err
			}
			return s.deleteSnapshots(ctx, in, snapshots)
		},
	}, nil
}

// haveSnapshots reports a snapshot that an instance does not have.
func (s *Service) haveSnapshots(ctx context.Context, name string, snapshots []string) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetInstance(ctx, tx, name); err != nil {
			return err
		}
		all, err := db.SnapshotNamesOf(ctx, tx, name)
		if err != nil {
			return err
		}
		have := make(map[string]bool, len(all))
		for _, snapshot := range all {
			have[snapshot] = !storage.Hidden(snapshot)
		}
		for _, snapshot := range snapshots {
			if !have[snapshot] {
				return noSnapshot(name, snapshot)
			}
		}
		return nil
	})
}

// deleteSnapshots marks all records first: from then on a crash ends in the
// deletion of all. Those that are left after a failure are whole again.
func (s *Service) deleteSnapshots(ctx context.Context, in *instance, snapshots []string) error {
	ctx = db.Freeing(ctx)
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.markAll(ctx, in.Name, snapshots, db.Pending); err != nil {
		return err
	}
	gone := 0
	for _, snapshot := range snapshots {
		if err = ctx.Err(); err == nil {
			err = s.visits.end(ctx, visitKey(in.Name, snapshot))
		}
		if err == nil {
			err = d.Delete(ctx, in.snapshotVolume(snapshot))
		}
		if err != nil {
			err = fmt.Errorf("delete snapshot %q of instance %q: %w", snapshot, in.Name, err)
			break
		}
		gone++
	}
	ctx = context.WithoutCancel(ctx)
	if ferr := s.forgetAll(ctx, in.Name, snapshots[:gone], snapshots[gone:]); ferr != nil {
		if err != nil {
			return fmt.Errorf("%w; %w", err, ferr)
		}
		return ferr
	}
	for _, snapshot := range snapshots[:gone] {
		s.event("instance-snapshot-deleted", in.Name+"/snapshots/"+snapshot, nil)
	}
	return err
}

func (s *Service) markAll(ctx context.Context, name string, snapshots []string, status db.Status) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, snapshot := range snapshots {
			if err := db.SetSnapshotStatus(ctx, tx, name, snapshot, status); err != nil {
				return err
			}
		}
		return nil
	})
}

// forgetAll deletes the records of the snapshots that are gone, and makes the
// others ready again.
func (s *Service) forgetAll(ctx context.Context, name string, gone, left []string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, snapshot := range gone {
			if err := db.DeleteSnapshot(ctx, tx, name, snapshot); err != nil {
				return err
			}
		}
		for _, snapshot := range left {
			if err := db.SetSnapshotStatus(ctx, tx, name, snapshot, db.Ready); err != nil {
				return err
			}
		}
		return nil
	})
}
