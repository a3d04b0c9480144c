package volumes

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// Tick makes the snapshots that are due and deletes those whose time is over.
// The daemon calls it every minute. What goes wrong with one volume does not
// keep the others.
func (s *Service) Tick(ctx context.Context, now time.Time) error {
	var all []db.Volume
	var expired []db.VolumeSnapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if all, err = db.Volumes(ctx, tx); err != nil {
			return err
		}
		expired, err = db.ExpiredVolumeSnapshots(ctx, tx, now)
		return err
	})
	if err != nil {
		return err
	}
	for _, snap := range expired {
		if storage.Hidden(snap.Name) {
			continue
		}
		err := s.deleteSnapshot(ctx, snap.Volume, snap.Name)
		if err != nil && !errs.Is(err, errs.NotFound) {
			s.Log.WarnContext(ctx, "cannot delete an expired snapshot", "volume", snap.Volume.String(), "snapshot", snap.Name, "err", err)
		}
	}
	tasks := []clock.Task{}
	for _, v := range all {
		schedule := v.Config["snapshots.schedule"]
		if v.Status != db.Ready || schedule == "" {
			continue
		}
		tasks = append(tasks, clock.Task{
			Key: "volume/" + strconv.FormatInt(v.ID, 10), Schedule: schedule, About: url(v.VolumeRef),
			Do: func(ctx context.Context, done clock.Done) error { return s.snapshotDue(ctx, v.VolumeRef, done) },
		})
	}
	return s.snapshotClock().Tick(ctx, now, tasks)
}

func (s *Service) snapshotClock() *clock.Clock {
	s.dueOnce.Do(func() {
		s.due = &clock.Clock{DB: s.DB, Prefix: "volume-snapshots ", Logger: s.Log, Warnings: s.Warnings}
	})
	return s.due
}

// snapshotDue makes a snapshot of a volume by its schedule.
func (s *Service) snapshotDue(ctx context.Context, ref Ref, done clock.Done) error {
	v, err := s.load(ctx, ref)
	if err != nil {
		return err
	}
	allowed := s.DB.Allowed(ctx, db.ProjectObject{Kind: db.OfVolumeSnapshots, Pool: ref.Pool, Key: ref.Name})
	if errs.Is(allowed, errs.Denied) {
		return s.DB.Do(ctx, done) // It is not to be done, now or later.
	}
	now := time.Now()
	name, err := s.nextSnapshot(ctx, v, now)
	if err != nil {
		return err
	}
	expires, err := profiles.Expiry(v.Config["snapshots.expiry"], now)
	if err != nil {
		return fmt.Errorf("snapshots.expiry: %w", err)
	}
	return s.createSnapshot(ctx, ref, newSnapshot{name: name, expires: expires, also: done})
}
