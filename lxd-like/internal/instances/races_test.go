package instances_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Of two requests for one name the second leaves what the first has made.
func TestTwoWantOneName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	inQ := post("c1", false)
	inQ.Devices = api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "q"}}
	inQ.Source = api.InstanceSource{Type: "none"}
	second, err := w.svc.Create(ctx, inQ)
	must(t, err)
	w.create("c1", false)
	before := w.dump()
	if _, err := w.do(second, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	if after := w.dump(); after != before {
		t.Errorf("there was\n%sand is\n%s", before, after)
	}
	w.create("c2", false)
	base := func(name string) string {
		in, err := w.svc.Get(ctx, name)
		must(t, err)
		return in.Config["volatile.idmap.base"]
	}
	if base("c1") == base("c2") {
		t.Errorf("both have the ids from %s on", base("c1"))
	}
}

// Nor does a request for another name do anything to who has it by then.
func TestRenamedTooLate(t *testing.T) {
	t.Parallel()
	for _, pool := range []string{"", "p2"} {
		w := newWorld(t)
		ctx := t.Context()
		w.create("c1", false)
		req := api.InstancePost{Name: "c2"}
		if pool != "" {
			req.Config = api.ConfigMap{"user.x": "1"}
		}
		late, err := w.svc.Rename(ctx, "c1", req)
		must(t, err)
		w.ok(w.svc.Create(ctx, copyTo("c2", "q")))
		file := filepath.Join(w.dir, "run", "c2", "rootfs", "file")
		must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		must(t, os.WriteFile(file, nil, 0o600))
		before := w.dump()
		if _, err := w.do(late, nil); !errs.Is(err, errs.Conflict) {
			t.Errorf("got %v, want a conflict", err)
		}
		if after := w.dump(); after != before {
			t.Errorf("there was\n%sand is\n%s", before, after)
		}
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

// A profile that changes while an image is built has its say in what is made of
// that.
func TestProfileChangesWhileImageIsBuilt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.svc.Profile(t.Context(), "default")
	must(t, err)
	w.images.building = func() {
		p.Config = api.ConfigMap{"limits.processes": "123"}
		must(t, w.svc.UpdateProfile(t.Context(), "default", p.ProfilePut))
	}
	req := post("c1", true)
	req.Source.Alias = "debian:sid"
	w.ok(w.svc.Create(t.Context(), req))
	if got := w.rt.running["c1"].spec.Limits.Processes; got != 123 {
		t.Errorf("it may have %d processes", got)
	}
}

// A disk that the host has lost, of an instance that has it still or does not run,
// is no reason to refuse a change of other devices, of it or of its profile.
func TestChangeOfOtherDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.Mkdir(source, 0o700))
	for _, name := range []string{"c1", "c2"} {
		req := post(name, name == "c1")
		req.Devices = api.DevicesMap{"data": {"type": "disk", "path": "/data", "source": source}}
		w.ok(w.svc.Create(ctx, req))
	}
	must(t, os.Remove(source))
	p, err := w.svc.Profile(ctx, "default")
	must(t, err)
	p.Devices["more"] = api.ConfigMap{"type": "disk", "path": "/more", "source": "/tmp"}
	must(t, w.svc.UpdateProfile(ctx, "default", p.ProfilePut))
	if got := w.rt.running["c1"].parts(); !strings.Contains(got, "/data") || !strings.Contains(got, "/more") {
		t.Errorf("it has %s", got)
	}
	in, err := w.svc.Get(ctx, "c2")
	must(t, err)
	put := in.InstancePut
	put.Devices["data"]["readonly"] = "true"
	if _, err := w.update(ctx, "c2", put); !errs.Is(err, errs.Invalid) {
		t.Errorf("got %v, want a refusal of the disk that is not there", err)
	}
}
