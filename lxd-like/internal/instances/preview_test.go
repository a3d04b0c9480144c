package instances_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// five makes five running instances with the profile extra.
func (w *world) five() {
	w.tb.Helper()
	must(w.tb, w.svc.CreateProfile(w.tb.Context(), api.ProfilesPost{Name: "extra", ProfilePut: api.ProfilePut{Config: api.ConfigMap{"limits.processes": "50"}}}))
	for _, name := range []string{"c1", "c2", "c3", "c4", "c5"} {
		req := post(name, true)
		req.Profiles = []string{"default", "extra"}
		w.ok(w.svc.Create(w.tb.Context(), req))
	}
}

func TestProfileThatTheThirdOfFiveRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.five()
	before := w.dump()
	put := api.ProfilePut{
		Config:  api.ConfigMap{"limits.processes": "99", "user.x": "y"},
		Devices: api.DevicesMap{"data": {"type": "disk", "path": "/data", "source": "/tmp"}},
	}
	for _, tt := range []struct{ refuses, noMount, want string }{
		{"c3", "", `profile "extra": instance "c3": it uses more than that`},
		{"", "c3", `profile "extra": instance "c3": add device "data": nothing can be mounted`},
	} {
		w.rt.refuses, w.rt.noMount = tt.refuses, tt.noMount
		err := w.svc.UpdateProfile(t.Context(), "extra", put)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %s", err, tt.want)
		}
		if after := w.dump(); after != before {
			t.Errorf("it left something:\n%s\nbefore:\n%s", after, before)
		}
	}
	w.rt.refuses, w.rt.noMount = "", ""
	must(t, w.svc.UpdateProfile(t.Context(), "extra", put))
	if got := strings.Count(w.dump(), "} /data "); got != 5 || !strings.Contains(w.dump(), " 99") {
		t.Errorf("%d of 5 have it:\n%s", got, w.dump())
	}
}

func TestPreviewOfAProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.svc.CreateProfile(t.Context(), api.ProfilesPost{Name: "extra", ProfilePut: api.ProfilePut{Config: api.ConfigMap{"limits.processes": "50"}}}))
	create := func(name string, start bool, config api.ConfigMap, devices api.DevicesMap) {
		req := post(name, start)
		req.Profiles, req.Config, req.Devices = []string{"default", "extra"}, config, devices
		w.ok(w.svc.Create(t.Context(), req))
	}
	create("runs", true, nil, nil)
	create("stopped", false, nil, nil)
	create("own", true, api.ConfigMap{"limits.processes": "7", "security.nesting": "false"}, api.DevicesMap{"data": {"type": "none"}})
	create("cannot", true, nil, api.DevicesMap{"mine": {"type": "disk", "path": "/data", "source": "/etc"}})
	w.create("without", true)
	before := w.dump()

	got, err := w.svc.PreviewProfile(t.Context(), "extra", api.ProfilePut{
		Config:  api.ConfigMap{"limits.processes": "99", "security.nesting": "true"},
		Devices: api.DevicesMap{"data": {"type": "disk", "path": "/data", "source": "/tmp"}},
	})
	must(t, err)
	change := func(key, before, after, when string) api.ConfigChange {
		return api.ConfigChange{Key: key, Before: before, After: after, When: when}
	}
	all := func(now string) []api.ConfigChange {
		return []api.ConfigChange{
			change("devices.data.path", "", "/data", now), change("devices.data.source", "", "/tmp", now), change("devices.data.type", "", "disk", now),
			change("limits.processes", "50", "99", now), change("security.nesting", "", "true", api.WhenStart),
		}
	}
	want := []api.InstanceChange{
		{Instance: "cannot", Status: "Running", Changes: all(api.WhenNow), Error: got[0].Error},
		{Instance: "runs", Status: "Running", Changes: all(api.WhenNow)},
		{Instance: "stopped", Status: "Stopped", Changes: all(api.WhenStart)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if !strings.Contains(got[0].Error, "want the path /data") {
		t.Errorf("the error is %q", got[0].Error)
	}
	one, err := w.svc.Preview(t.Context(), "runs", api.InstancePut{Config: api.ConfigMap{"user.a": "b"}, Profiles: []string{"default"}})
	must(t, err)
	want = []api.InstanceChange{{Instance: "runs", Status: "Running", Changes: []api.ConfigChange{
		change("image.os", "Debian", "", api.WhenStart), change("limits.processes", "50", "", api.WhenNow), change("user.a", "", "b", api.WhenNow),
	}}}
	if !reflect.DeepEqual(one, want) {
		t.Errorf("got\n%+v\nwant\n%+v", one, want)
	}
	for name, put := range map[string]api.ProfilePut{"extra": {Config: api.ConfigMap{"limits.processes": "x"}}, "none": {}} {
		if _, err := w.svc.PreviewProfile(t.Context(), name, put); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if after := w.dump(); after != before {
		t.Errorf("it has changed something:\n%s\nbefore:\n%s", after, before)
	}
}
