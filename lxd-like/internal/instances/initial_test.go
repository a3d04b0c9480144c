package instances_test

import (
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A root disk loses the keys of the driver that it leaves, and no others; those
// that somebody asks for are refused.
func TestInitialOfAnotherDriver(t *testing.T) {
	t.Parallel()
	red := api.ConfigMap{"type": "disk", "path": "/", "pool": "p", "initial.fake.colour": "red", "size": "5MiB"}
	moved := api.InstancePost{Name: "c1", Pool: "q", Migration: true}
	other := api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "q", "initial.fake.colour": "red", "size": "5MiB"}}
	tests := map[string]struct {
		change func(w *world)
		name   string
	}{
		"moved": {func(w *world) { w.ok(w.svc.Rename(w.tb.Context(), "c1", moved)) }, "c1"},
		"moved by its device": {func(w *world) {
			w.ok(w.svc.Rename(w.tb.Context(), "c1", api.InstancePost{Name: "c1", Migration: true, Devices: other}))
		}, "c1"},
		"copied": {func(w *world) {
			req := copyTo("c2", "q")
			req.Devices = other
			w.ok(w.svc.Create(w.tb.Context(), req))
		}, "c2"},
		"restored after a move": {func(w *world) {
			w.ok(w.svc.Rename(w.tb.Context(), "c1", moved))
			w.ok(w.update(w.tb.Context(), "c1", api.InstancePut{Restore: "s1"}))
		}, "c1"},
		"copied from a snapshot after a move": {func(w *world) {
			w.ok(w.svc.Rename(w.tb.Context(), "c1", moved))
			w.ok(w.svc.Create(w.tb.Context(), api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c1/s1"}}))
		}, "c2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			req := post("c1", false)
			req.Devices = api.DevicesMap{"root": red}
			w.ok(w.svc.Create(t.Context(), req))
			w.snapshot("s1")
			test.change(w)
			in, err := w.svc.Get(t.Context(), test.name)
			must(t, err)
			disk := in.Devices["root"]
			if _, has := disk["initial.fake.colour"]; has || disk["pool"] != "q" || disk["size"] != "5MiB" {
				t.Errorf("the root disk is %v", disk)
			}
			w.state(test.name, "start", false)
		})
	}
	w := newWorld(t)
	w.create("c1", false)
	req := copyTo("c2", "q")
	req.Devices["root"]["initial.fake.colour"] = "red"
	if _, err := w.do(w.svc.Create(t.Context(), req)); !errs.Is(err, errs.Invalid) {
		t.Errorf("a key that the source does not have: %v", err)
	}
}
