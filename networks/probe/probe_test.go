package probe_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/networks/probe"
	"github.com/cuib/cuib/shared/testenv"
)

// network makes a bridge on a host with a default route.
func network(t *testing.T, stateful bool) networks.Config {
	t.Helper()
	networkstest.Host(t)
	f := networks.Family{NAT: true, Routing: true, Firewall: true, DHCP: true}
	cfg := networks.Config{Name: networkstest.Name, Dir: networkstest.Dir(t), IPv4: f, IPv6: f, DNS: networks.DNS{Domain: "cuib"}}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/24")
	cfg.IPv6.Address = netip.MustParsePrefix("fd42:1:2:3::1/64")
	cfg.IPv6.Stateful = stateful
	networkstest.World(t)
	for _, via := range []string{"192.0.2.2", "2001:db8::2"} {
		if err := networkstest.Route(netip.MustParseAddr(via)); err != nil {
			t.Fatal(err)
		}
	}
	if err := (bridge.Driver{}).Apply(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := (bridge.Driver{}).Remove(context.WithoutCancel(t.Context()), cfg); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

// failed returns the names of the checks that failed, or were skipped.
func failed(t *testing.T, cfg networks.Config) (names []string) {
	t.Helper()
	checks, err := probe.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		t.Logf("%-45s %-8s %s", c.Name, c.Status, c.Detail)
		if c.Status != probe.OK {
			names = append(names, string(c.Status)+" "+c.Name)
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, "cuibdr") {
			t.Errorf("left %s", l.Name)
		}
	}
	return names
}

func TestRun(t *testing.T) {
	testenv.Kernel(t)
	cfg := network(t, false)
	if got := failed(t, cfg); len(got) != 0 {
		t.Fatalf("failed: %q", got)
	}
	data, err := os.ReadFile(filepath.Join(cfg.Dir, "dnsmasq.leases"))
	if err != nil || strings.Contains(string(data), "10.7.8.") {
		t.Errorf("leases: %q, %v; want none", data, err)
	}
	tests := []struct {
		name string
		rule string
		want string
	}{
		{"forwarding", "chain f { type filter hook forward priority 0; policy drop; }", "failed connection to other networks (IPv4)"},
		{"answers", `chain f { type filter hook forward priority 0; oifname "` + cfg.Name + `" drop; }`, "failed connection to other networks (IPv4)"},
		{"DHCP", "chain i { type filter hook input priority 0; udp dport 67 drop; }", "failed address by DHCP (IPv4)"},
		{"DNS", "chain i { type filter hook input priority 0; udp dport 53 drop; }", "failed DNS of the host (IPv4)"},
		{"the way in", `chain o { type filter hook output priority 0; oifname "` + cfg.Name + `" ip protocol 6 tcp flags & (syn | ack) == syn drop; }`, "failed connection from the host (IPv4)"},
		{"pings", "chain i { type filter hook input priority 0; icmp type echo-request drop; }", "failed ping of the host (IPv4)"},
	}
	for _, test := range tests {
		testenv.Run(t, "nft", "table ip foreign { "+test.rule+"; }")
		if got := strings.Join(failed(t, cfg), ", "); got != test.want {
			t.Errorf("without %s: %q, want %q", test.name, got, test.want)
		}
		testenv.Run(t, "nft", "delete table ip foreign")
	}
}

func TestNotTried(t *testing.T) {
	testenv.Kernel(t)
	cfg := network(t, true)
	testenv.Run(t, "ip", "route", "del", "default")
	testenv.Run(t, "ip", "-6", "route", "del", "default")
	const want = "skipped connection to other networks (IPv4), skipped connection to other networks (IPv6)"
	if got := strings.Join(failed(t, cfg), ", "); got != want {
		t.Errorf("without a way out: %q, want %q", got, want)
	}
	cfg.Name = "none"
	if checks, err := probe.Run(t.Context(), cfg); err == nil {
		t.Errorf("of no bridge: %v", checks)
	}
}

// TestRouted has a network that others reach without NAT.
func TestRouted(t *testing.T) {
	testenv.Kernel(t)
	cfg := network(t, false)
	cfg.IPv4.NAT, cfg.IPv6.NAT = false, false
	if err := (bridge.Driver{}).Apply(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	// The world knows no way back, so that nothing can be tried there.
	testenv.Run(t, "ip", "route", "del", "default")
	testenv.Run(t, "ip", "-6", "route", "del", "default")
	in := func() (names []string) {
		return slices.DeleteFunc(failed(t, cfg), func(name string) bool { return strings.HasPrefix(name, "skipped") })
	}
	if got := in(); len(got) != 0 {
		t.Errorf("failed: %q", got)
	}
	testenv.Run(t, "nft", `table inet foreign { chain f { type filter hook forward priority 0; oifname "`+cfg.Name+`" ct state new drop; }; }`)
	const want = "failed connection from other networks (IPv4), failed connection from other networks (IPv6)"
	if got := strings.Join(in(), ", "); got != want {
		t.Errorf("with a rule: %q, want %q", got, want)
	}
	rules, err := firewall.Read(nft.Ours)
	if err != nil {
		t.Fatal(err)
	}
	lost, err := rules.Obstacles(firewall.Outside(cfg))
	if err != nil || len(lost) != 2 || !strings.HasPrefix(lost[0].Packet.What, "connections from other networks") {
		t.Fatalf("got %v, %v; want one of each family", lost, err)
	}
	testenv.Run(t, "sh", "-ec", lost[0].Remedy(cfg.Name))
	if got := in(); len(got) != 0 {
		t.Errorf("after the remedy: %q", got)
	}
}

// TestRefused has a network without NAT whose ACLs refuse all that they can.
func TestRefused(t *testing.T) {
	testenv.Kernel(t)
	cfg := network(t, false)
	cfg.IPv4.NAT, cfg.IPv6 = false, networks.Family{}
	refuse := acl.Direction{Default: acl.Reject}
	cfg.ACL = &acl.Policy{Network: cfg.Name, Ingress: refuse, Egress: refuse}
	if err := (bridge.Driver{}).Apply(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	const want = "skipped ping of the host (IPv4), skipped connection from the host (IPv4), skipped connection to other networks (IPv4)"
	if got := strings.Join(failed(t, cfg), ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
