// Package nic makes the network interfaces of instances, and what belongs to
// them on the host: ports of bridges, routes, limits and filters.
//
// A [NIC] is all that there is to know of one. [Host.Make] makes it, from
// whatever a crash has left, [Host.Change] changes one that runs, and
// [Host.Remove] takes away all of it, whatever of it is there.
package nic

import (
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
)

// The kinds of NICs.
const (
	Bridged  = "bridged"  // A pair of interfaces; one is a port of a bridge of the host.
	P2P      = "p2p"      // A pair of interfaces, and nothing else.
	Routed   = "routed"   // A pair of interfaces; the host routes to it, and answers for it on the parent.
	Macvlan  = "macvlan"  // Beside the host on its interface, with an address of its own.
	IPVlan   = "ipvlan"   // The same with the host's.
	Physical = "physical" // An interface of the host itself.
	CNI      = "cni"      // What plugins make of it; see [github.com/cuib/cuib/networks/cni].
	Shared   = "host"     // No interface: the instance is in the host's own network namespace.
)

// Kinds are all of them.
func Kinds() []string { return []string{Bridged, CNI, Shared, IPVlan, Macvlan, P2P, Physical, Routed} }

// NIC is a network interface of an instance.
type NIC struct {
	Device   string // The device's name in the configuration.
	Kind     string // One of the kinds.
	Parent   string // The bridge, or the interface of the host that it is of or on; empty for none.
	Name     string // Inside; as eth0.
	HostName string // The host's end, of those that have one.
	Inner    string `json:",omitempty"` // What the end inside is called on the host, before it is inside.
	MAC      string
	MTU      int    // 0 for the parent's.
	Mode     string // macvlan: bridge, vepa, passthru or private; ipvlan: l2, l3 or l3s. Empty for bridge, and l3s.

	VLAN        VLAN  `json:",omitzero"`
	QueueLength int   `json:",omitempty"` // Packets, of both ends; 0 for the kernel's.
	Unplugged   bool  `json:",omitempty"` // There, but without a carrier.
	Ingress     int64 `json:",omitempty"` // To the instance, bits in a second; 0 for no limit.
	Egress      int64 `json:",omitempty"` // From it.

	// Priority is what packets from the instance have for the host's queues.
	Priority uint32 `json:",omitempty"`

	Isolated  bool    `json:",omitempty"` // From other isolated ports of the bridge.
	FilterMAC bool    `json:",omitempty"` // Frames come from MAC only.
	ACL       acl.Ref `json:",omitzero"`  // Bridged, on a managed network.
	IPv4      Family  `json:",omitzero"`
	IPv6      Family  `json:",omitzero"`
	VRF       string  `json:",omitempty"` // Of the host's end.

	// Plugins is what plugins are to know of one of kind CNI, which [Host]
	// does not make.
	Plugins Plugins `json:",omitzero"`

	// Before is how the interface of the host was that a physical one is.
	Before Before `json:",omitzero"`
}

// Plugins says which network plugins make a NIC, and of what.
type Plugins struct {
	Config string        `json:",omitempty"` // The name of the configuration.
	Ports  []PortMapping `json:",omitempty"`
}

// PortMapping is a port of the host that leads to one of the instance.
type PortMapping struct {
	HostIP     netip.Addr `json:",omitzero"` // Not valid for all.
	Host, Port int
	UDP        bool `json:",omitempty"`
}

// VLAN is a part of a network.
type VLAN struct {
	ID       int   `json:",omitempty"` // Of what has no tag inside; 0 for what the parent has.
	Untagged bool  `json:",omitempty"` // There is none of that: bridged.
	Tagged   []int `json:",omitempty"` // With tags inside: bridged.
	GVRP     bool  `json:",omitempty"` // Register at the switch: all others.
}

