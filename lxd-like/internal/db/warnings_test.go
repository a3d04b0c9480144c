package db_test

import (
	"context"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

func TestWarnings(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		do := func(fn func(ctx context.Context, tx *db.Tx) error) error { return d.Do(t.Context(), fn) }
		put := func(w db.Warning) {
			t.Helper()
			if err := do(func(ctx context.Context, tx *db.Tx) error { return db.PutWarning(ctx, tx, w) }); err != nil {
				t.Fatal(err)
			}
		}
		put(db.Warning{UUID: "a", Type: "T", Entity: "/1.0/x", Severity: "low", Status: "new", Message: "first", Count: 1})
		put(db.Warning{UUID: "b", Type: "T", Entity: "/1.0/x", Severity: "high", Status: "resolved", Message: "again", Count: 2})
		put(db.Warning{UUID: "c", Type: "T", Severity: "low", Status: "new", Message: "server", Count: 1})
		all := view(t, d, db.Warnings)
		if len(all) != 2 || all[0].UUID != "a" || all[0].Message != "again" || all[0].Severity != "high" || all[0].Status != "resolved" ||
			all[0].Count != 2 || all[0].First.After(all[0].Last) || all[1].UUID != "c" {
			t.Fatalf("got %+v", all)
		}
		if err := do(func(ctx context.Context, tx *db.Tx) error { return db.SetWarningStatus(ctx, tx, "nope", "new") }); !errs.Is(err, errs.NotFound) {
			t.Errorf("status of none: %v", err)
		}
		if err := do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteWarning(ctx, tx, "nope") }); !errs.Is(err, errs.NotFound) {
			t.Errorf("deletion of none: %v", err)
		}
		for _, step := range []struct {
			before time.Time
			left   int
		}{{all[0].Last, 2}, {all[0].Last.Add(time.Nanosecond), 1}} {
			err := do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteWarnings(ctx, tx, "resolved", step.before) })
			if left := view(t, d, db.Warnings); err != nil || len(left) != step.left {
				t.Errorf("before %s: left %v, %v", step.before, left, err)
			}
		}
		if err := do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteWarningsOf(ctx, tx, "") }); err != nil {
			t.Fatal(err)
		}
		if left := view(t, d, db.Warnings); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}
