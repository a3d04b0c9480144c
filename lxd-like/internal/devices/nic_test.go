package devices_test

import (
	"context"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

const testMAC = "10:66:6a:00:00:01"

// device reads options as users write them.
func device(text string) profiles.Device {
	d := profiles.Device{"type": "nic", "hwaddr": testMAC, "name": "eth0"}
	for f := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(f, "=")
		d[k] = v
	}
	if d["nictype"] == "ipvlan" {
		delete(d, "hwaddr")
	}
	return d
}

func addresses(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range all {
		out = append(out, netip.MustParsePrefix(a))
	}
	return out
}

// filtered is env with networks that give out addresses.
func filtered() devices.Env {
	e := env()
	link := e.Link
	e.Link = func(ctx context.Context, network string) (networks.Link, error) {
		l, err := link(ctx, network)
		if network == "br" {
			l.Autoconf = netip.MustParsePrefix("fd42::/64")
		}
		return l, err
	}
	e.Pin = func(_ context.Context, _ string, h networks.Host, want networks.Pin) (networks.Host, error) {
		if want.Four && !h.IPv4.IsValid() {
			h.IPv4 = netip.MustParseAddr("10.0.0.9")
		}
		return h, nil
	}
	return e
}

func TestNICOptions(t *testing.T) {
	testenv.NetNS(t)
	testenv.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	testenv.Run(t, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	linkLocal := "fe80::1266:6aff:fe00:1/128"
	for text, want := range map[string]runtime.NIC{
		"network=br connected=false queue.tx.length=7 limits.max=1Mbit limits.priority=3 security.port_isolation=true host_name=v1": {
			Kind: nic.Bridged, Parent: "br", MTU: 1400, HostName: "v1", MAC: testMAC, Unplugged: true, QueueLength: 7,
			Ingress: 1e6, Egress: 1e6, Priority: 3, Isolated: true,
		},
		"network=br host_name=v1 security.acls=web security.acls.default.egress.action=drop security.acls.default.ingress.logged=true": {
			Kind: nic.Bridged, Parent: "br", MTU: 1400, HostName: "v1", MAC: testMAC,
			ACL: acl.Ref{Network: "br", ACLs: []string{"web"}, Egress: acl.Default{Action: acl.Drop}, Ingress: acl.Default{Logged: "true"}},
		},
		"network=br host_name=v1 security.ipv4_filtering=true security.ipv6_filtering=true": {
			Kind: nic.Bridged, Parent: "br", MTU: 1400, HostName: "v1", MAC: testMAC, FilterMAC: true,
			IPv4: nic.Family{Only: true, Addresses: addresses("10.0.0.9/32")},
			IPv6: nic.Family{Only: true, Addresses: addresses("fd42::1266:6aff:fe00:1/128", linkLocal)},
		},
		"network=br host_name=v1 security.ipv4_filtering=true security.ipv6_filtering=true ipv4.address=10.0.0.7 ipv6.address=none": {
			Kind: nic.Bridged, Parent: "br", MTU: 1400, HostName: "v1", MAC: testMAC, FilterMAC: true,
			IPv4: nic.Family{Only: true, Addresses: addresses("10.0.0.7/32")}, IPv6: nic.Family{Only: true},
		},
		"nictype=bridged parent=br0 host_name=v1 vlan=none vlan.tagged=3,5-6 ipv4.routes=10.1.0.0/16 ipv4.routes.external=10.2.0.0/16": {
			Kind: nic.Bridged, Parent: "br0", HostName: "v1", MAC: testMAC, VLAN: nic.VLAN{Untagged: true, Tagged: []int{3, 5, 6}},
			IPv4: nic.Family{Routes: addresses("10.1.0.0/16", "10.2.0.0/16")},
		},
		"nictype=routed parent=up0 host_name=v1 ipv4.address=10.0.0.2,10.0.0.3 ipv4.host_table=7": {
			Kind: nic.Routed, Parent: "up0", HostName: "v1", MAC: testMAC,
			IPv4: nic.Family{
				Addresses: addresses("10.0.0.2/32", "10.0.0.3/32"), Only: true, Tables: []int{254, 7}, Probe: true,
				Gateway: netip.MustParseAddr("169.254.0.1"), HostAddress: netip.MustParseAddr("169.254.0.1"),
			},
			IPv6: nic.Family{Only: true, Probe: true},
		},
		"nictype=routed host_name=v1 ipv6.address=fd42::2 ipv6.gateway=none ipv6.host_address=fe80::9 ipv6.host_tables=9": {
			Kind: nic.Routed, HostName: "v1", MAC: testMAC, IPv4: nic.Family{Only: true},
			IPv6: nic.Family{Addresses: addresses("fd42::2/128"), Only: true, Tables: []int{9}, HostAddress: netip.MustParseAddr("fe80::9")},
		},
		"nictype=p2p host_name=v1 limits.ingress=1Mbit limits.egress=2Mbit": {
			Kind: nic.P2P, HostName: "v1", MAC: testMAC, Ingress: 1e6, Egress: 2e6,
		},
	} {
		got, err := devices.Make(t.Context(), "a", device(text), filtered())
		if err != nil || len(got.NICs) != 1 {
			t.Errorf("%s: got %+v, %v", text, got, err)
			continue
		}
		want.Device, want.Name, want.Inner = "a", "eth0", got.NICs[0].Inner
		if !reflect.DeepEqual(got.NICs[0], want) {
			t.Errorf("%s: got\n%+v, want\n%+v", text, got.NICs[0], want)
		}
	}
}

func TestPinnedAddressIsKept(t *testing.T) {
	dev, e := device("network=br security.ipv4_filtering=true"), filtered()
	got, err := devices.Make(t.Context(), "a", dev, e)
	if err != nil || got.Volatile["volatile.a.last_state.ip_addresses"] != "10.0.0.9" {
		t.Fatalf("got %v, %v", got.Volatile, err)
	}
	e.Volatile["volatile.a.last_state.ip_addresses"] = "10.0.0.8"
	got, err = devices.Make(t.Context(), "a", dev, e)
	if err != nil || got.NICs[0].IPv4.Addresses[0].String() != "10.0.0.8/32" || got.Hosts[0].Host.IPv4.String() != "10.0.0.8" {
		t.Errorf("got %+v, %v", got, err)
	}
	if h := devices.Hosts("a", dev, "c1", e.Volatile); !reflect.DeepEqual(h, got.Hosts) {
		t.Errorf("got %v, want %v", h, got.Hosts)
	}
	delete(dev, "security.ipv4_filtering")
	got, err = devices.Make(t.Context(), "a", dev, e)
	if v, some := got.Volatile["volatile.a.last_state.ip_addresses"]; err != nil || !some || v != "" {
		t.Errorf("it keeps %v, %v", got.Volatile, err)
	}
}

func TestPhysicalNIC(t *testing.T) {
	testenv.NetNS(t)
	testenv.Run(t, "ip", "link", "add", "up0", "mtu", "1450", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "up1")
	testenv.Run(t, "ip", "link", "set", "up0", "up")
	dev, e := device("nictype=physical parent=up0 mtu=1400"), env()
	e.Volatile = map[string]string{}
	got, err := devices.Make(t.Context(), "a", dev, e)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"volatile.a.last_state.created": "false", "volatile.a.last_state.hwaddr": "02:00:00:00:00:01", "volatile.a.last_state.mtu": "1450",
	}
	before := got.NICs[0].Before
	if !reflect.DeepEqual(got.LastState, want) || before.MAC != "02:00:00:00:00:01" || before.MTU != 1450 || !before.Up || before.Index == 0 {
		t.Errorf("got %+v, %v", got, before)
	}
	// It runs, and has it: the host has it no more.
	testenv.Run(t, "ip", "link", "del", "up0")
	if _, err := devices.Make(t.Context(), "a", dev, e); !errs.Is(err, errs.Invalid) {
		t.Errorf("no interface: %v", err)
	}
	e.Running, e.Volatile = true, want
	again, err := devices.Make(t.Context(), "a", dev, e)
	if err != nil || !reflect.DeepEqual(again.LastState, want) {
		t.Fatalf("got %+v, %v", again, err)
	}
	c, err := devices.Diff(map[string]devices.Plan{"a": devices.Recall(t.Context(), "a", dev, e)}, map[string]devices.Plan{"a": again})
	if err != nil || len(c.Add)+len(c.Remove)+len(c.Change) != 0 {
		t.Errorf("nothing changed: %+v, %v", c, err)
	}
	gone := devices.ForgetLastState(map[string]string{"volatile.a.last_state.mtu": "1", "volatile.b.last_state.mtu": "1", "volatile.a.hwaddr": "x"}, "a")
	if !reflect.DeepEqual(gone, map[string]string{"volatile.a.last_state.mtu": ""}) {
		t.Errorf("got %v", gone)
	}
}

