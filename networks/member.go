package networks

import (
	"context"
	"net/netip"
)

// The ways that an overlay's packets between hosts are encrypted.
const (
	EncryptAuto      = "auto"      // As the kernel can.
	EncryptNone      = "none"      // Not at all.
	EncryptWireGuard = "wireguard" // A WireGuard interface for the network.
)

// Overlay is what makes a network one over several hosts. Its ID, port, peers
// (but for the host itself), encryption and key are the same on all of them,
// and so are the addresses of the network.
type Overlay struct {
	ID         uint32       // Of 24 bits; not 0.
	Port       uint16       // Of UDP for packets, and of TCP for what hosts tell each other.
	WirePort   uint16       // Of UDP for WireGuard.
	Local      netip.Addr   // The host's own address below; not valid for that of the route to the peers.
	Interface  string       // The host's interface below; empty for any.
	Peers      []netip.Addr // The addresses of the other hosts below.
	Encryption string       // One of the ways; empty for [EncryptAuto].
	Key        string       // The secret that the hosts know each other by.
}

// Tunnel leads from a bridge to another host, or to a group of them.
type Tunnel struct {
	Name      string // As the configuration calls it.
	Protocol  string // vxlan or gre.
	Local     netip.Addr
	Remote    netip.Addr
	Group     netip.Addr // Of multicast, instead of Local and Remote: vxlan.
	ID        uint32     // vxlan.
	Port      uint16     // vxlan; 0 for what the kernel takes.
	Interface string     // What packets leave by; empty for any. A group needs it.
	TTL       uint8      // 0 for what the protocol has.
}

// A Member is what one host of an overlay says of itself.
type Member struct {
	Underlay netip.Addr   // The host's address below.
	View     []netip.Addr // The hosts that it takes for members, itself too, sorted.
	Same     string       // What must be the same on all hosts, as text.
	Guests   []Guest      // Sorted by MAC address.
}

// A Guest is an interface of an instance, or whatever has a MAC address, on an
// overlay.
type Guest struct {
	Name      string // Empty for what is no instance.
	MAC       string
	Addresses []netip.Addr
	Here      bool // It runs on the host that tells; else its addresses are only kept for it.
	Host      bool // It is the host that tells itself: what it leads to guests elsewhere has these addresses.
}

// A Learner is a [Driver] of overlays. What hosts know of each other comes to
// it from whatever carries it between them.
type Learner interface {
	// Learn takes what another host says of itself in the place of what it
	// said before. The caller serializes it with what changes the network.
	Learn(ctx context.Context, cfg Config, m Member) error
}

// A Speaker is a [Learner] that carries what hosts know between them itself.
type Speaker interface {
	Learner

	// Speak tells the other hosts what this one has, and hears what they have,
	// until ctx ends.
	Speak(ctx context.Context, cfg Config, with Company) error
}

// Company is what a [Speaker] needs of the daemon. Its functions are called at
// the same time.
type Company struct {
	Config func(ctx context.Context) (Config, error)   // As it is now, with hosts.
	Learn  func(ctx context.Context, m Member) error   // Is to call [Learner.Learn].
	Warn   func(ctx context.Context, problem []string) // What is wrong now with other hosts, if anything.
}
