package instances_test

import (
	"testing"

	"github.com/cuib/cuib/shared/api"
)

// TestPlannedOnce has a change plan the devices once, and keep no address for
// what does not come to be.
func TestPlannedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", true)
	filtered := api.ConfigMap{"type": "nic", "network": "n", "security.ipv4_filtering": "true"}
	put := api.InstancePut{Profiles: []string{"default"}, Devices: api.DevicesMap{"eth1": filtered}}

	_, err := w.update(t.Context(), "c1", put) // The job is not run.
	must(t, err)
	_, err = w.svc.Preview(t.Context(), "c1", put)
	must(t, err)
	if len(w.nets.pins) != 0 {
		t.Errorf("a check keeps addresses for %q", w.nets.pins)
	}

	bad := api.DevicesMap{"eth1": filtered, "x": volumeDisk("none")}
	if err := w.setDevices(bad); err == nil || len(w.nets.pins) != 0 {
		t.Errorf("after %v it keeps addresses for %q", err, w.nets.pins)
	}

	must(t, w.setDevices(put.Devices))
	if len(w.nets.pins) != 1 {
		t.Fatalf("asked for addresses of %q", w.nets.pins)
	}
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	if mac := in.Config["volatile.eth1.hwaddr"]; mac != w.nets.pins[0] || w.nets.hosts[mac].IPv4.String() != "10.0.0.9" {
		t.Errorf("it has %q, and an address is kept for %q", mac, w.nets.pins)
	}
}
