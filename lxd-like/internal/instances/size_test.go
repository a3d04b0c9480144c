package instances_test

import (
	"context"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
)

// setDefault gives the volumes of pool p a default size.
func (w *world) setDefault(size string) {
	w.tb.Helper()
	w.configure(map[string]string{"volume.size": size})
}

// configure gives pool p a configuration.
func (w *world) configure(config map[string]string) {
	w.tb.Helper()
	must(w.tb, w.db.Do(w.tb.Context(), func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetPool(ctx, tx, "p")
		if err != nil {
			return err
		}
		p.Config = config
		return db.UpdatePool(ctx, tx, p)
	}))
}

// setRootSize gives the root disk of an instance a size, or none.
func (w *world) setRootSize(name, size string) {
	w.tb.Helper()
	in, err := w.svc.Get(w.tb.Context(), name)
	must(w.tb, err)
	root := api.ConfigMap{"type": "disk", "path": "/", "pool": in.ExpandedDevices["root"]["pool"]}
	if size != "" {
		root["size"] = size
	}
	put := in.InstancePut
	put.Devices = api.DevicesMap{"root": root}
	w.ok(w.update(w.tb.Context(), name, put))
}

// A root whose device has no size gets that of its pool's new volumes, and
// keeps it whatever becomes of that.
func TestDefaultSize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	limit := func(d *fake.Driver, name string, want int64) {
		t.Helper()
		if got := d.Limited(vol(name)); got != want {
			t.Errorf("%s may have %d bytes, want %d", name, got, want)
		}
	}
	w.setDefault("3MiB")
	w.create("c1", false)
	limit(w.pool, "c1", 3<<20)
	w.setDefault("5MiB")
	w.create("c2", false)
	limit(w.pool, "c2", 5<<20)

	w.ok(w.svc.Create(ctx, api.InstancesPost{Name: "c3", Source: api.InstanceSource{Type: "copy", Source: "c1"}}))
	limit(w.pool, "c3", 3<<20)
	w.ok(w.svc.Create(ctx, copyTo("c4", "q")))
	limit(w.other, "c4", 3<<20)
	w.ok(w.svc.Rename(ctx, "c2", api.InstancePost{Name: "c2", Pool: "q", Migration: true}))
	limit(w.other, "c2", 5<<20)

	w.setRootSize("c1", "7MiB")
	limit(w.pool, "c1", 7<<20)
	w.setRootSize("c1", "")
	limit(w.pool, "c1", 0)
	w.ok(w.svc.Create(ctx, api.InstancesPost{Name: "c5", Source: api.InstanceSource{Type: "copy", Source: "c1"}}))
	limit(w.pool, "c5", 0)
	w.boot()
	if dump := w.dump(); !whole("c1", "c2", "c3", "c4", "c5")(w, dump) {
		t.Errorf("there is\n%s", dump)
	}
}

// A pool without limits does without the default of another, but not without
// its own, nor without what somebody asked for.
func TestDefaultSizeWithoutLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.setDefault("3MiB")
	w.create("c1", false)
	w.other.Fail = func(method string) error {
		if method == "Limit" {
			return errs.Newf(errs.Unsupported, "no quotas here")
		}
		return nil
	}
	w.ok(w.svc.Create(ctx, copyTo("c2", "q")))
	if in, err := w.svc.Get(ctx, "c2"); err != nil || in.Config["volatile.root.size"] != "" {
		t.Errorf("it says %q, %v", in.Config["volatile.root.size"], err)
	}
	w.pool.Fail = w.other.Fail
	req := api.InstancesPost{Name: "c3", Source: api.InstanceSource{Type: "none"}}
	if _, err := w.do(w.svc.Create(ctx, req)); !errs.Is(err, errs.Unsupported) {
		t.Errorf("a default that cannot be: %v", err)
	}
	if w.pool.Limited(storage.Volume{Kind: storage.Instance, Name: "c3"}) != 0 || !whole("c1", "c2")(w, w.dump()) {
		t.Errorf("there is\n%s", w.dump())
	}
}

// A root has the options of its driver that its pool has for new volumes, and no
// others.
func TestDefaultOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c0", false)
	w.configure(map[string]string{
		"volume.fake.colour": "red", "volume.other.colour": "blue", "volume.size": "3MiB", "volume.initial.mode": "0700", "volume.snapshots.expiry": "3d",
	})
	w.create("c1", false)
	w.ok(w.svc.Create(t.Context(), api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c0"}}))
	for _, name := range []string{"c1", "c2"} {
		got := w.pool.Tuned(vol(name))
		if len(got) != 1 || got["fake.colour"] != "red" {
			t.Errorf("%s has the options %v", name, got)
		}
	}
}

// So has one that is made later: by a rebuild, a move, or of a document.
func TestDefaultOptionsOfLaterRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	doc := w.document()
	w.create("c2", false)
	req := copyTo("c3", "q")
	req.Source.Source = "c2"
	w.ok(w.svc.Create(ctx, req))
	w.configure(map[string]string{"volume.fake.colour": "red"})

	w.ok(w.svc.Rebuild(ctx, "c2", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "image", Alias: "debian"}}))
	w.ok(w.svc.Rename(ctx, "c3", api.InstancePost{Name: "c4", Pool: "p", Migration: true}))
	must(t, w.svc.Reinstate(ctx, instances.Reinstatement{Document: doc, Fill: fills()}, nil))
	for _, name := range []string{"c1", "c2", "c4"} {
		if got := w.pool.Tuned(vol(name)); len(got) != 1 || got["fake.colour"] != "red" {
			t.Errorf("%s has the options %v", name, got)
		}
	}
}
