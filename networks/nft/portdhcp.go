package nft

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// How many messages to servers of DHCP pass a filtered port: those of a guest
// that starts, again and again, and not those of one that takes all leases.
const (
	dhcpRate  = 1 // A second.
	dhcpBurst = 30
)

// dhcp refuses to ask for leases of other MAC addresses than the port's, and to
// ask for them without end. A server that is ours gives one lease to each.
func (p Port) dhcp() []rule {
	const server4, server6 = 67, 547
	const chaddr = 8 + 28 // Behind the header of UDP (RFC 2131).
	four := join(frame(unix.ETH_P_IP), port(unix.IPPROTO_UDP, server4))
	six := join(frame(unix.ETH_P_IPV6), port(unix.IPPROTO_UDP, server6))
	return []rule{
		join(four, payload(expr.PayloadBaseTransportHeader, chaddr, p.MAC, expr.CmpOpNeq), drop()),
		join(four, moreFragments(), drop()), // The address could be in a later one.
		join(four, beyond(), drop()),
		join(six, beyond(), drop()),
	}
}

// moreFragments matches packets of IPv4 that others are the rest of.
func moreFragments() rule {
	return rule{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0x20, 0}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	}
}

// beyond matches what is more than a guest needs of DHCP.
func beyond() rule {
	return rule{&expr.Limit{Type: expr.LimitTypePkts, Rate: dhcpRate, Unit: expr.LimitTimeSecond, Burst: dhcpBurst, Over: true}}
}
