package vxlan_test

import (
	"net/netip"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/vxlan"
)

// TestOwn has a host choose an address that nobody else has. Of two hosts that
// have the same, one moves.
func TestOwn(t *testing.T) {
	cfg := config()
	cfg.Name, cfg.Dir = "nosuchnet", t.TempDir()
	low, self, high := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	cfg.Overlay.Peers = []netip.Addr{low, high}
	choose := func(guest netip.Addr, hosts map[netip.Addr]netip.Addr) netip.Addr {
		got, err := vxlan.Own(cfg, self, guest, hosts)
		must(t, err)
		return got
	}
	first := choose(netip.Addr{}, nil)
	if !cfg.IPv4.Address.Masked().Contains(first) || first == cfg.IPv4.Address.Addr() {
		t.Fatalf("got %s", first)
	}
	if got := choose(first, map[netip.Addr]netip.Addr{high: {}}); got == first || !got.IsValid() {
		t.Errorf("a guest elsewhere has %s, got %s", first, got)
	}
	if got := choose(netip.Addr{}, map[netip.Addr]netip.Addr{low: first}); got == first || !got.IsValid() {
		t.Errorf("the host before has %s, got %s", first, got)
	}
	if got := choose(netip.Addr{}, map[netip.Addr]netip.Addr{high: first}); got != first {
		t.Errorf("the host behind has %s and is to move, got %s", first, got)
	}
	cfg.Hosts = []networks.Host{{Name: "web", MAC: mac1, IPv4: first}}
	if got := choose(netip.Addr{}, nil); got == first || !got.IsValid() {
		t.Errorf("an instance has %s, got %s", first, got)
	}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/29")
	if got := choose(netip.Addr{}, nil); got.IsValid() {
		t.Errorf("three hosts with six addresses: got %s", got)
	}
}
