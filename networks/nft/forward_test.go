package nft_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

func TestForwards(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	testenv.Run(t, "nft", "add table inet other { chain c { type filter hook forward priority 0; policy drop; }; }")
	before := testenv.Run(t, "nft", "list", "ruleset")
	f, other := nft.NewForwards("/one"), nft.NewForwards("/two")
	list := []networks.Published{
		{Listen: netip.MustParseAddr("0.0.0.0"), Protocol: 6, First: 80, Last: 81, Targets: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:8080")}},
		{Listen: netip.MustParseAddr("fd42::1"), Protocol: 17, First: 53, Last: 53, Targets: []netip.AddrPort{netip.MustParseAddrPort("[fd42::2]:53")}},
	}
	near := nft.Near{Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd42::2/128")}}
	if err := f.Apply("c1", list, near); err != nil {
		t.Fatal(err)
	}
	if err := other.Apply("c1", list[:1], near); err != nil {
		t.Fatal(err)
	}
	rules := testenv.Run(t, "nft", "--numeric-protocol", "list", "ruleset")
	for _, line := range []string{
		"type nat hook prerouting priority dstnat", "type nat hook output priority", "type nat hook postrouting priority srcnat - 1",
		"fib daddr type local ip daddr != 127.0.0.0/8", "6 . 80 : 10.0.0.2 . 8080", "6 . 81 : 10.0.0.2 . 8081", "fd42::1 . 17 . 53 : fd42::2 . 53",
		"ip saddr 10.0.0.0/24 ip daddr 10.0.0.0/24 ct status dnat masquerade", "ip6 saddr fd42::2 ip6 daddr fd42::2 ct status dnat masquerade",
	} {
		if !strings.Contains(rules, line) {
			t.Errorf("got no %q in\n%s", line, rules)
		}
	}
	for _, tt := range []struct {
		list []networks.Published
		want bool
	}{{list, true}, {list[:1], false}} {
		if ok, err := f.Intact("c1", tt.list, near); err != nil || ok != tt.want {
			t.Errorf("intact: got %t, %v", ok, err)
		}
	}
	table := f.Table("c1")
	testenv.Run(t, "sh", "-ec", "nft flush chain inet "+table+" published-out; nft add rule inet "+table+" published-out accept")
	if ok, err := f.Intact("c1", list, near); err != nil || ok {
		t.Errorf("edited rules: got %t, %v", ok, err)
	}
	if ok, err := f.Intact("c2", list, near); err != nil || ok {
		t.Errorf("what was never applied is intact: %v", err)
	}
	if owners, err := f.Owners(); err != nil || !slices.Equal(owners, []string{"c1"}) {
		t.Errorf("got owners %v, %v", owners, err)
	}
	for range 2 {
		if err := f.Apply("c1", nil, near); err != nil {
			t.Fatal(err)
		}
	}
	if owners, err := other.Owners(); err != nil || !slices.Equal(owners, []string{"c1"}) {
		t.Errorf("another daemon's table went: %v, %v", owners, err)
	}
	if err := other.Apply("c1", nil, near); err != nil {
		t.Fatal(err)
	}
	if after := testenv.Run(t, "nft", "list", "ruleset"); after != before {
		t.Errorf("other tables changed: got\n%s\nwant\n%s", after, before)
	}
}
