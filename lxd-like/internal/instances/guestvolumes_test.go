package instances_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func wantDenied(t *testing.T, what string, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestGuestVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	v := w.withVolumes()
	g := w.svc.GuestVolumes()
	post := api.GuestStorageVolumesPost{Name: "mine"}
	wantDenied(t, "not allowed", g.Create(ctx, "c1", "p", post), errs.Denied)
	for _, name := range []string{"c1", "c2"} {
		in, err := w.svc.Get(ctx, name)
		must(t, err)
		put := in.InstancePut
		put.Config["security.devlxd.management.volumes"] = "true"
		must(t, w.updateNow(ctx, name, put))
	}
	must(t, g.Create(ctx, "c1", "p", post))
	ref := db.VolumeRef{Pool: "p", Name: "mine"}
	if all, err := g.List(ctx, "c1", "p"); err != nil || len(all) != 1 || all[0].Name != "mine" {
		t.Errorf("list: %v, %v", all, err)
	}

	// Another guest's it is not.
	if all, err := g.List(ctx, "c2", ""); err != nil || len(all) != 0 {
		t.Errorf("list of another: %v, %v", all, err)
	}
	disk := func(source string, more ...string) api.ConfigMap {
		out := api.ConfigMap{"type": "disk", "pool": "p", "source": source, "path": "/mine"}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	attach := func(name string, devices map[string]api.ConfigMap) error {
		return g.SetDevices(ctx, name, api.GuestInstancePatch{Devices: devices})
	}
	wantDenied(t, "delete another's", g.Delete(ctx, "c2", ref), errs.NotFound)
	wantDenied(t, "update another's", g.Update(ctx, "c2", ref, api.GuestStorageVolumePut{}), errs.NotFound)
	wantDenied(t, "attach another's", attach("c2", map[string]api.ConfigMap{"m": disk("mine")}), errs.NotFound)
	wantDenied(t, "attach the host's", attach("c1", map[string]api.ConfigMap{"m": disk("a")}), errs.NotFound)
	wantDenied(t, "a path of the host", attach("c1", map[string]api.ConfigMap{"m": {"type": "disk", "source": "/etc", "path": "/x"}}), errs.Denied)
	wantDenied(t, "a nic", attach("c1", map[string]api.ConfigMap{"m": {"type": "nic", "network": "n"}}), errs.Denied)
	wantDenied(t, "an option", attach("c1", map[string]api.ConfigMap{"m": disk("mine", "shift", "true")}), errs.Denied)
	wantDenied(t, "the root", attach("c1", map[string]api.ConfigMap{"m": disk("mine", "path", "/")}), errs.Denied)
	wantDenied(t, "a device of the host's", attach("c1", map[string]api.ConfigMap{"a": nil}), errs.Denied)
	wantDenied(t, "a key", g.Create(ctx, "c1", "p", api.GuestStorageVolumesPost{Name: "x", GuestStorageVolumePut: api.GuestStorageVolumePut{Config: api.ConfigMap{"security.unmapped": "true"}}}), errs.Denied)

	must(t, attach("c1", map[string]api.ConfigMap{"m": disk("mine")}))
	in, err := w.svc.Get(ctx, "c1")
	must(t, err)
	if in.Config["volatile.m.devlxd.owner"] != in.Config["volatile.uuid"] || in.Devices["m"]["source"] != "mine" {
		t.Errorf("config %v, devices %v", in.Config, in.Devices)
	}
	if got, err := g.Devices(ctx, "c1"); err != nil || len(got.Devices) != 1 {
		t.Errorf("devices: %v, %v", got, err)
	}
	must(t, attach("c1", map[string]api.ConfigMap{"m": disk("mine", "readonly", "true")}))
	must(t, attach("c1", map[string]api.ConfigMap{"m": nil, "nonesuch": nil}))
	if in, err = w.svc.Get(ctx, "c1"); err != nil || in.Devices["m"] != nil || in.Config["volatile.m.devlxd.owner"] != "" {
		t.Errorf("detached: %v, %v", in, err)
	}
	must(t, g.Delete(ctx, "c1", ref))
	for i := range 200 {
		if err = g.Create(ctx, "c1", "p", api.GuestStorageVolumesPost{Name: fmt.Sprint("v", i)}); err != nil {
			break
		}
	}
	if !errs.Is(err, errs.Conflict) || len(v.owners) != 128 {
		t.Errorf("%d volumes: %v", len(v.owners), err)
	}
}

// TestAttachedVolumes restores the snapshots that were made with a snapshot of
// an instance, whatever their names are by now and what else there is.
func TestAttachedVolumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	v := w.withVolumes()
	w.ok(w.svc.CreateSnapshot(ctx, "c1", api.InstanceSnapshotsPost{Name: "s1", Volumes: "all-exclusive"}))
	snap, err := w.svc.Snapshot(ctx, "c1", "s1")
	must(t, err)
	ids := map[string]string{}
	must(t, json.Unmarshal([]byte(snap.Config["volatile.attached_volumes"]), &ids))
	if want := map[string]string{"a": v.ids["a/s1"], "b": v.ids["b/s1"]}; !maps.Equal(ids, want) || ids["a"] == "" {
		t.Errorf("got %v, want %v", ids, want)
	}
	v.snapshots["a/renamed"], v.ids["a/renamed"] = v.snapshots["a/s1"], v.ids["a/s1"]
	delete(v.snapshots, "a/s1")
	v.words = map[string]string{"a": "2", "b": "2", "shared": "2"}
	w.ok(w.update(ctx, "c1", api.InstancePut{Restore: "s1", RestoreVolumes: "all-exclusive"}))
	if v.words["a"] != "1" || v.words["b"] != "1" || v.words["shared"] != "2" {
		t.Errorf("restored: %v", v.words)
	}
	in, err := w.svc.Get(ctx, "c1")
	must(t, err)
	if got := in.Config["volatile.attached_volumes"]; got != "" {
		t.Errorf("the instance has %s", got)
	}
	delete(v.snapshots, "b/s1")
	_, err = w.update(ctx, "c1", api.InstancePut{Restore: "s1", RestoreVolumes: "all-exclusive"})
	wantDenied(t, "a snapshot that is gone", err, errs.NotFound)
}
