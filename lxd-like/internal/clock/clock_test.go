package clock_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/clock"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/api"
)

// counter counts how often tasks are done.
type counter struct {
	t    *testing.T
	db   *db.DB
	n    map[string]int
	fail error
}

func (c *counter) clock() *clock.Clock {
	return &clock.Clock{DB: c.db, Prefix: "test ", Logger: slog.New(slog.DiscardHandler)}
}

func (c *counter) task(key, schedule string) clock.Task {
	return clock.Task{Key: key, Schedule: schedule, Do: func(ctx context.Context, done clock.Done) error {
		if c.fail != nil {
			return c.fail
		}
		c.n[key]++
		return c.db.Do(ctx, done)
	}}
}

func (c *counter) tick(k *clock.Clock, now string, tasks ...clock.Task) {
	c.t.Helper()
	at, err := time.ParseInLocation("02 15:04:05", now, time.Local)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := k.Tick(c.t.Context(), at.AddDate(2026, 0, 0), tasks); err != nil {
		c.t.Fatal(err)
	}
}

func (c *counter) want(key string, n int) {
	c.t.Helper()
	if c.n[key] != n {
		c.t.Errorf("%s was done %d times, want %d", key, c.n[key], n)
	}
}

func (c *counter) schedules() string {
	var all []string
	err := c.db.View(c.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		got, err := db.Schedules(ctx, tx, "")
		for what := range got {
			all = append(all, what)
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Join(all, "\n")
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	return &counter{t: t, db: dbtest.New(t), n: map[string]int{}}
}

func TestOnceForEachTime(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	k := c.clock()
	hourly := c.task("a", "@hourly")
	c.tick(k, "01 09:59:30", hourly)
	c.want("a", 0)
	c.tick(k, "01 10:00:00", hourly)
	c.want("a", 1)
	for _, now := range []string{"01 10:00:59", "01 10:01:30", "01 10:59:59"} {
		c.tick(k, now, hourly)
	}
	c.want("a", 1)
	c.tick(k, "01 11:00:30", hourly)
	c.want("a", 2)

	k = c.clock() // The daemon starts again within the same time, and much later.
	c.tick(k, "01 11:01:00", hourly)
	c.want("a", 2)
	k = c.clock()
	c.tick(k, "04 12:13:14", hourly)
	c.want("a", 3)
	c.tick(k, "04 12:14:14", hourly)
	c.want("a", 3)
}

func TestNewTasks(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	k := c.clock()
	c.tick(k, "01 09:00:30")
	c.tick(k, "01 09:59:30")
	c.tick(k, "01 10:00:30", c.task("a", "@hourly")) // It can be there since before ten.
	c.want("a", 1)
	c.tick(k, "01 10:01:30", c.task("a", "@hourly"), c.task("b", "@hourly"))
	c.want("b", 0)
	c.tick(k, "01 10:02:30", c.task("a", "@daily"), c.task("b", "0 0 * * *")) // Not since the last hour, but from now on.
	c.want("a", 1)
	c.want("b", 0)
	c.tick(k, "02 00:00:30", c.task("a", "@daily"), c.task("b", "0 0 * * *"))
	c.want("a", 2)
	c.want("b", 1)
	if got := c.schedules(); strings.Contains(got, "@hourly") || !strings.Contains(got, "@daily") {
		t.Errorf("it remembers %q", got)
	}
	c.tick(k, "02 00:01:30", c.task("c", "@never"), c.task("d", "nonsense"), c.task("e", ""))
	if got := c.schedules(); got != "test c @never" {
		t.Errorf("it remembers %q", got)
	}
}

func TestFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	k := c.clock()
	a := c.task("a", "@hourly")
	c.tick(k, "01 09:59:30", a)
	c.fail = errors.New("no")
	c.tick(k, "01 10:00:30", a)
	c.fail = nil
	c.tick(k, "01 10:01:30", a)
	c.want("a", 0)
	c.tick(k, "01 10:06:30", a)
	c.want("a", 1)
	c.tick(k, "01 10:30:30", a)
	c.want("a", 1)
}

// TestWarningStays has two tasks of one thing: what one has failed with is told
// until that one is done, or is not to be done any more.
func TestWarningStays(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		c := newCounter(t)
		k := c.clock()
		k.Warnings = &warnings.Service{DB: c.db, Events: &events.Hub{}, Log: k.Logger}
		open := func() bool {
			all, err := k.Warnings.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(all, func(w api.Warning) bool { return w.Status != api.WarningResolved })
		}
		a, b := c.task("a", "@hourly"), c.task("b", "@hourly")
		well := a.Do
		a.Do = func(context.Context, clock.Done) error { return errors.New("no") }
		a.About, b.About = "/1.0/x", "/1.0/x"
		c.tick(k, "01 09:59:30", a, b)
		c.tick(k, "01 10:00:30", a, b)
		c.want("b", 1)
		if !open() {
			t.Error("what one has done resolved the failure of another")
		}
		a.Do = well
		if gone {
			c.tick(k, "01 11:00:30", b)
		} else {
			c.tick(k, "01 10:06:30", a, b)
			c.want("a", 1)
		}
		if open() {
			t.Error("the warning stays though nothing fails")
		}
	}
}

func TestLater(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	k := c.clock()
	a := c.task("a", "@hourly")
	c.tick(k, "01 09:59:30", a)
	c.fail = fmt.Errorf("wait: %w", clock.ErrLater)
	c.tick(k, "01 10:00:30", a)
	c.fail = nil
	c.tick(k, "01 10:01:30", a)
	c.tick(k, "01 10:02:30", a)
	c.want("a", 1)
}

func TestClockSetBack(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	k := c.clock()
	a := c.task("a", "@hourly")
	c.tick(k, "20 09:59:30", a)
	c.tick(k, "20 10:00:30", a)
	c.tick(k, "01 08:10:30", a) // It was wrong for long.
	c.want("a", 1)
	c.tick(k, "01 09:00:30", a)
	c.want("a", 2)
}
