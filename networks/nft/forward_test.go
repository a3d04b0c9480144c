package nft_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

func TestForwards(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	testenv.Run(t, "nft", "add table inet other { chain c { type filter hook forward priority 0; policy drop; }; }")
	before := testenv.Run(t, "nft", "list", "ruleset")
	f, other := nft.NewForwards("/one"), nft.NewForwards("/two")
	list := []nft.Forward{
		{
			Listen: netip.MustParseAddr("0.0.0.0"), Target: netip.MustParseAddr("10.0.0.2"), Subnet: netip.MustParsePrefix("10.0.0.1/24"),
			Ports: []nft.PortPair{{80, 8080}, {81, 8081}},
		},
		{
			UDP: true, Listen: netip.MustParseAddr("fd42::1"), Target: netip.MustParseAddr("fd42::2"), Subnet: netip.MustParsePrefix("fd42::2/128"),
			Ports: []nft.PortPair{{53, 53}},
		},
	}
	if err := f.Apply("c1", list); err != nil {
		t.Fatal(err)
	}
	if err := other.Apply("c1", list[:1]); err != nil {
		t.Fatal(err)
	}
	rules := testenv.Run(t, "nft", "--numeric-protocol", "list", "ruleset")
	for _, line := range []string{
		"type nat hook prerouting priority dstnat", "type nat hook output priority", "type nat hook postrouting priority srcnat",
		"fib daddr type local ip daddr != 127.0.0.0/8", "80 : 8080", "81 : 8081", "ip6 daddr fd42::1", "53 : 53",
		"ip saddr 10.0.0.0/24 ip daddr 10.0.0.2 ct status dnat masquerade", "ip6 saddr fd42::2 ip6 daddr fd42::2 ct status dnat masquerade",
	} {
		if !strings.Contains(rules, line) {
			t.Errorf("got no %q in\n%s", line, rules)
		}
	}
	for _, tt := range []struct {
		list []nft.Forward
		want bool
	}{{list, true}, {list[:1], false}} {
		if ok, err := f.Intact("c1", tt.list); err != nil || ok != tt.want {
			t.Errorf("intact: got %t, %v", ok, err)
		}
	}
	table := f.Table("c1")
	testenv.Run(t, "sh", "-ec", "nft flush chain inet "+table+" output; nft add rule inet "+table+" output accept; nft add rule inet "+table+" output accept")
	if ok, err := f.Intact("c1", list); err != nil || ok {
		t.Errorf("edited rules: got %t, %v", ok, err)
	}
	if ok, err := f.Intact("c2", list); err != nil || ok {
		t.Errorf("what was never applied is intact: %v", err)
	}
	if owners, err := f.Owners(); err != nil || !slices.Equal(owners, []string{"c1"}) {
		t.Errorf("got owners %v, %v", owners, err)
	}
	for range 2 {
		if err := f.Apply("c1", nil); err != nil {
			t.Fatal(err)
		}
	}
	if owners, err := other.Owners(); err != nil || !slices.Equal(owners, []string{"c1"}) {
		t.Errorf("another daemon's table went: %v, %v", owners, err)
	}
	if err := other.Apply("c1", nil); err != nil {
		t.Fatal(err)
	}
	if after := testenv.Run(t, "nft", "list", "ruleset"); after != before {
		t.Errorf("other tables changed: got\n%s\nwant\n%s", after, before)
	}
}
