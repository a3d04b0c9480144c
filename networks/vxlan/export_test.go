package vxlan

import (
	"net/netip"

	"github.com/cuib/cuib/networks"
)

// Describe is what a host tells others.
func Describe(cfg networks.Config) (networks.Member, error) { return describe(cfg) }

// PortName is the name of the port that leads to other hosts.
func PortName(network string) string { return portName(network) }

// Shared is a host's part of a family's ranges.
func Shared(f networks.Family, self netip.Addr, views [][]netip.Addr) networks.Family {
	return shared(f, self, views)
}

// Fit is the MTU of a network.
func Fit(path int, local netip.Addr, encrypt string) int {
	_, mtu := fit(path, underlay{local: local, encrypt: encrypt})
	return mtu
}

// Own is the IPv4 address that a host takes for itself where a guest and two
// other hosts, the first of them below it, have some.
func Own(cfg networks.Config, self netip.Addr, guest netip.Addr, hosts map[netip.Addr]netip.Addr) (netip.Addr, error) {
	t := &table{Members: map[netip.Addr]networks.Member{}}
	for m, own := range hosts {
		t.Members[m] = networks.Member{Underlay: m, Guests: []networks.Guest{
			{MAC: "02:00:00:00:00:01", Addresses: []netip.Addr{own}, Here: true, Host: true}, {MAC: "02:00:00:00:00:02", Addresses: []netip.Addr{guest}},
		}}
	}
	_, err := t.choose(cfg, underlay{local: self})
	return t.Own[0], err
}
