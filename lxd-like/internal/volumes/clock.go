package volumes

import (
	"context"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// Tick makes the snapshots that are due by their volumes' snapshots.schedule,
// and deletes those whose time is over. The daemon calls it every minute. What
// goes wrong with one volume does not keep the others.
func (s *Service) Tick(ctx context.Context, now time.Time) error {
	var all []db.Volume
	var done map[string]time.Time
	var expired []db.VolumeSnapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if all, err = db.Volumes(ctx, tx); err != nil {
			return err
		}
		if done, err = db.Schedules(ctx, tx, scheduled("")); err != nil {
			return err
		}
		expired, err = db.ExpiredVolumeSnapshots(ctx, tx, now)
		return err
	})
	if err != nil {
		return err
	}
	for _, snap := range expired {
		err := s.deleteSnapshot(ctx, snap.Volume, snap.Name)
		if err != nil && !errs.Is(err, errs.NotFound) {
			s.Log.WarnContext(ctx, "cannot delete an expired snapshot", "volume", snap.Volume.String(), "snapshot", snap.Name, "err", err)
		}
	}
	known := map[string]bool{}
	for _, v := range all {
		what := scheduled(v.String())
		known[what] = true
		if v.Status != db.Ready || v.Config["snapshots.schedule"] == "" {
			continue
		}
		if err := s.tick(ctx, v, done[what], now); err != nil {
			s.Log.WarnContext(ctx, "cannot make the scheduled snapshot of a volume", "volume", v.String(), "err", err)
		}
	}
	return s.forgetSchedules(ctx, done, known)
}

// scheduled names the schedule of a volume's snapshots.
func scheduled(ref string) string { return "volume-snapshots/" + ref }

// tick makes a snapshot of a volume if one is due. One that has just got its
// schedule waits for its first time.
func (s *Service) tick(ctx context.Context, v db.Volume, done, now time.Time) error {
	schedule, err := profiles.ParseSchedule(v.Config["snapshots.schedule"])
	if err != nil {
		return err
	}
	if !done.IsZero() {
		next := schedule.Next(done)
		if next.IsZero() || next.After(now) {
			return nil
		}
	}
	// Before it is made: a volume that fails is not tried every minute.
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetSchedule(ctx, tx, scheduled(v.String()), now)
	})
	if err != nil || done.IsZero() {
		return err
	}
	name, err := s.nextSnapshot(ctx, v, now)
	if err != nil {
		return err
	}
	expires, err := profiles.Expiry(v.Config["snapshots.expiry"], now)
	if err != nil {
		return err
	}
	return s.createSnapshot(ctx, v.VolumeRef, newSnapshot{name: name, expires: expires})
}

// forgetSchedules forgets when snapshots of volumes were made that are no more.
func (s *Service) forgetSchedules(ctx context.Context, done map[string]time.Time, known map[string]bool) error {
	var gone []string
	for what := range done {
		if !known[what] {
			gone = append(gone, what)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, what := range gone {
			if err := db.DeleteSchedule(ctx, tx, what); err != nil {
				return err
			}
		}
		return nil
	})
}
