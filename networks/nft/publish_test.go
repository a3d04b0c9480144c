package nft_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// many is a network with a number of forwards, behind a gate if there is one.
func many(n int, gate networks.Gate) networks.Config {
	cfg := networks.Config{Name: "br0", IPv4: networks.Family{Address: netip.MustParsePrefix("10.0.0.1/16"), NAT: true, Routing: true, Firewall: true}}
	for i := range n {
		cfg.Published = append(cfg.Published, networks.Published{
			Listen: netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 250)}), Protocol: 6, First: uint16(1000 + i), Last: uint16(1000 + i), Gate: gate,
			Targets: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(2 + i%250)}), 80)},
		})
	}
	return cfg
}

func TestPublished(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	to := func(all ...string) (out []netip.AddrPort) {
		for _, s := range all {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	one, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	cfg := many(1, nil)
	cfg.IPv6 = networks.Family{Address: netip.MustParsePrefix("fd42::1/64"), Routing: true}
	cfg.Published = []networks.Published{
		{Listen: one, Protocol: 6, First: 80, Last: 80, Targets: to("10.0.0.2:8080"), SNAT: true},
		{Listen: one, Protocol: 17, First: 5000, Last: 6000, Targets: to("10.0.0.3:0")},
		{Listen: one, Protocol: 6, First: 90, Last: 90, Targets: to("10.0.0.2:90", "10.0.0.3:91")},
		{Listen: one, Protocol: 6, First: 100, Last: 200, Targets: to("10.0.0.2:0", "10.0.0.3:0"), BySource: true},
		{Listen: one, Targets: to("10.0.0.9:0")},
		{Listen: six, Protocol: 6, First: 80, Last: 81, Targets: to("[fd42::2]:8080"), Gate: networks.Gate{{In: "up0", Source: netip.MustParsePrefix("2001:db8::/32"), Open: true}}},
		{Listen: netip.IPv6Unspecified(), Protocol: 17, First: 53, Last: 53, Targets: to("[fd42::2]:53"), Gate: networks.Gate{{}}},
		{Listen: one, Protocol: 6, First: 99, Last: 99}, // Nobody answers.
	}
	if err := nft.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	rules := testenv.Run(t, "nft", "list", "ruleset")
	for _, want := range []string{
		"192.0.2.1 . tcp . 80 : 10.0.0.2 . 8080", "192.0.2.1 . udp . 5000-6000 : 10.0.0.3", "192.0.2.1 . tcp . 90 : goto turn-0",
		"192.0.2.1 . tcp . 100-200 : goto turn-1", "numgen inc mod 2", "jhash @nh,96,32 mod 2", "192.0.2.1 : 10.0.0.9",
		"10.0.0.2 . tcp . 8080 : 192.0.2.1 . 80", `iifname "up0" ip6 saddr 2001:db8::/32 goto admitted`, `iifname "br0" goto admitted`,
		"2001:db8::1 . tcp . 80-81 : goto gate-0", "udp . 53 : goto gate-1",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("got no %q in\n%s", want, rules)
		}
	}
	for _, cmd := range []string{
		"true", "nft delete element inet cuib_br0 ports_one_v4 '{ 192.0.2.1 . tcp . 80 }'", "nft flush chain inet cuib_br0 turn-0", "nft flush chain inet cuib_br0 published-in",
	} {
		if err := nft.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		testenv.Run(t, "sh", "-ec", cmd)
		if ok, err := nft.Intact(cfg); err != nil || ok != (cmd == "true") {
			t.Errorf("after %s: intact is %t, %v", cmd, ok, err)
		}
	}
	cfg = many(5000, networks.Gate{{In: "up0", Open: true}})
	cfg.Published = append(cfg.Published, networks.Published{Listen: one, Protocol: 6, First: 10000, Last: 60000, Targets: to("10.0.0.2:1")})
	if err := nft.Apply(cfg); err != nil {
		t.Fatalf("very many: %v", err)
	}
	if ok, err := nft.Intact(cfg); err != nil || !ok {
		t.Errorf("very many: intact is %t, %v", ok, err)
	}
}

// BenchmarkPublish applies a network with 500 forwards.
func BenchmarkPublish(b *testing.B) {
	testenv.NetNS(b)
	for name, gate := range map[string]networks.Gate{"open": nil, "gated": {{In: "up0", Open: true}}} {
		cfg := many(500, gate)
		b.Run(fmt.Sprint(len(cfg.Published), " ", name), func(b *testing.B) {
			testenv.NetNS(b) // It runs on another thread.
			for b.Loop() {
				if err := nft.Apply(cfg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
