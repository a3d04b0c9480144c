package instances_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// fakeGuests has the directories of guests, which outlive daemons, and who is
// listened to, which does not.
type fakeGuests struct {
	w *world

	mu   sync.Mutex // Guards what follows.
	dirs map[string]instances.Guest
	open map[string]bool
	told []string
}

func (g *fakeGuests) Open(guest instances.Guest) (string, error) {
	if err := g.w.Step("Open"); err != nil {
		return "", err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dirs[guest.Name], g.open[guest.Name] = guest, !guest.Off
	return "/guests/" + guest.Name, nil
}

func (g *fakeGuests) Shut(name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.dirs, name)
	delete(g.open, name)
	return nil
}

func (g *fakeGuests) Keep(names []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.dirs, func(name string, _ instances.Guest) bool { return !slices.Contains(names, name) })
	return nil
}

func (g *fakeGuests) Tell(name, typ string, metadata any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, fmt.Sprint(name, " ", typ, " ", metadata))
}

func (g *fakeGuests) dump() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(g.dirs)) {
		fmt.Fprintln(&b, "guest", g.dirs[name], g.open[name])
	}
	return b.String()
}

func (g *fakeGuests) heard() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.told, "\n")
}

func set(w *world, change func(config api.ConfigMap, devices api.DevicesMap)) error {
	w.tb.Helper()
	in, err := w.svc.Get(w.tb.Context(), "c1")
	must(w.tb, err)
	change(in.Config, in.Devices)
	_, err = w.do(w.update(w.tb.Context(), "c1", in.InstancePut))
	return err
}

