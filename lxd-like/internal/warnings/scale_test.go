package warnings_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
)

// TestReadsNoOthers raises and resolves a warning, and deletes an instance that has
// one, beside few and beside many warnings about others.
func TestReadsNoOthers(t *testing.T) {
	ctx := t.Context()
	var before int64
	for _, n := range []int{10, 300} {
		d, reads := dbtest.NewCounting(t)
		s := &warnings.Service{DB: d, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
		heard := s.Events.Listen("lifecycle")
		about := func(i int) string { return fmt.Sprintf("/1.0/instances/i%03d", i) }
		for i := range n {
			s.Raise(ctx, warnings.NoAddress, about(i), "none")
		}
		s.Resolve(ctx, warnings.NoAddress, about(0)) // Now all are known.
		s.Events.Lifecycle("instance-deleted", about(4), nil)
		s.Events.Lifecycle("instance-deleted", "/1.0/instances/other", nil)
		_, rows := reads.Of(func() {
			s.Raise(ctx, warnings.Dying, about(1), "again")
			s.Resolve(ctx, warnings.Dying, about(1))
			s.Resolve(ctx, warnings.Dying, about(2)) // It has none.
			s.Raise(ctx, warnings.NoAddress, about(3), "still none")
			if err := errors.Join(warnings.Follow(ctx, s, <-heard.C), warnings.Follow(ctx, s, <-heard.C)); err != nil {
				t.Error(err)
			}
		})
		const most = 2 // Resolved, and raised again.
		if rows > most || before > 0 && rows != before {
			t.Errorf("beside %d others: %d rows were read, want at most %d, and beside few it was %d", n, rows, most, before)
		}
		before = rows
		all, err := s.List(ctx)
		if err != nil || len(all) != n { // One more, and one less.
			t.Errorf("there are %d, %v; want %d", len(all), err, n)
		}
		for _, w := range all {
			if w.EntityURL == about(4) || w.Status == "resolved" != (w.Type == warnings.Dying.Name || w.EntityURL == about(0)) {
				t.Errorf("got %+v", w)
			}
		}
		heard.Close()
	}
}

// TestWhatIsKnownIsSo deletes a warning and one of its object, which are raised
// again and resolved.
func TestWhatIsKnownIsSo(t *testing.T) {
	ctx := t.Context()
	s := &warnings.Service{DB: dbtest.New(t), Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler)}
	heard := s.Events.Listen("lifecycle")
	defer heard.Close()
	check := func(what string, want ...string) {
		t.Helper()
		all, err := s.List(ctx)
		if err != nil || len(all) != len(want) {
			t.Fatalf("%s: got %+v, %v", what, all, err)
		}
		for i, w := range all {
			if w.Status != want[i] {
				t.Errorf("%s: got %+v, want %s", what, w, want[i])
			}
		}
	}
	for _, entity := range []string{web, "/1.0/instances/p_web"} {
		s.Resolve(ctx, warnings.Dying, entity)
		check("none yet")
		s.Raise(ctx, warnings.Dying, entity, "again")
		s.Resolve(ctx, warnings.Dying, entity)
		check("resolved", "resolved")
		s.Raise(ctx, warnings.Dying, entity, "again")
		check("raised again", "new")
		all, _ := s.List(ctx)
		if err := s.Delete(ctx, all[0].UUID); err != nil {
			t.Fatal(err)
		}
		<-heard.C
		s.Resolve(ctx, warnings.Dying, entity)
		s.Raise(ctx, warnings.Dying, entity, "again")
		s.Resolve(ctx, warnings.Dying, entity)
		check("deleted, and there again", "resolved")
		s.Events.Lifecycle("instance-deleted", entity, nil)
		if err := warnings.Follow(ctx, s, <-heard.C); err != nil {
			t.Fatal(err)
		}
		check("with its object")
		s.Raise(ctx, warnings.Dying, entity, "again")
		s.Events.Lifecycle("instance-renamed", entity+"2", map[string]any{"old_name": "web"})
		if err := warnings.Follow(ctx, s, <-heard.C); err != nil {
			t.Fatal(err)
		}
		check("with its name")
	}
}
