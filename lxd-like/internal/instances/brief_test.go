package instances_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A summary says what the whole instance does, and leaves out what is hidden.
func TestSummary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", true)
	w.snapshot("s1")
	expires := time.Now().Add(time.Hour)
	w.ok(w.svc.CreateSnapshot(ctx, "c1", api.InstanceSnapshotsPost{Name: "s2", Description: "two", ExpiresAt: &expires}))
	must(t, w.svc.Stilled(ctx, "c1", func(context.Context, string) error {
		full, err := w.svc.GetFull(ctx, "c1")
		must(t, err)
		got, err := w.svc.Summary(ctx, "c1")
		must(t, err)
		want := api.InstanceSummary{Instance: full.Instance, State: full.State}
		for _, s := range full.Snapshots {
			want.Snapshots = append(want.Snapshots, api.SnapshotSummary{
				Name: s.Name, Description: s.Description, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt,
			})
		}
		if !reflect.DeepEqual(got, want) || len(got.Snapshots) != 2 {
			t.Errorf("got\n%+v, want\n%+v", got, want)
		}
		if snaps, err := w.svc.SnapshotSummaries(ctx, "c1"); err != nil || !reflect.DeepEqual(snaps, want.Snapshots) {
			t.Errorf("the snapshots are %+v, %v", snaps, err)
		}
		return nil
	}))
	if _, err := w.svc.Summary(ctx, "c2"); !errs.Is(err, errs.NotFound) {
		t.Errorf("of none: %v", err)
	}
	if _, err := w.svc.SnapshotSummaries(ctx, "c2"); !errs.Is(err, errs.NotFound) {
		t.Errorf("snapshots of none: %v", err)
	}
}

// An instance that ends or boots again while it is looked at, or keeps its files
// for itself, is no reason to say nothing of it and the others.
func TestLists(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"one that ends":            func(w *world) { w.rt.leaving = "c1" },
		"one that does not answer": func(w *world) { w.rt.hung = make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.create("c1", true)
			w.create("c2", true)
			change(w)
			if w.rt.hung != nil {
				defer close(w.rt.hung)
			}
			if full, err := w.svc.ListFull(t.Context(), ""); err != nil || len(full) != 2 || full[0].State.Status != "Running" {
				t.Errorf("%+v, %v", full, err)
			}
			if brief, err := w.svc.Briefs(t.Context(), ""); err != nil || len(brief) != 2 || brief[0].Status != "Running" {
				t.Errorf("%+v, %v", brief, err)
			}
		})
	}
}
