package instances_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/tpm"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// fakeTPMs are TPMs in name only. They outlive services.
type fakeTPMs struct {
	w *world

	mu     sync.Mutex // Guards what follows.
	all    map[tpm.Owner]uint32
	number uint32
	lacks  string
}

func (f *fakeTPMs) Check(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lacks != "" {
		return errs.Newf(errs.Unsupported, "%s", f.lacks)
	}
	return nil
}

func (f *fakeTPMs) Start(_ context.Context, of tpm.Owner, st tpm.State) (tpm.Nodes, error) {
	if err := f.w.Step("Start TPM"); err != nil {
		return tpm.Nodes{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// What it holds is the number that it had first.
	file := fmt.Sprintf("/proc/self/fd/%d/state", st.Dir.Fd())
	if _, err := os.Stat(file); err != nil {
		f.number++
		if err := os.WriteFile(file, []byte{byte(f.number)}, 0o600); err != nil {
			return tpm.Nodes{}, err
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return tpm.Nodes{}, err
	}
	f.all[of] = uint32(data[0])
	return tpm.Nodes{Device: tpm.Number{Major: 10, Minor: f.all[of]}, Manager: tpm.Number{Major: 240, Minor: f.all[of]}}, nil
}

func (f *fakeTPMs) Stop(of tpm.Owner) error {
	if err := f.w.Step("Stop TPM"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, of)
	return nil
}

func (f *fakeTPMs) End(instance string) error {
	_, err := f.Recover(instance, func(string) bool { return false })
	return err
}

func (f *fakeTPMs) Recover(instance string, wants func(string) bool) (map[string]bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	have := map[string]bool{}
	for of := range f.all {
		if of.Instance != instance {
			continue
		}
		if have[of.Device] = wants(of.Device); !have[of.Device] {
			delete(f.all, of)
		}
	}
	return have, nil
}

func (f *fakeTPMs) Settle(runs func(string) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for of := range f.all {
		if !runs(of.Instance) {
			delete(f.all, of)
		}
	}
	return nil
}

func (f *fakeTPMs) list() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for of, n := range f.all {
		out = append(out, fmt.Sprintf("%s/%s=%d", of.Instance, of.Device, n))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func withTPMs(tb testing.TB) (*world, *fakeTPMs) {
	tb.Helper()
	w := newWorld(tb)
	f := &fakeTPMs{w: w, all: map[tpm.Owner]uint32{}}
	w.svc.TPMs = f
	return w, f
}

// privileged is for instances whose volume shows the host's ids, as the fake
// pool maps none.
func privileged() api.ConfigMap { return api.ConfigMap{"security.privileged": "true"} }

func tpmDevices(names ...string) api.DevicesMap {
	out := api.DevicesMap{}
	for _, name := range names {
		out[name] = map[string]string{"type": "tpm", "path": "/dev/" + name, "pathrm": "/dev/" + name + "rm"}
	}
	return out
}

// TestTPMs has TPMs come and go with their instances, and keep what they hold.
func TestTPMs(t *testing.T) {
	testenv.Kernel(t)
	t.Parallel()
	w, f := withTPMs(t)
	want := func(when, list, nodes string) {
		t.Helper()
		if got := f.list(); got != list {
			t.Errorf("%s: got %q, want %q", when, got, list)
		}
		if got := w.rt.nodes("c1"); got != nodes {
			t.Errorf("%s: got nodes %q, want %q", when, got, nodes)
		}
	}
	const a, b = "/dev/a=10:1 /dev/arm=240:1", "/dev/b=10:2 /dev/brm=240:2"
	req := post("c1", true)
	req.Devices, req.Config = tpmDevices("a"), privileged()
	w.ok(w.svc.Create(t.Context(), req))
	want("started", "c1/a=1", a)
	put := api.InstancePut{Profiles: []string{"default"}, Devices: tpmDevices("a", "b"), Config: privileged()}
	must(t, w.updateNow(t.Context(), "c1", put))
	want("another", "c1/a=1 c1/b=2", a+" "+b)
	w.state("c1", "restart", true)
	want("restarted", "c1/a=1 c1/b=2", a+" "+b)
	f.mu.Lock()
	delete(f.all, tpm.Owner{Instance: "c1", Device: "a"})
	f.mu.Unlock()
	w.svc.TPMLost(t.Context(), tpm.Owner{Instance: "c1", Device: "a"})
	want("one was lost", "c1/a=1 c1/b=2", a+" "+b)
	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{Profiles: []string{"default"}, Devices: tpmDevices("b"), Config: privileged()}))
	want("one is removed", "c1/b=2", b)
	w.state("c1", "stop", true)
	want("stopped", "", "")
	w.ok(w.svc.Rebuild(t.Context(), "c1", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "image", Alias: "debian"}}))
	w.state("c1", "start", false)
	want("rebuilt", "c1/b=2", b)
	w.state("c1", "stop", true)
	if _, err := os.Stat(filepath.Join(w.dir, "pool")); err != nil {
		t.Error(err)
	}

	// A host without refuses, and says what is missing.
	f.mu.Lock()
	f.lacks = "a TPM needs what there is not"
	f.mu.Unlock()
	second := post("c2", false)
	second.Devices, second.Config = tpmDevices("a"), privileged()
	_, err := w.svc.Create(t.Context(), second)
	if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), `device "a": a TPM needs what there is not`) {
		t.Errorf("got %v", err)
	}
}

// TestTPMFaults fails each step of a start with a TPM, and of a change.
func TestTPMFaults(t *testing.T) {
	testenv.Kernel(t)
	t.Parallel()
	for n := 1; ; n++ {
		w, f := withTPMs(t)
		req := post("c1", true)
		req.Devices, req.Config = tpmDevices("a"), privileged()
		w.ok(w.svc.Create(t.Context(), req))
		w.Arm(n, false)
		put := api.InstancePut{Profiles: []string{"default"}, Devices: tpmDevices("b", "c"), Config: privileged()}
		_, err := w.do(ops.Job{Run: func(ctx context.Context, _ *ops.Op) error { return w.updateNow(ctx, "c1", put) }}, nil)
		if !w.Disarm() {
			if n < 8 {
				t.Errorf("there are only %d steps", n)
			}
			return
		}
		if got := f.list(); err == nil || got != "c1/a=1" {
			t.Errorf("step %d: %v: there is %q", n, err, got)
		}
	}
}
