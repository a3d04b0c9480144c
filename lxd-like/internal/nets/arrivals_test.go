package nets_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/api"
)

// waited is a service that waits for the addresses of instances, and a clock.
type waited struct {
	env
	*nets.Arrivals

	now    time.Time
	inside map[string][]netip.Prefix // Nil if the instance does not run.
}

func newWaited(t *testing.T, network api.ConfigMap) *waited {
	t.Helper()
	w := &waited{env: newEnv(t), now: time.Now().Add(time.Hour), inside: map[string][]netip.Prefix{mac: nil}}
	w.Warnings = &warnings.Service{DB: w.DB, Events: w.Events, Log: w.Log}
	w.Inside = func(string) (map[string][]netip.Prefix, error) {
		if w.inside == nil {
			return nil, errors.New("it does not run")
		}
		return w.inside, nil
	}
	w.create(t, "br0", network)
	w.restart(t)
	return w
}

// restart lets another daemon begin.
func (w *waited) restart(t *testing.T) {
	t.Helper()
	var err error
	w.Arrivals, err = nets.NewArrivals(t.Context(), w.Service, w.now)
	must(t, err)
}

func (w *waited) event(t *testing.T, action string) {
	w.eventOf(t, action, "/1.0/instances/c1", "default")
}

func (w *waited) eventOf(t *testing.T, action, source, of string) {
	t.Helper()
	data, err := json.Marshal(api.EventLifecycle{Action: action, Source: source, Project: of})
	must(t, err)
	w.Heed(t.Context(), &api.Event{Metadata: data}, w.now)
}

// after lets time pass, and checks how many are waited for and what there is of
// the warning: its status, severity and text.
func (w *waited) after(t *testing.T, d time.Duration, waitedFor int, want ...string) {
	t.Helper()
	w.now = w.now.Add(d)
	if got := w.Look(t.Context(), w.now); got != waitedFor {
		t.Errorf("%d instances are waited for, want %d", got, waitedFor)
	}
	all, err := w.Warnings.List(t.Context())
	must(t, err)
	var got strings.Builder
	for _, one := range all {
		got.WriteString(strings.Join([]string{one.EntityURL, one.Status, one.Severity, one.LastMessage}, " "))
	}
	if len(want) == 0 && got.Len() > 0 {
		t.Errorf("got warning %q", got.String())
	}
	for _, part := range want {
		if !strings.Contains(got.String(), part) {
			t.Errorf("got warning %q, want %q", got.String(), part)
		}
	}
}

func inside(addresses ...string) map[string][]netip.Prefix {
	all := map[string][]netip.Prefix{mac: nil}
	for _, a := range addresses {
		all[mac] = append(all[mac], netip.MustParsePrefix(a))
	}
	return all
}

var served = api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv6.address": "none"}

func TestNoAddressInTime(t *testing.T) {
	w := newWaited(t, served)
	w.instance(t, "c1", map[string]string{"hwaddr": mac})
	w.after(t, time.Hour, 0)
	w.event(t, "instance-started")
	w.after(t, nets.AddressTime-1, 1)
	w.after(t, 1, 1, "/1.0/instances/c1 new low", `instance "c1"`, `NIC "eth0"`, `network "br0"`, "cuib network doctor br0")

	nets.Block(w.Service, "br0")
	w.after(t, time.Minute, 1, "new high", "table ip strict, chain in: udp dport 67 drop", `Remedy: nft insert rule ip strict in iifname "br0" accept`)

	w.inside = inside("fe80::1/64", "10.1.2.9/24")
	w.after(t, 5*time.Second, 0, "resolved")
	w.inside = inside("169.254.7.7/16")
	w.event(t, "instance-restarted")
	w.after(t, nets.AddressTime, 1, " new ")
	w.event(t, "instance-restarted")
	w.after(t, 0, 1, "resolved")
	w.after(t, nets.AddressTime, 1, " new ")
	w.event(t, "instance-shutdown")
	w.after(t, 0, 0, "resolved")
}

func TestNoAddressInProject(t *testing.T) {
	w := newWaited(t, served)
	w.instance(t, "p_c1", map[string]string{"hwaddr": mac})
	w.eventOf(t, "instance-started", "/1.0/instances/c1?project=p", "p")
	w.after(t, nets.AddressTime, 1, "/1.0/instances/p_c1 new low", `instance "c1" of project "p"`, "cuib network doctor br0\"")
	w.eventOf(t, "instance-stopped", "/1.0/instances/c1?project=p", "p")
	w.after(t, 0, 0, "resolved")
}

func TestNoAddressOfNIC(t *testing.T) {
	w := newWaited(t, served)
	w.instance(t, "c1", map[string]string{"hwaddr": mac})
	w.inside = inside("10.1.2.9/24")
	w.event(t, "instance-started")
	w.after(t, nets.AddressTime, 0)
	w.inside = inside() // As if the NIC came only now.
	w.event(t, "instance-updated")
	w.after(t, nets.AddressTime, 1, " new ")
	w.inside = inside("10.1.2.9/24")
	w.event(t, "instance-updated")
	w.after(t, 0, 0, "resolved")
}

func TestNoAddressAfterRestartOfDaemon(t *testing.T) {
	w := newWaited(t, served)
	w.instance(t, "c1", map[string]string{"hwaddr": mac})
	w.event(t, "instance-started")
	w.after(t, nets.AddressTime, 1, " new ")
	w.restart(t)
	w.after(t, 0, 1, " new ")
	w.inside = nil // It ended meanwhile.
	w.restart(t)
	w.after(t, 0, 0, "resolved")
}

func TestNoAddressWanted(t *testing.T) {
	for name, tt := range map[string]struct {
		network     api.ConfigMap
		nic         map[string]string
		inside      map[string][]netip.Prefix
		waitedFor   int
		wantWarning []string
	}{
		"none given":     {network: api.ConfigMap{"ipv4.address": "none", "ipv6.address": "none"}, inside: inside()},
		"no DHCP":        {network: api.ConfigMap{"ipv4.address": "10.1.2.1/24", "ipv4.dhcp": "false", "ipv6.address": "none"}, inside: inside()},
		"none asked":     {network: served, nic: map[string]string{"ipv4.address": "none", "security.ipv4_filtering": "true"}, inside: inside()},
		"a VLAN":         {network: served, nic: map[string]string{"vlan": "7"}, inside: inside()},
		"static, has it": {network: served, nic: map[string]string{"ipv4.address": "10.1.2.9"}, inside: inside("10.1.2.9/24")},
		"static":         {network: served, nic: map[string]string{"ipv4.address": "10.1.2.9"}, inside: inside(), waitedFor: 1, wantWarning: []string{" new low "}},
		"NIC moved away": {network: served, inside: map[string][]netip.Prefix{"10:66:6a:00:00:07": nil}},
		"does not run":   {network: served},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWaited(t, tt.network)
			nic := map[string]string{"hwaddr": mac}
			maps.Copy(nic, tt.nic)
			w.instance(t, "c1", nic)
			w.inside = tt.inside
			w.event(t, "instance-started")
			w.after(t, nets.AddressTime, tt.waitedFor, tt.wantWarning...)
		})
	}
}