func TestGuestView(t *testing.T) {
	w := newWorld(t)
	w.create("c1", true)
	must(t, set(w, func(config api.ConfigMap, _ api.DevicesMap) {
		config["user.a"], config["cloud-init.user-data"], config["limits.processes"], config["security.devlxd.images"] = "1", "x", "9", "true"
	}))
	v, err := w.svc.GuestView(t.Context(), "c1")
	must(t, err)
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	if fmt.Sprint(v.Config) != "map[cloud-init.user-data:x user.a:1]" || !v.Images || v.ImagesOf != "default" || v.Ready ||
		v.CloudInitID != in.Config["volatile.cloud-init.instance-id"] {
		t.Errorf("got %+v", v)
	}
	if mac := v.Devices["eth0"]["hwaddr"]; mac == "" || mac != in.Config["volatile.eth0.hwaddr"] || in.ExpandedDevices["eth0"]["hwaddr"] != "" {
		t.Errorf("eth0 is %v", v.Devices["eth0"])
	}
	if _, err := w.svc.GuestView(t.Context(), "none"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

func TestReady(t *testing.T) {
	w := newWorld(t)
	w.create("c1", true)
	l := w.svc.Events.Listen("lifecycle")
	status := func() string {
		in, err := w.svc.Get(t.Context(), "c1")
		must(t, err)
		return in.Status + in.Config["volatile.last_state.ready"]
	}
	for _, step := range []struct {
		ready instances.Ready
		want  string
	}{{instances.IsReady, "Readytrue"}, {instances.IsReady, "Readytrue"}, {instances.NotReady, "Runningfalse"}, {instances.IsReady, "Readytrue"}} {
		must(t, w.svc.SetReady(t.Context(), "c1", step.ready))
		if got := status(); got != step.want {
			t.Errorf("%v: got %s, want %s", step.ready, got, step.want)
		}
	}
	if n := readyEvents(l); n != 2 {
		t.Errorf("%d events, want one for each time that it became ready", n)
	}
	w.boot()
	if got := status(); got != "Readytrue" {
		t.Errorf("after a restart of the daemon: %s", got)
	}
	w.state("c1", "freeze", false)
	if got := status(); got != "Frozentrue" {
		t.Error(got)
	}
	w.state("c1", "unfreeze", false)
	w.state("c1", "stop", true)
	if err := w.svc.SetReady(t.Context(), "c1", instances.IsReady); !errs.Is(err, errs.NotFound) {
		t.Errorf("stopped: %v", err)
	}
	w.state("c1", "start", false)
	if got := status(); got != "Running" {
		t.Errorf("started again: %s", got)
	}
}

func readyEvents(l *events.Listener) int {
	l.Close()
	n := 0
	for e := range l.C {
		if strings.Contains(string(e.Metadata), "instance-ready") {
			n++
		}
	}
	return n
}

func TestGuestIsTold(t *testing.T) {
	w := newWorld(t)
	w.create("c1", true)
	must(t, set(w, func(config api.ConfigMap, _ api.DevicesMap) { config["user.a"], config["limits.processes"] = "1", "9" }))
	must(t, set(w, func(config api.ConfigMap, devices api.DevicesMap) {
		delete(config, "user.a")
		devices["d"] = api.ConfigMap{"type": "none"}
	}))
	must(t, set(w, func(_ api.ConfigMap, devices api.DevicesMap) { delete(devices, "d") }))
	p, err := w.svc.Profile(t.Context(), "default")
	must(t, err)
	p.Config["cloud-init.vendor-data"] = "x"
	must(t, w.svc.UpdateProfile(t.Context(), "default", p.ProfilePut))
	const want = `c1 config {user.a  1}
c1 config {user.a 1 }
c1 device {added d map[type:none]}
c1 device {removed d map[type:none]}
c1 config {cloud-init.vendor-data  x}`
	if got := w.guests.heard(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestGuestSwitches(t *testing.T) {
	w := newWorld(t)
	w.create("c1", true)
	for _, key := range []string{"security.guestapi", "security.devlxd"} {
		must(t, set(w, func(config api.ConfigMap, _ api.DevicesMap) { config[key] = "false" }))
		if w.guests.open["c1"] {
			t.Errorf("%s=false: somebody listens", key)
		}
		w.boot()
		if w.guests.open["c1"] {
			t.Errorf("%s=false, after a restart: somebody listens", key)
		}
		must(t, set(w, func(config api.ConfigMap, _ api.DevicesMap) { delete(config, key) }))
		if !w.guests.open["c1"] {
			t.Errorf("%s unset: nobody listens", key)
		}
	}
	if got := w.guests.dirs["c1"].Root; got != 1000000 {
		t.Errorf("root is %d", got)
	}
	if got := w.rt.running["c1"].spec.Guest; got != "/guests/c1" {
		t.Errorf("the guest gets %q", got)
	}
	w.rt.exit("c1", runtime.Exit{})
	w.rt.exits.Wait()
	if got := w.guests.dump(); got != "" {
		t.Errorf("left over: %s", got)
	}
}

// TestNewToCloudInit changes what makes an instance a new one to the
// cloud-init in it.
func TestNewToCloudInit(t *testing.T) {
	w := newWorld(t)
	w.create("c1", false)
	id := func(name string) string {
		in, err := w.svc.Get(t.Context(), name)
		must(t, err)
		return in.Config["volatile.cloud-init.instance-id"]
	}
	last := id("c1")
	for what, tt := range map[string]struct {
		change func()
		want   bool
	}{
		"another key": {func() {
			must(t, set(w, func(config api.ConfigMap, _ api.DevicesMap) { config["user.x"] += "1" }))
		}, false},
		"user data": {func() {
			must(t, set(w, func(config api.ConfigMap, _ api.DevicesMap) { config["cloud-init.user-data"] += "1" }))
		}, true},
		"profile": {func() {
			p, err := w.svc.Profile(t.Context(), "default")
			must(t, err)
			p.Config["cloud-init.network-config"] += "1"
			must(t, w.svc.UpdateProfile(t.Context(), "default", p.ProfilePut))
		}, true},
	} {
		tt.change()
		if now := id("c1"); (now != last) != tt.want || now == "" {
			t.Errorf("%s: new id: %v, want %v", what, now != last, tt.want)
		}
		last = id("c1")
	}
	w.ok(w.svc.Create(t.Context(), copyTo("c2", "p")))
	if id("c2") == last || id("c2") == "" {
		t.Error("a copy has the same id")
	}
}
