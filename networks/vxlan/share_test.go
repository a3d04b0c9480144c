package vxlan_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/vxlan"
)

func TestShared(t *testing.T) {
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	d := netip.MustParseAddr("192.0.2.4")
	few := networks.Family{DHCP: true, Address: netip.MustParsePrefix("10.0.0.1/30")}
	two, three := []netip.Addr{a, b}, []netip.Addr{a, b, c}
	whole := networks.Family{DHCP: true, Address: netip.MustParsePrefix("10.0.0.1/24")}
	parts := whole
	parts.Ranges = []networks.Range{
		{First: netip.MustParseAddr("10.0.0.10"), Last: netip.MustParseAddr("10.0.0.15")},
		{First: netip.MustParseAddr("10.0.0.20"), Last: netip.MustParseAddr("10.0.0.21")},
	}
	six := networks.Family{DHCP: true, Stateful: true, Address: netip.MustParsePrefix("fd00::1/64")}
	tests := map[string]struct {
		f     networks.Family
		self  netip.Addr
		views [][]netip.Addr
		want  string
	}{
		"alone":                     {whole, a, [][]netip.Addr{{a}}, "[{10.0.0.1 10.0.0.254}] false"},
		"first of two":              {whole, a, [][]netip.Addr{two}, "[{10.0.0.1 10.0.0.127}] false"},
		"second of two":             {whole, b, [][]netip.Addr{two}, "[{10.0.0.128 10.0.0.254}] false"},
		"over a gap":                {parts, b, [][]netip.Addr{two}, "[{10.0.0.14 10.0.0.15} {10.0.0.20 10.0.0.21}] false"},
		"one is added":              {whole, b, [][]netip.Addr{two, three}, "[{10.0.0.128 10.0.0.169}] false"},
		"the one added":             {whole, c, [][]netip.Addr{three, two}, "[] true"},
		"more hosts than addresses": {few, c, [][]netip.Addr{{c, d, a, b}}, "[] true"},
		"IPv6":                      {six, b, [][]netip.Addr{two}, "[{fd00::8000:0:0:0 fd00::ffff:ffff:ffff:ffff}] false"},
		"no DHCP":                   {networks.Family{Address: whole.Address}, a, [][]netip.Addr{two}, "[] false"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := vxlan.Shared(tt.f, tt.self, tt.views)
			if text := fmt.Sprint(got.Ranges, got.Closed); text != tt.want {
				t.Errorf("got %s, want %s", text, tt.want)
			}
		})
	}
}

// TestNeverTwice has every host know another number of members: no address is
// in the parts of two, whoever has heard of whom.
func TestNeverTwice(t *testing.T) {
	f := networks.Family{DHCP: true, Address: netip.MustParsePrefix("10.0.0.1/26")}
	var all []netip.Addr
	for i := range 5 {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}))
	}
	for known := 1; known < len(all); known++ {
		old, grown := all[:known], all[:known+1]
		given := map[netip.Addr]netip.Addr{}
		for i, self := range grown {
			views := [][]netip.Addr{grown, old}
			if i%2 == 0 && i < known {
				views = [][]netip.Addr{old} // It has not been changed yet, and heard of nothing.
			}
			for _, r := range vxlan.Shared(f, self, views).Ranges {
				for a := r.First; a.Compare(r.Last) <= 0; a = a.Next() {
					if other, twice := given[a]; twice {
						t.Errorf("%d members and one more: %s is of %s and %s", known, a, other, self)
					}
					given[a] = self
				}
			}
		}
	}
}

func TestFit(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for want, got := range map[int]int{
		1450: vxlan.Fit(1500, four, networks.EncryptNone),
		1430: vxlan.Fit(1500, six, networks.EncryptNone),
		1370: vxlan.Fit(1500, four, networks.EncryptWireGuard),
		1350: vxlan.Fit(1500, six, networks.EncryptWireGuard),
	} {
		if got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
}
