package instances_test

import (
	"os"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// TestIDsAsAsked moves the ids of an instance, over those that it has too,
// and refuses what cannot be had while it still runs.
func TestIDsAsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	w.create("c2", true)
	set := func(name string, config api.ConfigMap) error {
		return w.updateNow(t.Context(), name, api.InstancePut{Profiles: []string{"default"}, Config: config})
	}
	restart := func() { w.ok(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "restart", Force: true})) }
	base := func() string {
		t.Helper()
		in, err := w.svc.Get(t.Context(), "c1")
		must(t, err)
		return in.Config["volatile.idmap.current"]
	}

	for value, kind := range map[string]errs.Kind{"500000": errs.Invalid, "1065600": errs.Conflict, "1000001": errs.Conflict} {
		err := set("c1", api.ConfigMap{"security.idmap.base": value})
		if !errs.Is(err, kind) || !strings.Contains(err.Error(), "security.idmap.base: the ids "+value) {
			t.Errorf("%s: got %v", value, err)
		}
	}
	must(t, set("c1", api.ConfigMap{"security.idmap.base": "1200000"}))
	restart()
	must(t, set("c1", api.ConfigMap{"security.idmap.base": "1200000", "security.idmap.size": "100000"}))

	w.boot() // What it has is what it started with.
	must(t, set("c2", api.ConfigMap{"security.idmap.base": "1265536"}))
	must(t, set("c2", nil))
	restart()
	if got := base(); !strings.Contains(got, `"Hostid":1200000,"Nsid":0,"Maprange":100000`) {
		t.Errorf("got %s", got)
	}
	must(t, set("c1", api.ConfigMap{"security.idmap.base": "1250000", "security.idmap.size": "100000"}))
	restart()
	if got := base(); !strings.Contains(got, `"Hostid":1250000,"Nsid":0,"Maprange":100000`) {
		t.Errorf("got %s", got)
	}
}

// TestNoIDsAreLeft wants more than there are, and leaves all as it was.
func TestNoIDsAreLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	before := w.dump()
	for name, act := range map[string]func() error{
		"create": func() error {
			req := post("c2", true)
			req.Config = api.ConfigMap{"security.idmap.size": "6553600"}
			_, err := w.do(w.svc.Create(t.Context(), req))
			return err
		},
		"update": func() error {
			return w.updateNow(t.Context(), "c1", api.InstancePut{
				Profiles: []string{"default"}, Config: api.ConfigMap{"security.idmap.size": "6553600"},
			})
		},
	} {
		err := act()
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "no range of 6553600 ids is free") {
			t.Errorf("%s: got %v", name, err)
		}
		if after := w.dump(); after != before {
			t.Errorf("%s: it left something:\n%s", name, after)
		}
	}
}

// TestIDsForNesting gives an instance that has containers more ids than
// others, as long as there are more.
func TestIDsForNesting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	for _, step := range []struct {
		config api.ConfigMap
		want   string
	}{
		{api.ConfigMap{"security.nesting": "true"}, "\"Maprange\":4194304"},
		{api.ConfigMap{"security.nesting": "true", "security.idmap.size": "70000"}, "\"Maprange\":70000"},
		{api.ConfigMap{"security.nesting": "true", "security.idmap.base": "1200000"}, "\"Hostid\":1200000,\"Nsid\":0,\"Maprange\":65536"},
		{nil, "\"Maprange\":65536"},
	} {
		must(t, w.updateNow(t.Context(), "c1", api.InstancePut{Profiles: []string{"default"}, Config: step.config}))
		for range 2 { // The second time nothing is to change.
			w.ok(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "restart", Force: true}))
		}
		in, err := w.svc.Get(t.Context(), "c1")
		must(t, err)
		if got := in.Config["volatile.idmap.current"]; !strings.Contains(got, step.want) {
			t.Errorf("%v: got %s", step.config, got)
		}
	}
	for _, name := range []string{"n1", "n2"} { // There are 6,553,600 ids in all.
		req := post(name, true)
		req.Config = api.ConfigMap{"security.nesting": "true"}
		w.ok(w.svc.Create(t.Context(), req))
	}
	in, err := w.svc.Get(t.Context(), "n2")
	must(t, err)
	if got := in.Config["volatile.idmap.current"]; !strings.Contains(got, "\"Maprange\":1048576") {
		t.Errorf("the second: got %s", got)
	}
}

// TestRestartOfWhatCannotStart leaves it running.
func TestRestartOfWhatCannotStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	source := t.TempDir()
	w.create("c1", true)
	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{
		Profiles: []string{"default"},
		Devices:  api.DevicesMap{"data": {"type": "disk", "path": "/data", "source": source}},
	}))
	must(t, os.Remove(source))
	_, err := w.do(w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "restart", Force: true}))
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), source) || !runs(w.dump(), "c1") {
		t.Errorf("got %v\n%s", err, w.dump())
	}
}
