package mirror_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/mirror"
	"github.com/cuib/cuib/profiles"
)

type env struct {
	*mirror.Mirror[string]

	t  *testing.T
	db *db.DB
}

// newEnv has a mirror of the option user.x of so many instances with a profile.
func newEnv(t *testing.T, d *db.DB, instances int) env {
	t.Helper()
	e := env{mirror.New(func(in db.Instance, all profiles.Config) string {
		return string(in.Status) + all.Options["user.x"]
	}), t, d}
	e.do(func(ctx context.Context, tx *db.Tx) error {
		if err := db.AddPool(ctx, tx, &db.Pool{Name: "p", Driver: "dir", Status: db.Ready}); err != nil {
			return err
		}
		for i := range instances {
			if err := e.add(ctx, tx, fmt.Sprintf("i%03d", i), nil); err != nil {
				return err
			}
		}
		return nil
	})
	return e
}

func (env) add(ctx context.Context, tx *db.Tx, name string, config map[string]string) error {
	pool, err := db.GetPool(ctx, tx, "p")
	if err != nil {
		return err
	}
	return db.AddInstance(ctx, tx, &db.Instance{Name: name, PoolID: pool.ID, Status: db.Ready, Profiles: []string{"default"}, Config: config})
}

func (e env) do(fn func(context.Context, *db.Tx) error) {
	e.t.Helper()
	if err := e.db.Do(e.t.Context(), fn); err != nil {
		e.t.Fatal(err)
	}
}

// text is all that the mirror has.
func (e env) text() (out string) {
	e.t.Helper()
	err := e.Read(e.t.Context(), e.db, func(names []string, all map[string]string) {
		if len(all) != len(names) || !slices.IsSorted(names) {
			e.t.Errorf("names %q of %v", names, all)
		}
		for _, name := range names {
			out += name + "=" + all[name] + " "
		}
	})
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

func TestFollowsEveryChange(t *testing.T) {
	e := newEnv(t, dbtest.New(t), 1)
	if got := e.text(); got != "i000=ready " {
		t.Fatalf("got %q", got)
	}
	for _, step := range []struct {
		name, want string
		do         func(context.Context, *db.Tx) error
	}{
		{"one more", "a=ready1 i000=ready ", func(ctx context.Context, tx *db.Tx) error {
			return e.add(ctx, tx, "a", map[string]string{"user.x": "1"})
		}},
		{"a key", "a=ready1 i000=ready2 ", func(ctx context.Context, tx *db.Tx) error {
			return db.PatchInstanceConfig(ctx, tx, "i000", map[string]string{"user.x": "2"})
		}},
		{"an update", "a=ready3 i000=ready2 ", func(ctx context.Context, tx *db.Tx) error {
			in, err := db.GetInstance(ctx, tx, "a")
			in.Config["user.x"] = "3"
			if err != nil {
				return err
			}
			return db.UpdateInstance(ctx, tx, in)
		}},
		{"a status", "a=pending3 i000=ready2 ", func(ctx context.Context, tx *db.Tx) error {
			return db.SetInstanceStatus(ctx, tx, "a", db.Pending)
		}},
		{"another name", "i000=ready2 z=pending3 ", func(ctx context.Context, tx *db.Tx) error { return db.RenameInstance(ctx, tx, "a", "z") }},
		{"no key, and a profile's", "i000=readyP z=pending3 ", func(ctx context.Context, tx *db.Tx) error {
			if err := db.PatchInstanceConfig(ctx, tx, "i000", map[string]string{"user.x": ""}); err != nil {
				return err
			}
			return db.UpdateProfile(ctx, tx, db.Profile{Name: "default", Config: map[string]string{"user.x": "P"}})
		}},
		{"a profile's other name", "i000=readyP z=pending3 ", func(ctx context.Context, tx *db.Tx) error {
			return db.RenameProfile(ctx, tx, "default", "other")
		}},
		{"a profile's other key", "i000=readyQ z=pending3 ", func(ctx context.Context, tx *db.Tx) error {
			return db.UpdateProfile(ctx, tx, db.Profile{Name: "other", Config: map[string]string{"user.x": "Q"}})
		}},
		{"one less", "i000=readyQ ", func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "z") }},
	} {
		e.do(step.do)
		if got := e.text(); got != step.want {
			t.Fatalf("after %s: got %q, want %q", step.name, got, step.want)
		}
	}
}

// TestFollowsWhatWasNotDone leaves out what a transaction has taken back.
func TestFollowsWhatWasNotDone(t *testing.T) {
	e := newEnv(t, dbtest.New(t), 1)
	e.text()
	err := e.db.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		if err := db.DeleteInstance(ctx, tx, "i000"); err != nil {
			return err
		}
		return context.Canceled
	})
	if got := e.text(); err == nil || got != "i000=ready " {
		t.Errorf("error %v, got %q", err, got)
	}
}

// TestFailureIsReadAgain asks for what could not be read before.
func TestFailureIsReadAgain(t *testing.T) {
	e := newEnv(t, dbtest.New(t), 1)
	e.text()
	e.do(func(ctx context.Context, tx *db.Tx) error { return e.add(ctx, tx, "new", nil) })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Read(ended, e.db, func([]string, map[string]string) { t.Error("it was called") }); err == nil {
		t.Error("no error")
	}
	if got := e.text(); got != "i000=ready new=ready " {
		t.Errorf("got %q", got)
	}
}

// TestReadsNoOthers changes one of few instances, and one of many.
func TestReadsNoOthers(t *testing.T) {
	for _, n := range []int{10, 300} {
		d, reads := dbtest.NewCounting(t)
		e := newEnv(t, d, n)
		e.text()
		e.do(func(ctx context.Context, tx *db.Tx) error { return db.TouchInstance(ctx, tx, "i003") })
		queries, rows := reads.Of(func() { e.text() })
		if queries != 2 || rows != 2 { // Itself, and its profile.
			t.Errorf("of %d instances: %d queries with %d rows, want 2 with 2", n, queries, rows)
		}
		if queries, rows = reads.Of(func() { e.text() }); queries != 0 || rows != 0 {
			t.Errorf("without a change: %d queries with %d rows", queries, rows)
		}
	}
}

// TestManyChangesReadAll changes more than anybody remembers.
func TestManyChangesReadAll(t *testing.T) {
	d := dbtest.New(t)
	e := newEnv(t, d, 1)
	e.text()
	_, before := d.Since(0)
	for range 3 {
		e.do(func(ctx context.Context, tx *db.Tx) error {
			for range 1000 {
				if err := db.SetInstanceStatus(ctx, tx, "i000", db.Pending); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if c, _ := d.Since(before); !c.All {
		t.Errorf("3000 changes ago: got %+v", c)
	}
	if got := e.text(); got != "i000=pending " {
		t.Errorf("got %q", got)
	}
}
