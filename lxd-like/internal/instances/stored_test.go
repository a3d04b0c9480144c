package instances_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

func snapVol(name string) storage.Volume {
	return storage.Volume{Kind: storage.Instance, Name: "c1", Snapshot: name}
}

// canceled runs a job whose operation was canceled, so that it waits for
// nobody.
func canceled(t *testing.T, job ops.Job, err error) error {
	t.Helper()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return job.Run(ctx, nil)
}

func TestStored(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", false)
	w.write("c1", "old")
	w.snapshot("s1")
	w.write("c1", "new")
	for _, source := range []string{"c9", "c9/s1", "c1/s9"} {
		if err := w.svc.CheckStored(ctx, source); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", source, err)
		}
		if _, err := w.svc.Stored(ctx, source); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", source, err)
		}
	}
	for source, want := range map[string]string{"c1": "new", "c1/s1": "old"} {
		must(t, w.svc.CheckStored(ctx, source))
		got, err := w.svc.Stored(ctx, source)
		must(t, err)
		word, err := os.ReadFile(filepath.Join(got.Dir, "rootfs/word"))
		if err != nil || string(word) != want || got.Architecture == "" || len(got.Properties) == 0 {
			t.Errorf("%s: %q, %v, %+v", source, word, err, got)
		}
		got.Release()
	}
	w.state("c1", "start", false)
	if err := w.svc.CheckStored(ctx, "c1"); !errs.Is(err, errs.Conflict) {
		t.Errorf("of one that runs: %v", err)
	}
	if _, err := w.svc.Stored(ctx, "c1"); !errs.Is(err, errs.Conflict) {
		t.Errorf("of one that runs: %v", err)
	}
}

func TestStoredHoldsOffWhatNeedsTheVolume(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", false)
	w.snapshot("s1")
	got, err := w.svc.Stored(ctx, "c1/s1")
	must(t, err)
	w.state("c1", "start", false) // A snapshot that is read is no matter to the instance.
	w.snapshot("s2")
	w.state("c1", "stop", true)
	busy := map[string]func() (ops.Job, error){
		"delete the snapshot": func() (ops.Job, error) { return w.svc.DeleteSnapshot(ctx, "c1", "s1") },
		"rename the snapshot": func() (ops.Job, error) {
			return w.svc.RenameSnapshot(ctx, "c1", "s1", api.InstanceSnapshotPost{Name: "s3"})
		},
		"rename": func() (ops.Job, error) { return w.svc.Rename(ctx, "c1", api.InstancePost{Name: "c2"}) },
		"delete": func() (ops.Job, error) { return w.svc.Delete(ctx, "c1") },
	}
	before := w.dump()
	for name, act := range busy {
		job, err := act()
		if err := canceled(t, job, err); !errs.Is(err, errs.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := w.dump(); after != before {
		t.Errorf("changed:\n%s\nbefore:\n%s", after, before)
	}
	got.Release()
	w.ok(busy["rename the snapshot"]())
	w.ok(busy["delete"]())
	if all := w.pool.Mounted(); len(all) > 0 {
		t.Errorf("mounted: %v", all)
	}
}

func TestStoredIsLeftByACrash(t *testing.T) {
	w := newWorld(t)
	w.create("c1", false)
	w.snapshot("s1")
	_, err := w.svc.Stored(t.Context(), "c1/s1")
	must(t, err)
	_, err = w.svc.Stored(t.Context(), "c1")
	must(t, err)
	if all := w.pool.Mounted(); !slices.Contains(all, snapVol("s1")) || !slices.Contains(all, vol("c1")) {
		t.Fatalf("mounted: %v", all)
	}
	w.boot()
	if all := w.pool.Mounted(); slices.Contains(all, snapVol("s1")) || slices.Contains(all, vol("c1")) {
		t.Errorf("mounted: %v", all)
	}
	w.ok(w.svc.DeleteSnapshot(t.Context(), "c1", "s1"))
}

func TestStoredFails(t *testing.T) {
	w := newWorld(t)
	w.create("c1", false)
	w.snapshot("s1")
	for _, source := range []string{"c1", "c1/s1"} {
		w.Arm(1, false)
		if _, err := w.svc.Stored(t.Context(), source); err == nil {
			t.Errorf("%s: it was opened", source)
		}
		w.Disarm()
		got, err := w.svc.Stored(t.Context(), source)
		must(t, err)
		got.Release()
	}
}
