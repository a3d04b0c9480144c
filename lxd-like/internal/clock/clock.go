// Package clock does what is due by a schedule: never twice for one time, also
// if the daemon ends meanwhile, and once for all the times that passed while
// there was no daemon.
package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/profiles"
)

// retry is how long something that failed is left alone.
const retry = 5 * time.Minute

// ErrLater is what a task fails with that cannot be done yet: the next tick
// tries again.
var ErrLater = errors.New("not yet")

// A Task is something that is done by a schedule.
type Task struct {
	Key      string // What never changes of it, such as "instance/12": names can.
	Schedule string // As [profiles.ParseSchedule] takes it.

	// Do does it. It calls done in the transaction that ends it, so that it is
	// done and known to be, or neither.
	Do func(ctx context.Context, done Done) error

	About string // The path in the API of what warnings are about when it fails.
}

// Done notes in a transaction that something is done.
type Done func(ctx context.Context, tx *db.Tx) error

// A Clock does tasks of one kind. The zero value needs what is exported.
type Clock struct {
	DB     *db.DB
	Prefix string // Of the kind, such as "snapshots ": others have others.
	Logger *slog.Logger

	Warnings *warnings.Service // Nil for none.

	mu     sync.Mutex         // Guards what follows, and makes one tick at a time.
	last   time.Time          // When the clock ticked last.
	failed map[string]failure // By what they are, see [Clock.what].
}

// A failure is that of a task which was not done since.
type failure struct {
	until time.Time // It is left alone.
	about string
}

// Tick does the tasks that are due, one after the other. These are all that
// there are: what is known of others is forgotten. What a task fails with is
// logged. It is called every minute or so.
//
// A task that was not there at the last tick is due at the first time of its
// schedule after that.
func (c *Clock) Tick(ctx context.Context, now time.Time, tasks []Task) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last.IsZero() {
		c.last, c.failed = now.Add(-time.Minute), map[string]failure{} // It ticks for the minute that has passed.
	}
	var known map[string]time.Time
	err := c.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		known, err = db.Schedules(ctx, tx, c.Prefix)
		return err
	})
	if err != nil {
		return err
	}
	c.forget(tasks)
	news, due := c.sort(now, tasks, known)
	c.last = now
	if err := c.note(ctx, news, known); err != nil {
		return err
	}
	for _, t := range due {
		if ctx.Err() != nil {
			return nil // The next daemon goes on.
		}
		c.do(ctx, now, t)
	}
	return nil
}

// what names a task and its schedule: with another schedule it was not done
// yet.
func (c *Clock) what(t Task) string { return c.Prefix + t.Key + " " + t.Schedule }

// forget drops failures of tasks that are not there any more.
func (c *Clock) forget(tasks []Task) {
	there := map[string]bool{}
	for _, t := range tasks {
		there[c.what(t)] = true
	}
	maps.DeleteFunc(c.failed, func(what string, _ failure) bool { return !there[what] })
}

// resolve says that what tasks are about is well again, unless another of its
// tasks has failed.
func (c *Clock) resolve(ctx context.Context, about string) {
	for _, f := range c.failed {
		if f.about == about {
			return
		}
	}
	c.Warnings.Resolve(ctx, warnings.ScheduleFailed, about)
}

// sort returns since when tasks are there that are new, and what is due. It
// takes those that are there from known.
func (c *Clock) sort(now time.Time, tasks []Task, known map[string]time.Time) (news map[string]time.Time, due []Task) {
	news = map[string]time.Time{}
	for _, t := range tasks {
		schedule, err := profiles.ParseSchedule(t.Schedule)
		if err != nil || t.Schedule == "" {
			continue
		}
		what := c.what(t)
		since, ok := known[what]
		if !ok {
			since = c.last
			news[what] = since
		}
		delete(known, what)
		if since.After(now) {
			since = now // The host's clock was set back.
			news[what] = since
		}
		if next := schedule.Next(since); next.IsZero() || next.After(now) || c.failed[what].until.After(now) {
			continue
		}
		due = append(due, t)
	}
	return news, due
}

// note writes down what is new, and forgets what is gone.
func (c *Clock) note(ctx context.Context, news, gone map[string]time.Time) error {
	if len(news)+len(gone) == 0 {
		return nil
	}
	return c.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, what := range slices.Sorted(maps.Keys(news)) {
			if err := db.SetSchedule(ctx, tx, what, news[what]); err != nil {
				return err
			}
		}
		for what := range gone {
			if err := db.DeleteSchedule(ctx, tx, what); err != nil {
				return err
			}
		}
		return nil
	})
}

// do does a task, and remembers when it may be tried again if it fails.
func (c *Clock) do(ctx context.Context, now time.Time, t Task) {
	what := c.what(t)
	noted := false
	err := t.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		noted = true
		return db.SetSchedule(ctx, tx, what, now)
	})
	if errors.Is(err, ErrLater) {
		return
	}
	if err == nil && !noted {
		err = fmt.Errorf("nobody noted that it is done")
	}
	if err == nil {
		delete(c.failed, what)
		c.resolve(ctx, t.About)
		return
	}
	c.failed[what] = failure{now.Add(retry), t.About}
	if ctx.Err() == nil {
		c.Logger.ErrorContext(ctx, "cannot do what is due", "what", t.Key, "schedule", t.Schedule, "err", err)
		c.Warnings.Raise(ctx, warnings.ScheduleFailed, t.About, err.Error())
	}
}
