// Package networks gives instances their networks.
//
// A [Driver] makes the host's kernel match a [Config]. It is told the whole
// wanted state each time and finds out itself what is missing, so the daemon
// calls the same method to create a network, to change it and to bring it
// back after a boot.
package networks

import (
	"context"
	"net/netip"
	"time"

	"github.com/cuib/cuib/networks/acl"
)

// Config is the wanted state of one network on this host.
type Config struct {
	Name string // Also the name of the network's interface, if it has one.
	Key  string // What the caller knows it by; drivers do not look at it.

	// Dir is the daemon's directory for this network: leases, pid files,
	// hosts. The user nobody must be able to search all its parents.
	Dir string

	Parent string // The host interface below it: macvlan, physical.
	VLAN   int    // The VLAN of Parent that is meant; 0 for what has no tag.
	Tagged []int  // VLANs of Parent, if that is a bridge, that NICs have with tags.
	GVRP   bool   // Register VLAN at the switch.
	HWAddr string // The bridge's address; empty for one derived from the name.
	MTU    int    // 0 for the driver's default.

	IPv4, IPv6 Family
	DNS        DNS
	Hosts      []Host // Static leases and names.
	Aliases    []Alias
	Raw        string // Lines for dnsmasq.

	// Integration is for the firewalls of others, which the driver does not
	// touch.
	Integration Integration

	External   []External // Interfaces of the host that are ports of the bridge.
	NoSnooping bool       // The bridge sends all multicast to all its ports.

	// Published is what of the host leads into the network.
	Published []Published

	// ACL is what is let pass between the network and others; nil for all.
	ACL *acl.Policy

	// Peers are networks of this host that packets pass to and from as they
	// are.
	Peers []Peer

	Tunnels []Tunnel // Of a bridge.
	Overlay Overlay  // Of a network of type vxlan.
}

// Family is the configuration for IPv4 or IPv6.
type Family struct {
	Address  netip.Prefix // The host's address; not valid for none.
	NAT      bool
	DHCP     bool
	Stateful bool // IPv6: addresses by DHCP and not only by autoconfiguration.
	Ranges   []Range
	Closed   bool          // No address is given out but those of hosts.
	Expiry   time.Duration // 0 for one hour.
	Gateway  netip.Addr    // The router that DHCP names; not valid for Address.
	Routing  bool          // Forward packets between network and host.
	Firewall bool          // Accept what the network needs in our own table.

	NATAddress netip.Addr     // What guests leave with; not valid for that of the interface they leave by.
	NATOrder   string         // NATBefore or NATAfter; empty for neither.
	Routes     []netip.Prefix // Networks behind guests, that the host routes to the bridge.
	DHCPRoutes []Route        // That DHCP tells guests of: IPv4.
	NoRA       bool           // IPv6: no router advertisements.
}

// When the network's addresses are translated, compared with what other tables
// of nftables and iptables translate.
const (
	NATBefore = "before"
	NATAfter  = "after"
)

// Peer is a network that is routed to without NAT.
type Peer struct {
	Network    string       // What the caller knows it by.
	IPv4, IPv6 netip.Prefix // Not valid for none.
	Domain     string       // That its server answers for; empty for none that is not our own.
	Server     netip.Addr

	// Shared says that its domain is ours. Then Names are those in it that its
	// server alone knows.
	Shared bool
	Names  []string
}

// Route is a route of guests.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// External is an interface of the host that becomes a port of a bridge. With a
// VLAN it is made for that, on Parent.
type External struct {
	Name, Parent string
	VLAN         int
}

// Range is a range of addresses, both ends in it.
type Range struct{ First, Last netip.Addr }

// The modes of a network's DNS.
const (
	DNSManaged = "managed" // Names are those of the instances.
	DNSDynamic = "dynamic" // Names are what guests call themselves.
	DNSNone    = "none"    // Guests have no names.
)

// DNS is what the network's resolver does.
type DNS struct {
	Mode        string // One of the modes; empty for managed.
	Domain      string
	Search      []string
	Nameservers []netip.Addr // Told to clients instead of our own.
	Forward     []DNSForward
}

// Host is an instance as the network knows it: one NIC of it. The MAC
// address tells hosts apart.
type Host struct {
	Name       string // In the network's domain; with dots if it is in one below that. Empty for none.
	Instance   string // What the caller knows it by; drivers do not look at it.
	MAC        string
	IPv4, IPv6 netip.Addr // Not valid for a dynamic address.

	// Port is the host's end of a bridged NIC, if it is known: one that has
	// lost its bridge is put back.
	Port string
}

// A Driver makes networks of one type. Its methods are idempotent. The caller
// serializes those that change one network.
type Driver interface {
	// Apply makes the network as cfg says, from whatever is there. Hosts that
	// cfg does not have are forgotten.
	Apply(ctx context.Context, cfg Config) error

	// Remove takes the network away, and cfg.Dir.
	Remove(ctx context.Context, cfg Config) error

	// SetHost tells the network of an instance, or changes what it knows,
	// without disturbing others.
	SetHost(ctx context.Context, cfg Config, h Host) error

	// UnsetHost forgets an instance, and ends its leases.
	UnsetHost(ctx context.Context, cfg Config, h Host) error

	// Leases returns the addresses that are given out now, and the static
	// ones of cfg.Hosts.
	Leases(ctx context.Context, cfg Config) ([]Lease, error)
}

// A Stopper is a [Driver] whose networks can leave the host until they are
// applied again.
type Stopper interface {
	// Stop takes the network away, and keeps what is to be remembered of it.
	Stop(ctx context.Context, cfg Config) error
}

// A PartApplier is a [Driver] that can apply quickly what belongs to a network
// beside its interface, addresses and DHCP, such as rules of nftables.
type PartApplier interface {
	// ApplyParts makes the parts of a network that is applied be as cfg says.
	ApplyParts(ctx context.Context, cfg Config) error
}

// A Watcher is a [Driver] that notices when a network that it has applied is
// disturbed from outside.
type Watcher interface {
	// Watch waits until something of the network is missing, and returns
	// what; or until ctx ends, and returns its error.
	Watch(ctx context.Context, cfg Config) (missing string, err error)
}

// Lease is an address that is given out.
type Lease struct {
	Host    Host
	Address netip.Addr
	Static  bool
}

// Link is what a NIC on a network is connected to.
type Link struct {
	Kind   string // The kind of NIC: bridged, macvlan or physical.
	Parent string // The bridge, or the interface of the host that it is on or is.
	VLAN   int    // Of Parent, that has no tag inside; 0 for what has none there.
	Tagged []int  // VLANs of a bridge with tags inside.
	GVRP   bool   // Register VLAN at the switch.
	MTU    int    // 0 for the parent's.

	// Autoconf is where guests make their addresses of IPv6 themselves; not
	// valid for nowhere. Stateful says that DHCP gives them out.
	Autoconf netip.Prefix
	Stateful bool
}

// Pin says of which families a network is to choose an address, that an
// instance is held to.
type Pin struct{ Four, Six bool }

// A Claim is what an instance alone is to have on an interface of the host
// that is no managed network: a MAC address, and addresses that the host
// routes or filters.
type Claim struct {
	Instance  string
	Parent    string // Empty for none.
	MAC       string // Empty for one that nobody has chosen.
	Addresses []netip.Addr
}
