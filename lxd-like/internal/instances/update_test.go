package instances_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
)

// Clients unset a key, or an option of a device, by an empty value.
func TestEmptyValuesUnset(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	put := func(value string) api.ProfilePut {
		return api.ProfilePut{
			Config:  api.ConfigMap{"user.a": value, "user.b": "1"},
			Devices: api.DevicesMap{"data": {"type": "disk", "path": "/data", "source": "/etc", "readonly": value}},
		}
	}
	check := func(of string, config api.ConfigMap, devices api.DevicesMap) {
		t.Helper()
		if _, ok := config["user.a"]; ok || config["user.b"] != "1" {
			t.Errorf("%s has %v", of, config)
		}
		if _, ok := devices["data"]["readonly"]; ok || devices["data"]["path"] != "/data" {
			t.Errorf("%s has %v", of, devices)
		}
	}
	must(t, w.svc.CreateProfile(t.Context(), api.ProfilesPost{Name: "p", ProfilePut: put("true")}))
	must(t, w.svc.UpdateProfile(t.Context(), "p", put("")))
	p, err := w.svc.Profile(t.Context(), "p")
	must(t, err)
	check("the profile", p.Config, p.Devices)

	w.create("c1", false)
	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{
		Profiles: []string{"default"}, Config: put("").Config, Devices: put("").Devices,
	}))
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	check("the instance", in.Config, in.Devices)
}

// What was remembered of a NIC goes with it, whether the instance or a profile
// had it.
func TestNICsThatGoAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nic := api.DevicesMap{"second": {"type": "nic", "network": "n", "name": "second"}}
	must(t, w.svc.CreateProfile(t.Context(), api.ProfilesPost{Name: "p"}))
	req := post("c1", true)
	req.Profiles = []string{"default", "p"}
	w.ok(w.svc.Create(t.Context(), req))
	remembers := func() bool { return strings.Contains(w.dump(), "volatile.second.") }

	own := api.InstancePut{Profiles: req.Profiles, Devices: nic}
	must(t, w.updateNow(t.Context(), "c1", own))
	if !remembers() {
		t.Fatalf("nothing is remembered of the NIC:\n%s", w.dump())
	}
	own.Devices = nil
	must(t, w.updateNow(t.Context(), "c1", own))
	if remembers() {
		t.Errorf("the instance's own NIC is remembered:\n%s", w.dump())
	}

	must(t, w.svc.UpdateProfile(t.Context(), "p", api.ProfilePut{Devices: nic}))
	if !remembers() {
		t.Fatalf("nothing is remembered of the profile's NIC:\n%s", w.dump())
	}
	must(t, w.svc.UpdateProfile(t.Context(), "p", api.ProfilePut{}))
	if remembers() {
		t.Errorf("the profile's NIC is remembered:\n%s", w.dump())
	}
}
