package instances_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/api"
)

// begun is when the tests began: all mean the same day by tomorrow.
var begun = time.Now()

// tomorrow is a time on the day after that, at which nothing else is due.
func tomorrow(hour, minute int) time.Time {
	return time.Date(begun.Year(), begun.Month(), begun.Day()+1, hour, minute, 30, 0, time.Local)
}

func (w *world) schedule(name string, config api.ConfigMap) {
	w.tb.Helper()
	must(w.tb, w.updateNow(w.tb.Context(), name, api.InstancePut{Profiles: []string{"default"}, Config: config}))
}

func (w *world) snapshots(name string) string {
	w.tb.Helper()
	all, err := w.svc.Snapshots(w.tb.Context(), name)
	must(w.tb, err)
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

func TestScheduledSnapshots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", true)
	w.create("c2", false)
	w.create("c3", false)
	must(t, w.svc.Tick(ctx, tomorrow(9, 30)))
	hourly := api.ConfigMap{"snapshots.schedule": "@hourly", "snapshots.pattern": "auto", "snapshots.expiry": "3d", "snapshots.expiry.manual": "1y"}
	w.schedule("c1", hourly)
	w.schedule("c2", hourly)
	w.schedule("c3", api.ConfigMap{"snapshots.schedule": "@hourly", "snapshots.schedule.stopped": "true"})
	must(t, w.svc.Tick(ctx, tomorrow(9, 31)))
	must(t, w.svc.Tick(ctx, tomorrow(10, 0)))
	must(t, w.svc.Tick(ctx, tomorrow(10, 1)))
	for name, want := range map[string]string{"c1": "auto", "c2": "", "c3": "snap0"} {
		if got := w.snapshots(name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	snap, err := w.svc.Snapshot(ctx, "c1", "auto")
	must(t, err)
	if got := time.Until(snap.ExpiresAt); got < 71*time.Hour || got > 73*time.Hour {
		t.Errorf("it expires in %v", got)
	}
	if dump := w.dump(); frozen(dump) != 0 {
		t.Errorf("frozen:\n%s", dump)
	}

	w.boot() // And not twice for one time, nor for all that passed.
	must(t, w.svc.Tick(ctx, tomorrow(10, 2)))
	w.boot()
	must(t, w.svc.Tick(ctx, tomorrow(14, 2)))
	must(t, w.svc.Tick(ctx, tomorrow(14, 3)))
	for name, want := range map[string]string{"c1": "auto auto-0", "c2": "", "c3": "snap0 snap1"} {
		if got := w.snapshots(name); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	w.state("c2", "start", false)
	must(t, w.svc.Tick(ctx, tomorrow(15, 0)))
	if got := w.snapshots("c2"); got != "auto" {
		t.Errorf("c2 has %q", got)
	}
	must(t, w.svc.Tick(ctx, tomorrow(15, 1).AddDate(0, 0, 3)))
	if got := w.snapshots("c1"); strings.Contains(got, "auto-0") {
		t.Errorf("c1 has %q: they have expired", got)
	}
}

// What was due while the host was down is made up for when the instance runs
// again.
func TestScheduledSnapshotAfterTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", true)
	must(t, w.svc.Tick(ctx, tomorrow(9, 30)))
	w.schedule("c1", api.ConfigMap{"snapshots.schedule": "@hourly"})
	must(t, w.svc.Tick(ctx, tomorrow(9, 31)))
	delete(w.rt.running, "c1")
	w.boot()
	must(t, w.svc.Tick(ctx, tomorrow(12, 31)))
	if got := w.snapshots("c1"); got != "" {
		t.Errorf("before it runs it has %q", got)
	}
	w.autostart()
	must(t, w.svc.Tick(ctx, tomorrow(12, 32)))
	must(t, w.svc.Tick(ctx, tomorrow(12, 33)))
	if got := w.snapshots("c1"); got != "snap0" {
		t.Errorf("it has %q", got)
	}
}

// A scheduled snapshot that fails, or that a crash cuts short, is made later,
// and once.
func TestScheduledSnapshotFails(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		for n := 1; ; n++ {
			w := newWorld(t)
			w.create("c1", true)
			must(t, w.svc.Tick(t.Context(), tomorrow(9, 30)))
			w.schedule("c1", api.ConfigMap{"snapshots.schedule": "@hourly"})
			must(t, w.svc.Tick(t.Context(), tomorrow(9, 31)))
			w.Arm(n, crash)
			_, _ = w.do(job(func() error { return w.svc.Tick(t.Context(), tomorrow(10, 0)) }), nil)
			reached := w.Disarm()
			if crash {
				w.boot()
			}
			must(t, w.svc.Tick(t.Context(), tomorrow(10, 6)))
			must(t, w.svc.Tick(t.Context(), tomorrow(10, 20)))
			if got := w.snapshots("c1"); got != "snap0" {
				t.Fatalf("call %d, crash %v: it has %q", n, crash, got)
			}
			if !reached {
				break
			}
		}
	}
}

func TestSnapshotAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	w.schedule("c1", api.ConfigMap{"snapshots.schedule": "@startup, @daily"})
	w.state("c1", "start", false)
	w.state("c1", "restart", true)
	if got := w.snapshots("c1"); got != "snap0 snap1" {
		t.Errorf("it has %q", got)
	}
	w.state("c1", "stop", true)
	w.Arm(1, false) // The driver's Snapshot.
	_, err := w.do(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "start"}))
	must(t, err)
	if !w.Disarm() || w.snapshots("c1") != "snap0 snap1" || !runs(w.dump(), "c1") {
		t.Errorf("it does not start without its snapshot:\n%s", w.dump())
	}
}
