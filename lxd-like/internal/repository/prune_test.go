package repository_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func (w *world) count(source string) int {
	w.t.Helper()
	all, err := w.Backups(w.t.Context(), "r", source)
	must(w.t, err)
	return len(all)
}

func TestPrune(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	location := w.repo()
	one := w.instance("c1")
	w.instance("c2")
	write(t, filepath.Join(one, "rootfs", "f"), noise(8<<20))
	w.backUp()
	write(t, filepath.Join(one, "rootfs", "f"), []byte("little"))
	w.backUp()
	w.backUp()
	must(t, w.run(w.Prune(t.Context(), "r")))
	if a, b, h := w.count("instances/c1"), w.count("instances/c2"), w.count("host"); a != 3 || b != 3 || h != 3 {
		t.Errorf("nothing is to be forgotten, and there are %d, %d, %d backups", a, b, h)
	}
	w.config["c1"] = map[string]string{"backups.keep.last": "1"}
	must(t, w.run(w.Prune(t.Context(), "r")))
	if a, b, h := w.count("instances/c1"), w.count("instances/c2"), w.count("host"); a != 1 || b != 3 || h != 3 {
		t.Errorf("c1 keeps one, and there are %d, %d, %d backups", a, b, h)
	}
	if n := usage(t, location); n > 4<<20 {
		t.Errorf("the repository has %d bytes", n)
	}
	must(t, w.Update(t.Context(), "r", api.BackupRepositoryPut{Config: api.ConfigMap{"location": location, "keep.last": "2", "keep.yearly": "5"}}))
	w.forget("c2")
	w.Host = "h2" // Others' are left alone.
	must(t, w.run(w.Prune(t.Context(), "r")))
	if b := w.count("instances/c2"); b != 3 {
		t.Errorf("another host's backups were forgotten: %d are left", b)
	}
	w.Host = "h1"
	must(t, w.run(w.Prune(t.Context(), "r")))
	if a, b, h := w.count("instances/c1"), w.count("instances/c2"), w.count("host"); a != 1 || b != 2 || h != 2 {
		t.Errorf("others keep two, and there are %d, %d, %d backups", a, b, h)
	}
	id := w.backUp("instances/c1")[0].ID
	must(t, w.run(w.DeleteBackup(t.Context(), "r", id)))
	_, err := w.DeleteBackup(t.Context(), "r", id)
	wantErr(t, err, errs.NotFound, "not found in repository")
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo()
	w.instance("c1")
	w.instance("c2")
	w.config["c1"] = map[string]string{"backups.repository": "r", "backups.schedule": "@hourly", "backups.keep.last": "2"}
	now := time.Date(2026, 5, 5, 10, 30, 0, 0, time.Local)
	tick := func(d time.Duration) {
		t.Helper()
		now = now.Add(d)
		must(t, w.Tick(t.Context(), now))
	}
	want := func(c1, host int) {
		t.Helper()
		if a, b, h := w.count("instances/c1"), w.count("instances/c2"), w.count("host"); a != c1 || b != 0 || h != host {
			t.Errorf("at %v there are %d, %d, %d backups, want %d, 0, %d", now, a, b, h, c1, host)
		}
	}
	tick(0)
	want(0, 0)
	tick(time.Hour)
	want(1, 1)
	tick(time.Minute)
	want(1, 1)
	w.host.profiles = []api.Profile{{Name: "new"}}
	tick(time.Hour)
	want(2, 2)
	tick(time.Hour)
	want(2, 2) // Two are kept.

	// A repository that is away is tried again.
	w.config["c1"]["backups.repository"] = "gone"
	tick(time.Hour)
	want(2, 2)
}
