package instances_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
)

// delegating is a driver that notes whom it delegates to.
type delegating struct {
	*fake.Driver
	w     *world
	calls []string
	has   bool
}

func (d *delegating) Delegate(_ context.Context, v storage.Volume, userns string) error {
	if err := d.w.Step("Delegate"); err != nil {
		return err
	}
	d.calls = append(d.calls, v.Name+" "+userns)
	return nil
}

func (d *delegating) Delegated(context.Context, storage.Volume) (bool, error) { return d.has, nil }

// delegates gives an instance in the pool p the option.
func (w *world) delegates(name, value string) error {
	return w.updateNow(w.tb.Context(), name, api.InstancePut{
		Profiles: []string{"default"}, Devices: api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "p", "initial.zfs.delegate": value}},
	})
}

func TestDelegate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := &delegating{Driver: w.pool, w: w}
	w.pools.first = d
	w.create("with", false)
	w.create("without", true)
	must(t, w.delegates("with", "true"))

	w.state("with", "start", false)
	if want := []string{"with /proc/1/ns/user"}; !slices.Equal(d.calls, want) {
		t.Errorf("got %q, want %q", d.calls, want)
	}
	if !w.rt.running["with"].spec.EndsAtReboot || w.rt.running["without"].spec.EndsAtReboot {
		t.Error("the wrong one ends when it reboots")
	}
	w.rt.exit("with", runtime.Exit{Reboot: true})
	w.rt.exits.Wait()
	if len(d.calls) != 2 {
		t.Errorf("after a reboot: %q", d.calls)
	}
	w.state("with", "stop", true)

	d.has = true
	for what, job := range map[string]func() (ops.Job, error){
		"a snapshot": func() (ops.Job, error) {
			return w.svc.CreateSnapshot(t.Context(), "with", api.InstanceSnapshotsPost{Name: "s0"})
		},
		"a copy": func() (ops.Job, error) {
			req := api.InstancesPost{Name: "copy"}
			req.Source.Type, req.Source.Source = "copy", "with"
			return w.svc.Create(t.Context(), req)
		},
	} {
		j, err := job()
		must(t, err)
		op, err := ops.NewManager(t.Context(), func(string, string, any) {}).Start(t.Context(), j)
		must(t, err)
		desc := op.Wait(t.Context())
		if text, _ := desc.Metadata[api.OperationWarning].(string); !strings.Contains(text, "datasets") {
			t.Errorf("%s warns of %q: %s", what, text, desc.Err)
		}
	}
	_, err := w.do(w.svc.Rename(t.Context(), "with", api.InstancePost{Name: "with", Pool: "q"}))
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "made datasets") {
		t.Errorf("a move: %v", err)
	}
}

func TestDelegateRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c", false)
	must(t, w.delegates("c", "true"))
	_, err := w.do(w.svc.SetState(t.Context(), "c", api.InstanceStatePut{Action: "start"}))
	if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "initial.zfs.delegate") {
		t.Errorf("a pool that cannot do it: %v", err)
	}
}
