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
