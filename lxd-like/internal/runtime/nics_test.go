package runtime_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/testenv"
)

// preparedNICs are of all kinds that the daemon makes itself, on a host with a
// bridge br0 and interfaces up0 and ph0.
func preparedNICs(t *testing.T) []runtime.NIC {
	t.Helper()
	for _, line := range []string{
		"link add br0 address 02:00:00:00:00:09 type bridge", "addr add 10.99.0.1/24 dev br0", "link set br0 up",
		"link add up0 type veth peer name up1", "link set up0 up", "link set up1 up",
		"link add ph0 type veth peer name ph1", "link set ph0 up", "link set ph1 up", "addr add 10.98.0.1/24 dev ph1",
	} {
		testenv.Run(t, append([]string{"ip"}, strings.Fields(line)...)...)
	}
	l, err := netlink.LinkByName("ph0")
	if err != nil {
		t.Fatal(err)
	}
	name := func(s string) string { return fmt.Sprintf("v%s%d", s, os.Getpid()%100000) }
	one := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	return []runtime.NIC{
		{
			Device: "a", Kind: nic.Bridged, Parent: "br0", Name: "eth0", HostName: name("a"), MAC: "10:66:6a:00:00:01", Ingress: 1e8, Egress: 1e8,
			FilterMAC: true, IPv4: nic.Family{Only: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.99.0.2/32")}},
		},
		{
			Device: "b", Kind: nic.Routed, Parent: "up0", Name: "eth1", HostName: name("b"), MAC: "10:66:6a:00:00:02",
			IPv4: nic.Family{Only: true, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")}, Gateway: one("169.254.0.1"), HostAddress: one("169.254.0.1")},
			IPv6: nic.Family{Only: true, Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::7/128")}, Gateway: one("fe80::1"), HostAddress: one("fe80::1")},
		},
		{Device: "c", Kind: nic.P2P, Name: "eth2", HostName: name("c"), MAC: "10:66:6a:00:00:03", MTU: 1400},
		{
			Device: "d", Kind: nic.Physical, Parent: "ph0", Name: "eth3", MAC: "10:66:6a:00:00:04", MTU: 1300,
			Before: nic.Before{Index: l.Attrs().Index, MAC: l.Attrs().HardwareAddr.String(), MTU: 1500, Up: true},
		},
	}
}

// hostNow is what the host has that belongs to NICs.
func hostNow(t *testing.T) string {
	t.Helper()
	var names []string
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		a := l.Attrs()
		names = append(names, fmt.Sprintf("%s %s %d", a.Name, a.HardwareAddr, a.MTU))
	}
	routes := strings.ReplaceAll(testenv.Run(t, "ip", "route"), " linkdown", "") // As soon as the kernel sees it.
	return strings.Join(names, "\n") + strings.ReplaceAll(routes, " ", "") + testenv.Run(t, "ip", "neigh", "show", "proxy") + testenv.Run(t, "nft", "list", "ruleset")
}

func TestPreparedNICs(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	r, s := newRuntime(t), newSpec(t)
	all := preparedNICs(t)
	before := hostNow(t)
	s.NICs = all
	ends := start(t, r, s)
	look := func(what string) {
		t.Helper()
		got, err := r.Interfaces(s.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			if i := got[n.Name]; i.MAC != n.MAC || !i.Up || n.MTU != 0 && i.MTU != n.MTU {
				t.Errorf("%s: %s: %+v", what, n.Name, i)
			}
		}
		if !hasAddress(got["eth1"], "192.0.2.7/32") || !hasAddress(got["eth1"], "2001:db8::7/128") {
			t.Errorf("%s: routed: %+v", what, got["eth1"])
		}
		routes := sh(t, r, s.Name, "ip route; ip -6 route")
		if !strings.Contains(routes, "default via 169.254.0.1 dev eth1") || !strings.Contains(routes, "default via fe80::1 dev eth1") {
			t.Errorf("%s: %s", what, routes)
		}
		if host := testenv.Run(t, "ip", "route"); !strings.Contains(host, "192.0.2.7 dev "+all[1].HostName) {
			t.Errorf("%s: %s", what, host)
		}
		rules := testenv.Run(t, "nft", "list", "ruleset")
		if !strings.Contains(rules, all[0].HostName) || !strings.Contains(rules, all[1].HostName) {
			t.Errorf("%s: %s", what, rules)
		}
	}
	look("started")
	for _, n := range all {
		if err := r.RemoveNIC(t.Context(), s.Name, n); err != nil {
			t.Fatal(err)
		}
	}
	if now := hostNow(t); now != before {
		t.Errorf("left over: got\n%s\nwant\n%s", now, before)
	}
	for _, n := range all {
		if err := r.AddNIC(t.Context(), s.Name, n); err != nil {
			t.Fatal(err)
		}
	}
	look("added")
	changed := all[0]
	changed.Egress, changed.FilterMAC, changed.IPv4 = 0, false, nic.Family{}
	if err := r.ChangeNIC(t.Context(), s.Name, changed); err != nil {
		t.Fatal(err)
	}
	if got := testenv.Run(t, "nft", "list", "ruleset"); strings.Contains(got, changed.HostName) {
		t.Errorf("it is filtered still: %s", got)
	}
	// Another daemon takes over what the guest has, and its end.
	if err := r.Reboot(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if exit := <-ends; !exit.Reboot {
		t.Errorf("got %+v", exit)
	}
	if now := hostNow(t); now != before {
		t.Errorf("left over: got\n%s\nwant\n%s", now, before)
	}
	start(t, r, s)
	look("again")
	if err := r.Kill(t.Context(), s.Name); err != nil {
		t.Fatal(err)
	}
	if now := hostNow(t); now != before {
		t.Errorf("left over: got\n%s\nwant\n%s", now, before)
	}
}

// TestPreparedNICsThatFail has a start that fails after some were made.
func TestPreparedNICsThatFail(t *testing.T) {
	if !inNetNS(t) {
		return
	}
	r, s := newRuntime(t), newSpec(t)
	all := preparedNICs(t)
	before := hostNow(t)
	last := all[2]
	last.Device, last.HostName = "z", "up1" // Somebody has the name.
	s.NICs = append(all, last)
	if _, err := r.Start(t.Context(), s, nil); err == nil || !strings.Contains(err.Error(), "up1") {
		t.Errorf("got %v", err)
	}
	if now := hostNow(t); !strings.Contains(now, "up1 ") {
		t.Errorf("it took another's:\n%s\nwant\n%s", now, before)
	}
}