func TestNICHostRefusals(t *testing.T) {
	testenv.NetNS(t)
	testenv.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	testenv.Run(t, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	testenv.Run(t, "ip", "link", "set", "up1", "master", "br0")
	tests := map[string]string{
		"nictype=physical parent=lo":                   "cannot be on the loopback interface",
		"nictype=physical parent=br0":                  "is a bridge, want nictype bridged",
		"nictype=physical parent=up1":                  "is a part of another interface",
		"nictype=macvlan parent=up0 mtu=9000":          "mtu: got 9000, want at most 1500, as the parent up0 has",
		"nictype=routed parent=no0":                    `the host has no interface "no0"`,
		"network=mac security.mac_filtering=true":      "makes it a nic of nictype macvlan: security.mac_filtering",
		"network=mac limits.max=1Mbit":                 "limits.max: a nic of nictype macvlan does not have it",
		"network=br security.acls=gone":                `network ACL "gone" not found`,
		"network=br vlan.tagged=3 mode=private":        "mode: a nic of nictype bridged does not have it",
		"nictype=routed vrf=no0 ipv4.address=10.0.0.2": "vrf: the ",
	}
	if !nic.Supported("ipvlan") {
		tests["nictype=ipvlan parent=up0"] = "nictype: the kernel has no interfaces of type ipvlan"
	}
	if !nic.Supported("vlan") {
		tests["nictype=macvlan parent=up0 vlan=5"] = "vlan: the kernel has no VLANs (802.1q)"
	}
	for text, want := range tests {
		_, err := devices.Make(t.Context(), "a", device(text), env())
		if err == nil || !strings.Contains(err.Error(), want) || errs.Is(err, errs.Internal) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

// TestUnattached has no interface, and nobody who knows it.
func TestUnattached(t *testing.T) {
	dev := device("network=br attached=false")
	got, err := devices.Make(t.Context(), "a", dev, env())
	if err != nil || !reflect.DeepEqual(got, devices.Plan{}) || devices.Hosts("a", dev, "c1", nil) != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestClaims(t *testing.T) {
	got, err := devices.Make(t.Context(), "a", device("nictype=routed ipv4.address=10.0.0.2,10.0.0.3"), env())
	want := []networks.Claim{{
		Instance: "c1", MAC: testMAC, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")},
	}}
	if err != nil || !reflect.DeepEqual(got.Claims, want) {
		t.Errorf("got %+v, %v", got.Claims, err)
	}
}

// TestChangeInPlace tells changes that need another interface from others.
func TestChangeInPlace(t *testing.T) {
	e := filtered()
	for text, change := range map[string]bool{
		"limits.max=2Mbit": true, "mtu=1300": true, "security.ipv4_filtering=true": true, "connected=false": true, "vlan=7": true,
		"ipv4.routes=10.1.0.0/16": true, "host_name=v2": false, "hwaddr=10:66:6a:00:00:02": false, "name=eth1": false,
	} {
		old := device("network=br host_name=v1")
		now := device("network=br host_name=v1 " + text)
		a, err := devices.Make(t.Context(), "a", old, e)
		if err != nil {
			t.Fatal(err)
		}
		b, err := devices.Make(t.Context(), "a", now, e)
		if err != nil {
			t.Fatal(err)
		}
		c, err := devices.Diff(map[string]devices.Plan{"a": a}, map[string]devices.Plan{"a": b})
		if err != nil || change != (len(c.Change) == 1) || change == (len(c.Add) == 1) {
			t.Errorf("%s: got %+v, %v", text, c, err)
		}
	}
}

// TestNICsOfNetworks plans NICs whose networks say which interface of the host
// they are, and which VLANs they have.
func TestNICsOfNetworks(t *testing.T) {
	p, err := devices.Make(t.Context(), "a", profiles.Device{"type": "nic", "network": "whole"}, env())
	if err != nil {
		t.Fatal(err)
	}
	if n := p.NICs[0]; n.Kind != "physical" || n.Parent != "nowhere0" || n.MTU != 1300 || n.MAC != "" || len(p.Hosts) > 0 {
		t.Errorf("got %+v", p)
	}
	p, err = devices.Make(t.Context(), "a", profiles.Device{"type": "nic", "network": "trunk"}, env())
	if err != nil {
		t.Fatal(err)
	}
	if n := p.NICs[0]; n.Kind != "bridged" || n.Parent != "lan" || n.VLAN.ID != 5 || len(n.VLAN.Tagged) != 2 || len(p.Hosts) != 1 {
		t.Errorf("got %+v", p)
	}
	p, err = devices.Make(t.Context(), "a", profiles.Device{"type": "nic", "network": "trunk", "vlan": "9", "vlan.tagged": "8"}, env())
	if err != nil {
		t.Fatal(err)
	}
	if n := p.NICs[0]; n.VLAN.ID != 9 || len(n.VLAN.Tagged) != 1 {
		t.Errorf("its own VLANs: got %+v", n)
	}
	for _, option := range []string{"ipv4.address", "security.mac_filtering"} {
		dev := profiles.Device{"type": "nic", "network": "whole", option: map[string]string{"ipv4.address": "10.0.0.5"}[option] + map[string]string{"security.mac_filtering": "true"}[option]}
		if _, err := devices.Make(t.Context(), "a", dev, env()); err == nil {
			t.Errorf("%s: planned", option)
		}
	}
}
