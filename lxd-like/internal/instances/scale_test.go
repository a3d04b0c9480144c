package instances_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/shared/api"
)

// TestNothingReadsOtherInstances has all that is done to one instance read as much
// beside few as beside many others.
func TestNothingReadsOtherInstances(t *testing.T) {
	type step struct {
		name string
		do   func(*world)
	}
	steps := []step{
		{"launch", func(w *world) { w.create("one", true) }},
		{"get", func(w *world) { _, err := w.svc.GetFull(t.Context(), "one"); must(t, err) }},
		{"state", func(w *world) { _, err := w.svc.State(t.Context(), "one"); must(t, err) }},
		{"change", func(w *world) {
			w.ok(w.svc.Update(t.Context(), "one", to(api.InstancePut{Profiles: []string{"default"}, Config: api.ConfigMap{"user.x": "1"}})))
		}},
		{"snapshot", func(w *world) {
			w.ok(w.svc.CreateSnapshot(t.Context(), "one", api.InstanceSnapshotsPost{Name: "s"}))
		}},
		{"document", func(w *world) { _, err := w.svc.Document(t.Context(), "one"); must(t, err) }},
		{"stop", func(w *world) { w.state("one", "stop", true) }},
		{"start", func(w *world) { w.state("one", "start", false) }},
		{"schedules", func(w *world) { must(t, w.svc.Tick(t.Context(), time.Now())) }},
		{"stop again", func(w *world) { w.state("one", "stop", true) }},
		{"delete", func(w *world) { w.ok(w.svc.Delete(t.Context(), "one")) }},
		{"launch with what it needs", func(w *world) {
			req := post("two", true)
			req.Config = api.ConfigMap{"boot.depends_on": "i003"}
			_, err := w.svc.Create(t.Context(), req)
			must(t, err)
		}},
		{"launch without a profile", func(w *world) {
			req := post("three", true)
			req.Profiles = []string{}
			w.ok(w.svc.Create(t.Context(), req))
		}},
	}
	before := make([][2]int64, len(steps))
	for _, n := range []int{10, 300} {
		w := newWorld(t)
		var reads *dbtest.Reads
		w.db, reads = dbtest.NewCounting(t)
		must(t, w.db.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			p := db.Pool{Name: "p", Driver: "fake", Status: db.Ready}
			err := errors.Join(db.AddPool(ctx, tx, &p), db.UpdateProfile(ctx, tx, db.Profile{Name: "default", Devices: map[string]map[string]string{
				"root": {"type": "disk", "path": "/", "pool": "p"}, "eth0": {"type": "nic", "network": "n"},
			}}))
			for i := range n {
				in := db.Instance{Name: fmt.Sprintf("i%03d", i), PoolID: p.ID, Status: db.Ready, Architecture: "x86_64", Profiles: []string{"default"}}
				err = errors.Join(err, db.AddInstance(ctx, tx, &in))
			}
			return err
		}))
		w.boot()
		must(t, w.svc.Tick(t.Context(), time.Now()))
		for i, s := range steps {
			queries, rows := reads.Of(func() { s.do(w) })
			if got := [2]int64{queries, rows}; n == 10 {
				before[i] = got
			} else if got != before[i] {
				t.Errorf("%s: %d queries and rows beside many others, and %d beside few", s.name, got, before[i])
			}
		}
	}
}
