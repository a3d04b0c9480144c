package instances_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeVolumes has volumes, each with a word and snapshots of that.
type fakeVolumes struct {
	w *world

	mu        sync.Mutex // Guards what follows.
	words     map[string]string
	ids       map[string]string // Of snapshots.
	owners    map[string]string // Of volumes that guests made.
	snapshots map[string]string // By VOLUME/SNAPSHOT.
}

func (v *fakeVolumes) Look(_ context.Context, pool, source string) (api.StorageVolume, error) {
	return api.StorageVolume{Name: source, Pool: pool, Type: "custom", ContentType: "filesystem"}, nil
}

func (v *fakeVolumes) Attach(context.Context, string, string, string, string) (string, error) {
	return v.w.dir, nil
}

func (v *fakeVolumes) Detach(context.Context, string, string, string, string) error { return nil }

func (v *fakeVolumes) Snapshots(_ context.Context, _, _, name string) ([]api.StorageVolumeSnapshot, error) {
	var out []api.StorageVolumeSnapshot
	for _, key := range v.all() {
		if snapshot, ok := strings.CutPrefix(key, name+"/"); ok {
			out = append(out, api.StorageVolumeSnapshot{Name: snapshot, Config: api.ConfigMap{"volatile.uuid": v.ids[key]}})
		}
	}
	return out, nil
}

func (v *fakeVolumes) all() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.snapshots))
}

func (v *fakeVolumes) CreateSnapshot(_ context.Context, ref db.VolumeRef, req api.StorageVolumeSnapshotsPost) (ops.Job, error) {
	return v.job(func() {
		v.snapshots[ref.Name+"/"+req.Name] = v.words[ref.Name]
		v.ids[ref.Name+"/"+req.Name] = req.ID
	}), nil
}

func (v *fakeVolumes) DeleteSnapshot(_ context.Context, ref db.VolumeRef, snapshot string) (ops.Job, error) {
	return v.job(func() { delete(v.snapshots, ref.Name+"/"+snapshot) }), nil
}

func (v *fakeVolumes) List(_ context.Context, pool, _ string) (out []api.StorageVolume, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, owner := range v.owners {
		one := api.StorageVolume{Name: name, Pool: "p", Type: "custom", ContentType: "filesystem"}
		one.Config = api.ConfigMap{instances.KeyVolumeOwner: owner}
		if pool == "" || pool == "p" {
			out = append(out, one)
		}
	}
	return out, nil
}

func (v *fakeVolumes) CreateFor(_ context.Context, owner, _ string, req api.StorageVolumesPost) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.owners == nil {
		v.owners = map[string]string{}
	}
	v.owners[req.Name] = owner
	return nil
}

func (*fakeVolumes) Update(context.Context, db.VolumeRef, api.StorageVolumePut) error { return nil }

func (v *fakeVolumes) Delete(_ context.Context, ref db.VolumeRef) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.owners, ref.Name)
	return nil
}

func (v *fakeVolumes) Restore(ctx context.Context, ref db.VolumeRef, snapshot string) error {
	return v.job(func() { v.words[ref.Name] = v.snapshots[ref.Name+"/"+snapshot] }).Run(ctx, nil)
}

func (v *fakeVolumes) job(fn func()) ops.Job {
	return job(func() error {
		if err := v.w.Step("volume"); err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		fn()
		return nil
	})
}

func (w *world) withVolumes() *fakeVolumes {
	w.tb.Helper()
	v := &fakeVolumes{w: w, words: map[string]string{"a": "1", "b": "1", "shared": "1"}, snapshots: map[string]string{}, ids: map[string]string{}}
	w.svc.Volumes = v
	disk := func(source, path string) api.ConfigMap {
		return api.ConfigMap{"type": "disk", "pool": "p", "source": source, "path": path}
	}
	w.create("c1", false)
	w.create("c2", false)
	must(w.tb, w.updateNow(w.tb.Context(), "c1", api.InstancePut{
		Profiles: []string{"default"}, Devices: api.DevicesMap{"a": disk("a", "/a"), "b": disk("b", "/b"), "c": disk("shared", "/c")},
	}))
	must(w.tb, w.updateNow(w.tb.Context(), "c2", api.InstancePut{
		Profiles: []string{"default"}, Devices: api.DevicesMap{"c": disk("shared", "/c")},
	}))
	return v
}

func TestSnapshotsOfDisks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	v := w.withVolumes()
	w.write("c1", "1")
	w.state("c1", "start", false)
	w.snapshot("none")
	w.ok(w.svc.CreateSnapshot(ctx, "c1", api.InstanceSnapshotsPost{Name: "s1", Volumes: "all-exclusive"}))
	if got := v.all(); !slices.Equal(got, []string{"a/s1", "b/s1"}) {
		t.Errorf("got %q", got)
	}
	v.words = map[string]string{"a": "2", "b": "2", "shared": "2"}
	w.ok(w.update(ctx, "c1", api.InstancePut{Restore: "s1"}))
	if v.words["a"] != "2" {
		t.Errorf("volumes are restored that nobody named: %v", v.words)
	}
	w.ok(w.update(ctx, "c1", api.InstancePut{Restore: "s1", RestoreVolumes: "all-exclusive"}))
	if v.words["a"] != "1" || v.words["b"] != "1" || v.words["shared"] != "2" {
		t.Errorf("got %v", v.words)
	}
	if !runs(w.dump(), "c1") {
		t.Error("it does not run any more")
	}
	for _, put := range []api.InstancePut{
		{Restore: "s1", RestoreVolumes: "some"},
		{Restore: "none", RestoreVolumes: "all-exclusive"},
		{Restore: "s1", Stateful: true},
	} {
		if _, err := w.do(w.update(ctx, "c1", put)); err == nil || errs.Is(err, errs.Internal) {
			t.Errorf("%+v: %v", put, err)
		}
	}
}

func TestSnapshotsOfDisksFail(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		w := newWorld(t)
		v := w.withVolumes()
		before := w.dump()
		w.Arm(n, false)
		_, err := w.do(w.svc.CreateSnapshot(t.Context(), "c1", api.InstanceSnapshotsPost{Name: "s1", Volumes: "all-exclusive"}))
		if !w.Disarm() {
			must(t, err)
			return
		}
		if after := w.dump(); err == nil || after != before || len(v.all()) > 0 {
			t.Fatalf("call %d failed (%v), and left %v:\n%s", n, err, v.all(), after)
		}
	}
}
