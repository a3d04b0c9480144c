package instances_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// launch makes an instance that runs, with own configuration.
func (w *world) launch(name string, config api.ConfigMap) {
	w.tb.Helper()
	req := post(name, true)
	req.Config = config
	w.ok(w.svc.Create(w.tb.Context(), req))
}

// power returns what is on record of whether instances run.
func (w *world) power() map[string]string {
	w.tb.Helper()
	out := map[string]string{}
	all, err := w.svc.List(w.tb.Context(), "")
	must(w.tb, err)
	for _, in := range all {
		out[in.Name] = in.Config["volatile.last_state.power"]
	}
	return out
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.launch("plain", nil)
	w.launch("first", api.ConfigMap{"boot.stop.priority": "10"})
	w.launch("last", api.ConfigMap{"boot.stop.priority": "-1"})
	w.launch("killed", api.ConfigMap{"boot.host_shutdown_action": "force-stop"})
	w.launch("restarts", api.ConfigMap{"boot.autorestart": "true", "boot.host_shutdown_action": "force-stop"})
	w.launch("frozen", nil)
	w.state("frozen", "freeze", false)
	w.launch("stopped", nil)
	w.state("stopped", "stop", true)
	req := post("ephemeral", true)
	req.Ephemeral = true
	w.ok(w.svc.Create(t.Context(), req))
	w.rt.exits.Wait()
	w.rt.log = nil

	must(t, w.svc.Shutdown(t.Context(), instances.ShutdownOptions{}))
	w.rt.exits.Wait()
	if dump := w.dump(); strings.Contains(dump, "running ") || len(w.pool.Mounted()) > 0 {
		t.Fatalf("something runs or is mounted %v:\n%s", w.pool.Mounted(), dump)
	}
	want := map[string]string{
		"plain": "RUNNING", "first": "RUNNING", "last": "RUNNING", "killed": "RUNNING", "restarts": "RUNNING",
		"frozen": "RUNNING", "stopped": "STOPPED", // And no more ephemeral.
	}
	if got := w.power(); !maps.Equal(got, want) {
		t.Errorf("on record is %v, want %v", got, want)
	}
	log := w.rt.log
	if len(log) != 7 || log[0] != "shut down first" || log[6] != "shut down last" ||
		!slices.Contains(log, "kill killed") || !slices.Contains(log, "kill restarts") {
		t.Errorf("the guests ended so: %q", log)
	}

	_, err := w.do(w.svc.SetState(t.Context(), "plain", api.InstanceStatePut{Action: "start"}))
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "the daemon is shutting down") {
		t.Errorf("a start while the host shuts down: %v", err)
	}
	w.autostart()
	if dump := w.dump(); strings.Contains(dump, "running ") || len(w.pool.Mounted()) > 0 {
		t.Errorf("something was started:\n%s", dump)
	}

	w.boot()
	w.autostart()
	dump := w.dump()
	for name, power := range want {
		if runs(dump, name) != (power == "RUNNING") {
			t.Errorf("after the host's boot %s is not as before:\n%s", name, dump)
		}
	}
}

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		config api.ConfigMap
		opts   instances.ShutdownOptions
		want   []string
	}{
		"time over": {api.ConfigMap{"boot.host_shutdown_timeout": "1"}, instances.ShutdownOptions{}, []string{"shut down c1", "kill c1"}},
		"no time":   {api.ConfigMap{"boot.host_shutdown_timeout": "0"}, instances.ShutdownOptions{}, []string{"shut down c1", "kill c1"}},
		"forced":    {nil, instances.ShutdownOptions{Force: true}, []string{"kill c1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.launch("c1", tt.config)
			w.rt.deaf = true
			must(t, w.svc.Shutdown(t.Context(), tt.opts))
			if got := w.rt.log; !slices.Equal(got, tt.want) {
				t.Errorf("the guest ended so: %q, want %q", got, tt.want)
			}
			if got := w.power()["c1"]; got != "RUNNING" {
				t.Errorf("on record is %q", got)
			}
		})
	}
}

// TestShutdownForcedMeanwhile is of a host's administrator who does not want
// to wait any longer.
func TestShutdownForcedMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.launch("c1", nil)
	w.rt.deaf = true
	w.rt.told = make(chan string)
	first := make(chan error, 1)
	go func() { first <- w.svc.Shutdown(t.Context(), instances.ShutdownOptions{}) }()
	<-w.rt.told
	must(t, w.svc.Shutdown(t.Context(), instances.ShutdownOptions{Force: true}))
	must(t, <-first)
	if got := w.power()["c1"]; got != "RUNNING" {
		t.Errorf("on record is %q", got)
	}
}

// TestShutdownAndOtherWishes has somebody wait for a stop or a restart when
// the host shuts down, and a guest that ends by itself just then.
func TestShutdownAndOtherWishes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		action string
		exit   runtime.Exit
		want   string
	}{
		"stop":    {"stop", runtime.Exit{Status: 130}, "STOPPED"},
		"restart": {"restart", runtime.Exit{Status: 130}, "RUNNING"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.launch("c1", nil)
			w.rt.deaf = true
			w.rt.told = make(chan string)
			asked, down := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := w.do(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: tt.action}))
				asked <- err
			}()
			<-w.rt.told
			go func() { down <- w.svc.Shutdown(t.Context(), instances.ShutdownOptions{}) }()
			<-w.rt.told
			w.rt.exit("c1", tt.exit)
			must(t, <-down)
			if err := <-asked; (err != nil) != (tt.action == "restart") || err != nil && !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s: %v", tt.action, err)
			}
			if got := w.power()["c1"]; got != tt.want {
				t.Errorf("on record is %q, want %q", got, tt.want)
			}
		})
	}
}

// TestStopGivenUp stops an instance that does not hear, and shuts the host
// down later.
func TestStopGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.launch("c1", nil)
	w.rt.deaf = true
	if _, err := w.do(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "stop", Timeout: 1})); err == nil {
		t.Fatal("it stopped")
	}
	must(t, w.svc.Shutdown(t.Context(), instances.ShutdownOptions{Force: true}))
	if got := w.power()["c1"]; got != "RUNNING" {
		t.Errorf("on record is %q", got)
	}
}

// TestEndsWithItsProfilesWords has the keys in a profile.
func TestEndsWithItsProfilesWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.svc.CreateProfile(t.Context(), api.ProfilesPost{
		Name: "hard", ProfilePut: api.ProfilePut{Config: api.ConfigMap{"boot.host_shutdown_action": "force-stop"}},
	}))
	req := post("c1", true)
	req.Profiles = []string{"default", "hard"}
	w.ok(w.svc.Create(t.Context(), req))
	must(t, w.svc.Shutdown(t.Context(), instances.ShutdownOptions{}))
	if got := w.rt.log; !slices.Equal(got, []string{"kill c1"}) {
		t.Errorf("the guest ended so: %q", got)
	}
}
