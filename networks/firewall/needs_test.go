package firewall_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/testenv"
)

func bridge() networks.Config {
	f := networks.Family{NAT: true, DHCP: true, Routing: true}
	cfg := networks.Config{Name: "br0", IPv4: f, IPv6: f}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/24")
	cfg.IPv6.Address = netip.MustParsePrefix("fd42::1/64")
	return cfg
}

func TestNeeds(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "ip")
	testenv.Run(t, "ip", "link", "add", "up0", "type", "veth", "peer", "up1")
	testenv.Run(t, "ip", "link", "set", "up0", "up")
	testenv.Run(t, "ip", "link", "set", "up1", "up")
	testenv.Run(t, "ip", "address", "add", "192.0.2.5/24", "dev", "up0")
	testenv.Run(t, "ip", "route", "add", "default", "via", "192.0.2.1")
	cfg := bridge()
	got, err := firewall.Needs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, p := range got {
		what = append(what, p.What)
		if p.Hook == firewall.Forward && !p.IPv6 && p.In != "up0" && p.Out != "up0" {
			t.Errorf("%s: from %q to %q, want up0", p.What, p.In, p.Out)
		}
	}
	const want = "DHCP requests of instances (IPv4)|DHCP answers to instances (IPv4)|DNS queries of instances (IPv4)|" +
		"connections of instances to other networks (IPv4)|answers from other networks to instances (IPv4)|" +
		"router solicitations of instances (IPv6)|router advertisements to instances (IPv6)|DNS queries of instances (IPv6)|" +
		"connections of instances to other networks (IPv6)|answers from other networks to instances (IPv6)"
	if strings.Join(what, "|") != want {
		t.Errorf("got  %q\nwant %q", strings.Join(what, "|"), want)
	}
	cfg.IPv4 = networks.Family{}
	cfg.IPv6.Routing, cfg.IPv6.Stateful = false, true
	if got, err = firewall.Needs(cfg); err != nil || len(got) != 4 || !strings.HasPrefix(got[2].What, "DHCP requests") {
		t.Errorf("isolated: %v, %v", got, err)
	}
}

// TestRemedies does what is told to be done, and looks again.
func TestRemedies(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	load(t, `
		table ip filter {
			chain DOCKER-USER { }
			chain INPUT { type filter hook input priority 0; policy drop; }
			chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }
		}
		table inet mine {
			chain in { type filter hook input priority 5; policy drop; }
			chain out { type filter hook output priority 5; policy drop; }
			chain through { type filter hook forward priority 5; policy drop; }
		}`)
	testenv.Kernel(t, "iptables")
	cfg := bridge()
	cfg.IPv4.NAT, cfg.IPv6.NAT = false, false
	packets, err := firewall.Needs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	packets = append(packets, firewall.Outside(cfg)...)
	for range 20 {
		left, err := look(packets)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if left[0].Owner == firewall.Docker && left[0].Packet.Hook != firewall.Forward {
			testenv.Run(t, "nft", "insert rule ip filter INPUT iifname br0 accept")
			continue
		}
		testenv.Run(t, "sh", "-c", left[0].Remedy("br0"))
	}
	t.Error("the remedies do not help")
}