// Family is IPv4 or IPv6 of a NIC.
type Family struct {
	// Addresses are the guest's. Routed ones and those of ipvlan have them at
	// their start; bridged ones are held to them if Only is set.
	Addresses []netip.Prefix `json:",omitempty"`
	Only      bool           `json:",omitempty"` // What comes from the guest comes from these addresses, or is dropped.

	Gateway     netip.Addr     `json:",omitzero"`  // Of the guest; not valid for none.
	Onlink      bool           `json:",omitempty"` // All that the guest sends is for the interface itself: no gateway.
	HostAddress netip.Addr     `json:",omitzero"`  // Of the host's end.
	Routes      []netip.Prefix `json:",omitempty"` // Of the host, to the NIC.
	Probe       bool           `json:",omitempty"` // Refuse addresses that somebody has on the parent.
	Tables      []int          `json:",omitempty"` // That the host's routes to the addresses are in; none is the main one.
}

// Before is how an interface of the host was before an instance got it.
type Before struct {
	Index int    `json:",omitempty"`
	MAC   string `json:",omitempty"`
	MTU   int    `json:",omitempty"`
	Up    bool   `json:",omitempty"`
}

// Pair reports whether the NIC is a pair, of which one end is the host's.
func (n NIC) Pair() bool { return n.Kind == Bridged || n.Kind == P2P || n.Kind == Routed }

// Prepared reports whether the NIC is made before the instance starts. Others
// are made by liblxc, also when the guest reboots, or are none.
func (n NIC) Prepared() bool {
	plain := NIC{
		Device: n.Device, Kind: n.Kind, Parent: n.Parent, Name: n.Name, HostName: n.HostName, Inner: n.Inner,
		MAC: n.MAC, MTU: n.MTU, Mode: n.Mode,
	}
	return n.Kind != Shared && n.Kind != Bridged && n.Kind != Macvlan || !reflect.DeepEqual(n, plain)
}

// Lower is the interface of the host that the NIC is on, or is: the parent, or
// a VLAN of it.
func (n NIC) Lower() string {
	if n.VLAN.ID == 0 || n.Kind == Bridged || n.Parent == "" {
		return n.Parent
	}
	return vlanName(n.Parent, n.VLAN.ID)
}

// Live reports whether one NIC can become the other while it is used.
func (n NIC) Live(to NIC) bool {
	if n.Kind == Physical || n.Kind == IPVlan || n.Kind == CNI || n.Kind == Shared {
		return reflect.DeepEqual(n, to)
	}
	if n.Kind == Macvlan {
		n.MTU = to.MTU
		return reflect.DeepEqual(n, to)
	}
	n.MTU, n.QueueLength, n.Unplugged = to.MTU, to.QueueLength, to.Unplugged
	n.Ingress, n.Egress, n.Priority = to.Ingress, to.Egress, to.Priority
	n.IPv4.Routes, n.IPv6.Routes = to.IPv4.Routes, to.IPv6.Routes
	n.IPv4.Probe, n.IPv6.Probe = to.IPv4.Probe, to.IPv6.Probe // That is over.
	if n.Kind == Bridged {
		n.ACL, n.Isolated, n.FilterMAC, n.VLAN, n.Parent = to.ACL, to.Isolated, to.FilterMAC, to.VLAN, to.Parent
		n.IPv4, n.IPv6 = to.IPv4, to.IPv6 // Nothing of it is inside.
	}
	return reflect.DeepEqual(n, to)
}

func (n NIC) mac() (net.HardwareAddr, error) {
	if n.MAC == "" {
		return nil, nil // The kernel chooses one.
	}
	return networks.ParseMAC(n.MAC)
}

// families are both of them, with which it is.
func (n NIC) families() []family {
	return []family{{n.IPv4, false}, {n.IPv6, true}}
}

type family struct {
	Family

	six bool
}

// routes are all that a NIC has of the host's routes.
func (n NIC) routes() []netip.Prefix { return slices.Concat(n.IPv4.Routes, n.IPv6.Routes) }
