package instances_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// stopped makes an instance that does not run, with own configuration.
func (w *world) stopped(name string, config api.ConfigMap) {
	w.tb.Helper()
	req := post(name, false)
	req.Config = config
	w.ok(w.svc.Create(w.tb.Context(), req))
}

// fails runs a job that has to fail, with an error that says something.
func (w *world) fails(job ops.Job, err error, kind errs.Kind, want string) {
	w.tb.Helper()
	_, err = w.do(job, err)
	if !errs.Is(err, kind) || !strings.Contains(err.Error(), want) {
		w.tb.Errorf("got %v, want %s", err, want)
	}
}

func start(t *testing.T, w *world, name string) (ops.Job, error) {
	t.Helper()
	return w.svc.SetState(t.Context(), name, api.InstanceStatePut{Action: "start"})
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stopped("db", nil)
	w.stopped("cache", api.ConfigMap{"boot.depends_on": "db"})
	w.launch("web", api.ConfigMap{"boot.depends_on": "cache, db"})
	for _, name := range []string{"db", "cache", "web"} {
		if !runs(w.dump(), name) {
			t.Errorf("%s does not run", name)
		}
	}
	w.rt.log = nil
	must(t, w.svc.Shutdown(t.Context(), instances.ShutdownOptions{}))
	if want := []string{"shut down web", "shut down cache", "shut down db"}; !slices.Equal(w.rt.log, want) {
		t.Errorf("they ended so: %q", w.rt.log)
	}
	w.rt.exits.Wait()

	w.boot()
	must(t, w.svc.Autostart(t.Context(), []string{"web"}))
	if !runs(w.dump(), "db") || !runs(w.dump(), "cache") || !runs(w.dump(), "web") {
		t.Errorf("not all of them run:\n%s", w.dump())
	}
	w.ok(w.svc.SetStates(t.Context(), "default", api.InstanceStatePut{Action: "stop", Force: true}))
	w.rt.exits.Wait()
	w.ok(w.svc.SetStates(t.Context(), "default", api.InstanceStatePut{Action: "start"}))
}

func TestDependenciesThatCannotBe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.stopped("db", nil)
	w.stopped("web", api.ConfigMap{"boot.depends_on": "db"})
	put := func(name, needs string) (ops.Job, error) {
		return w.update(t.Context(), name, api.InstancePut{Config: api.ConfigMap{"boot.depends_on": needs}, Profiles: []string{"default"}})
	}
	for _, tt := range []struct{ of, needs, want string }{
		{"db", "nobody", `boot.depends_on: got "nobody", and there is no instance of that name`},
		{"db", "db", `boot.depends_on: got "db", which cannot run before db and after it`},
		{"db", "web", `boot.depends_on: got "web", which cannot run before db and after it`},
		{"db", "web,9", `boot.depends_on: got "web,9", want names of instances`},
		{"db", "web,web", `boot.depends_on: got "web,web", want names of instances`},
		{"db", "web,", `boot.depends_on: got "web,", want names of instances`},
	} {
		_, err := put(tt.of, tt.needs)
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s needs %s: got %v, want %s", tt.of, tt.needs, err, tt.want)
		}
	}
	req := post("other", true)
	req.Config = api.ConfigMap{"boot.depends_on": "nobody"}
	job, err := w.svc.Create(t.Context(), req)
	w.fails(job, err, errs.Invalid, "there is no instance of that name")

	// What it depends on can go, and then it does not start.
	w.ok(w.svc.Delete(t.Context(), "db"))
	job, err = start(t, w, "web")
	w.fails(job, err, errs.Invalid, `boot.depends_on: instance "db": instance "db" not found`)
	w.stopped("db", api.ConfigMap{"security.protection.start": "true"})
	job, err = start(t, w, "web")
	w.fails(job, err, errs.Conflict, `boot.depends_on: instance "db": instance "db" is protected`)
}

func TestWaitsForTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "nas")
	w.stopped("db", api.ConfigMap{"boot.wait_for": "path:" + path + ", pool:p, network:n", "boot.autostart": "true"})
	w.stopped("web", api.ConfigMap{"boot.depends_on": "db", "boot.autostart": "true", "boot.autostart.priority": "5"})
	w.stopped("gone", api.ConfigMap{"boot.wait_for": "network:br9", "boot.autostart": "true"})
	w.stopped("poolless", api.ConfigMap{"boot.wait_for": "pool:zz", "boot.autostart": "true"})
	w.stopped("other", api.ConfigMap{"boot.autostart": "true"})
	job, err := start(t, w, "web")
	w.fails(job, err, errs.Unavailable, `boot.depends_on: instance "db": boot.wait_for: path:`+path+" is not there")
	job, err = start(t, w, "poolless")
	w.fails(job, err, errs.Unavailable, "boot.wait_for: pool:zz is not there")

	w.boot()
	w.autostart()
	w.svc.StartReady(t.Context())
	if dump := w.dump(); runs(dump, "db") || runs(dump, "web") || runs(dump, "gone") || runs(dump, "poolless") || !runs(dump, "other") {
		t.Errorf("before it is there:\n%s", dump)
	}
	w.ok(w.svc.Delete(t.Context(), "gone"))
	must(t, os.Mkdir(path, 0o700))
	w.svc.StartReady(t.Context())
	if dump := w.dump(); !runs(dump, "db") || !runs(dump, "web") || runs(dump, "poolless") {
		t.Errorf("when it is there:\n%s", dump)
	}
	must(t, w.updateNow(t.Context(), "poolless", api.InstancePut{Config: api.ConfigMap{"boot.autostart": "false"}, Profiles: []string{"default"}}))
	w.svc.StartReady(t.Context())
	if runs(w.dump(), "poolless") {
		t.Error("one starts that is not to start any more")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, w.svc.StartWaiting(ctx))
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tt := range map[string]struct {
		config api.ConfigMap
		want   string
	}{
		"nested":     {api.ConfigMap{"image.requirements.nesting": "true"}, "the image needs the option security.nesting=true"},
		"privileged": {api.ConfigMap{"image.requirements.privileged": "false", "security.privileged": "true"}, "must not run with security.privileged=true"},
	} {
		w.stopped(name, tt.config)
		job, err := start(t, w, name)
		w.fails(job, err, errs.Invalid, tt.want)
	}
}

func TestWhatTheRuntimeGets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.launch("c1", api.ConfigMap{
		"raw.apparmor":                   "  deny /x r,\n\n# no rule\ndeny /y r,\n",
		"systemd.credential.a":           "text\n",
		"systemd.credential-binary.b":    "AAE=",
		"linux.sysctl.net.ipv4.conf.x.y": "1",
	})
	spec := w.rt.running["c1"].spec
	if want := []string{"deny /x r,", "deny /y r,"}; !slices.Equal(spec.AppArmor, want) {
		t.Errorf("rules: %q", spec.AppArmor)
	}
	if len(spec.Credentials) != 2 || string(spec.Credentials["a"]) != "text\n" || string(spec.Credentials["b"]) != "\x00\x01" {
		t.Errorf("credentials: %q", spec.Credentials)
	}
	if spec.Sysctls["net.ipv4.conf.x.y"] != "1" {
		t.Errorf("sysctls: %q", spec.Sysctls)
	}
}

func TestModulesThatAreNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := api.ConfigMap{"linux.kernel_modules": "cuib_no_such_module"}
	w.stopped("c1", config)
	job, err := start(t, w, "c1")
	_, err = w.do(job, err)
	if err == nil || !strings.Contains(err.Error(), `linux.kernel_modules: kernel module "cuib_no_such_module"`) {
		t.Errorf("the start: %v", err)
	}
	if dump := w.dump(); runs(dump, "c1") || len(w.pool.Mounted()) > 0 {
		t.Errorf("it left something:\n%s", dump)
	}
	w.launch("c2", nil)
	before := w.dump()
	err = w.updateNow(t.Context(), "c2", api.InstancePut{Config: config, Profiles: []string{"default"}})
	if err == nil || !strings.Contains(err.Error(), "linux.kernel_modules: ") || w.dump() != before {
		t.Errorf("the change of one that runs: %v", err)
	}
}
