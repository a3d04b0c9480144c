package instances_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeProxies has those that would run. It stays when a daemon ends.
type fakeProxies struct {
	w  *world
	mu sync.Mutex // Guards all.

	all map[proxies.Owner]proxies.Rule
}

// withProxies is newWorld with proxies.
func withProxies(tb testing.TB) (*world, *fakeProxies) {
	tb.Helper()
	w := newWorld(tb)
	f := &fakeProxies{w: w, all: map[proxies.Owner]proxies.Rule{}}
	w.svc.Proxies = f
	return w, f
}

// Check has nothing to fail at, as it changes nothing.
func (f *fakeProxies) Check(_ context.Context, of proxies.Owner, r proxies.Rule) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.check(of, r)
}

func (f *fakeProxies) check(of proxies.Owner, r proxies.Rule) error {
	for other, o := range f.all {
		if o.Listen == r.Listen && other != of {
			return errs.Conflictf("listen: %s is %s's", r.Listen, other)
		}
	}
	return nil
}

func (f *fakeProxies) Start(_ context.Context, of proxies.Owner, r proxies.Rule) error {
	if err := f.w.Step("Start"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.check(of, r); err != nil {
		return err
	}
	f.all[of] = r
	return nil
}

func (f *fakeProxies) Stop(_ context.Context, of proxies.Owner) error {
	if err := f.w.Step("Stop"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, of)
	return nil
}

func (f *fakeProxies) End(_ context.Context, instance string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.all, func(of proxies.Owner, _ proxies.Rule) bool { return of.Instance == instance })
	return f.w.Step("End")
}

func (f *fakeProxies) Recover(ctx context.Context, instance string, want map[string]proxies.Rule) error {
	if err := f.End(ctx, instance); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for device, r := range want {
		f.all[proxies.Owner{Instance: instance, Device: device}] = r
	}
	return nil
}

func (f *fakeProxies) Settle(runs func(string) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.all, func(of proxies.Owner, _ proxies.Rule) bool { return !runs(of.Instance) })
	return nil
}

// list says which run, and where they listen.
func (f *fakeProxies) list() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for of, r := range f.all {
		out = append(out, of.Instance+"/"+of.Device+"="+strings.TrimPrefix(r.Listen, "tcp:0.0.0.0:"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func proxyDevice(port int) map[string]string {
	return map[string]string{"type": "proxy", "listen": fmt.Sprintf("tcp:0.0.0.0:%d", port), "connect": "tcp:127.0.0.1:80"}
}

func putProxies(ports map[string]int) api.InstancePut {
	put := api.InstancePut{Profiles: []string{"default"}, Devices: api.DevicesMap{}}
	for name, port := range ports {
		put.Devices[name] = proxyDevice(port)
	}
	return put
}

// Proxies come, change and go with what has them.
func TestProxies(t *testing.T) {
	t.Parallel()
	w, f := withProxies(t)
	want := func(when, list string) {
		t.Helper()
		if got := f.list(); got != list {
			t.Errorf("%s: got %q, want %q", when, got, list)
		}
	}
	req := post("c1", true)
	req.Devices = api.DevicesMap{"a": proxyDevice(1), "b": proxyDevice(2)}
	w.ok(w.svc.Create(t.Context(), req))
	want("started", "c1/a=1 c1/b=2")
	must(t, w.updateNow(t.Context(), "c1", putProxies(map[string]int{"a": 2, "b": 3, "c": 1})))
	want("changed", "c1/a=2 c1/b=3 c1/c=1")
	must(t, w.updateNow(t.Context(), "c1", putProxies(map[string]int{"b": 3})))
	want("removed", "c1/b=3")
	w.state("c1", "restart", true)
	want("restarted", "c1/b=3")
	w.boot()
	w.svc.Proxies = f
	want("another daemon without proxies", "c1/b=3")
	w.state("c1", "stop", true)
	want("stopped", "")

	// A second that wants what one has does not start, and says so.
	w.state("c1", "start", false)
	second := post("c2", false)
	second.Devices = api.DevicesMap{"x": proxyDevice(3), "a": proxyDevice(7)}
	w.ok(w.svc.Create(t.Context(), second))
	_, err := w.do(w.svc.SetState(t.Context(), "c2", api.InstanceStatePut{Action: "start"}))
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), `device "x"`) || runs(w.dump(), "c2") {
		t.Errorf("got %v\n%s", err, w.dump())
	}
	want("one that does not start", "c1/b=3")
	second = post("taken", true)
	second.Devices = api.DevicesMap{"x": proxyDevice(3)}
	if _, err := w.do(w.svc.Create(t.Context(), second)); !errs.Is(err, errs.Conflict) || strings.Contains(w.dump(), "taken") {
		t.Errorf("launched with a port that is taken: got %v\n%s", err, w.dump())
	}

	// A profile that two use cannot have one listen for both.
	must(t, w.svc.CreateProfile(t.Context(), api.ProfilesPost{Name: "p"}))
	for _, name := range []string{"c3", "c4"} {
		req := post(name, true)
		req.Profiles = []string{"default", "p"}
		w.ok(w.svc.Create(t.Context(), req))
	}
	err = w.svc.UpdateProfile(t.Context(), "p", api.ProfilePut{Devices: api.DevicesMap{"web": proxyDevice(9)}})
	if !errs.Is(err, errs.Conflict) {
		t.Errorf("got %v", err)
	}
	want("a profile that is refused", "c1/b=3")
}

// TestProxyFaults fails each step of a change, and ends the daemon there.
func TestProxyFaults(t *testing.T) {
	t.Parallel()
	const before, after = "c1/a=1 c1/b=2", "c1/a=2 c1/c=1"
	for _, crash := range []bool{false, true} {
		for n := 1; ; n++ {
			w, f := withProxies(t)
			req := post("c1", true)
			req.Devices = api.DevicesMap{"a": proxyDevice(1), "b": proxyDevice(2)}
			w.ok(w.svc.Create(t.Context(), req))
			w.Arm(n, crash)
			survived, err := w.do(ops.Job{Run: func(ctx context.Context, _ *ops.Op) error {
				return w.updateNow(ctx, "c1", putProxies(map[string]int{"a": 2, "c": 1}))
			}}, nil)
			if !w.Disarm() {
				if n < 4 {
					t.Errorf("there are only %d steps", n)
				}
				break
			}
			if crash {
				w.bootWith(f)
			}
			got := f.list()
			in, gerr := w.svc.Get(t.Context(), "c1")
			must(t, gerr)
			recorded := before
			if _, changed := in.Devices["c"]; changed {
				recorded = after
			}
			if got != recorded || survived && err != nil && got != before {
				t.Errorf("step %d, crash %t: %v: %q runs, and %q is recorded", n, crash, err, got, recorded)
			}
		}
	}
}

// bootWith is boot for a daemon that has proxies.
func (w *world) bootWith(p *fakeProxies) {
	w.tb.Helper()
	w.boot()
	w.svc.Proxies = p
	must(w.tb, w.svc.Recover(w.tb.Context()))
}
