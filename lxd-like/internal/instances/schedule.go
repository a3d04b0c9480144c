package instances

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/mirror"
	"github.com/cuib/cuib/profiles"
)

// Tick makes the snapshots that are due and deletes those whose time is over.
// The daemon calls it every minute.
func (s *Service) Tick(ctx context.Context, now time.Time) error {
	if err := s.Expire(ctx, now); err != nil {
		return fmt.Errorf("look for expired snapshots: %w", err)
	}
	s.dueOnce.Do(s.startClock)
	tasks := []clock.Task{}
	err := s.scheduled.Read(ctx, s.DB, func(names []string, all map[string]scheduled) {
		for _, name := range names {
			one := all[name]
			if one.schedule == "" {
				continue
			}
			tasks = append(tasks, clock.Task{
				Key: "instance/" + strconv.FormatInt(one.id, 10), Schedule: one.schedule, About: instanceURL(name),
				Do: func(ctx context.Context, done clock.Done) error { return s.snapshotDue(ctx, name, done) },
			})
		}
	})
	if err != nil {
		return err
	}
	return s.due.Tick(ctx, now, tasks)
}

// scheduled is what is known of an instance for its snapshots.
type scheduled struct {
	id       int64
	schedule string // Empty for none.
}

func scheduleOf(in db.Instance, expanded profiles.Config) scheduled {
	if in.Status != db.Ready {
		return scheduled{}
	}
	return scheduled{in.ID, expanded.Options["snapshots.schedule"]}
}

func (s *Service) startClock() {
	s.due = &clock.Clock{DB: s.DB, Prefix: "snapshots ", Logger: s.Logger, Warnings: s.Warnings}
	s.scheduled = mirror.New(scheduleOf)
}

// snapshotDue makes a snapshot of an instance by its schedule, unless it does
// not run and there are to be none then.
func (s *Service) snapshotDue(ctx context.Context, name string, done clock.Done) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if s.mayNotSnapshot(ctx, name) {
		return s.DB.Do(ctx, done) // It is not to be done, now or later.
	}
	if s.index.get(name) == nil && !isTrue(in.expanded.Options["snapshots.schedule.stopped"]) {
		if in.Config[keyPower] == powerOn {
			return clock.ErrLater // It ran when the host went down, and starts soon.
		}
		return s.DB.Do(ctx, done)
	}
	if err := s.snapshotNow(ctx, in, done); err != nil {
		return fmt.Errorf("snapshot instance %q: %w", name, s.withRoom(ctx, in.Pool, err))
	}
	return nil
}

// snapshotNow makes a snapshot that nobody asked for of an instance whose lock
// is held.
func (s *Service) snapshotNow(ctx context.Context, in *instance, done clock.Done) error {
	name, err := s.nextSnapshot(ctx, in)
	if err != nil {
		return err
	}
	expires, err := profiles.Expiry(in.expanded.Options["snapshots.expiry"], time.Now())
	if err != nil {
		return err
	}
	return s.createSnapshot(ctx, in, newSnapshot{name: name, expires: expires, also: done})
}

// snapshotAtStart makes the snapshot that an instance gets when it starts, if
// its schedule says so. One that cannot be made is no reason not to start.
func (s *Service) snapshotAtStart(ctx context.Context, in *instance, how starting) {
	schedule, err := profiles.ParseSchedule(in.expanded.Options["snapshots.schedule"])
	if err != nil || !schedule.Startup || s.mayNotSnapshot(ctx, in.Name) || in.Status != db.Ready || len(how.deaths) > 0 {
		return
	}
	if err := s.snapshotNow(ctx, in, nil); err != nil {
		s.Logger.ErrorContext(ctx, "cannot make the snapshot that is due at the start", "instance", in.Name, "err", err)
	}
}
