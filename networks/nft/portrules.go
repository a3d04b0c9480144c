package nft

import (
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Types of ICMPv6.
const (
	mldReport      = 131
	mldDone        = 132
	routerSolicit  = 133
	routerAdvert   = 134
	neighborAsk    = 135
	neighborAnswer = 136
	redirect       = 137
	mld2Report     = 143
)

// rules are all of what a port refuses: first what is refused in any case, then
// what can pass, then nothing else.
func (p Port) rules() []rule {
	if p.Bridged {
		return slices.Concat(p.marks(), p.macs(), p.ipv4(), p.ipv6(), p.rest())
	}
	return slices.Concat(p.marks(), p.routed(), p.rest())
}

// marks are the rules that refuse nothing.
func (p Port) marks() []rule {
	if p.Priority == 0 {
		return nil
	}
	return []rule{{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(p.Priority)},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: 1},
	}}
}

// routed are the rules of a port that the host routes from. Whom it asks for
// there it knows.
func (p Port) routed() []rule {
	all := []rule{join(frame(unix.ETH_P_ARP), leave())}
	for _, f := range []struct {
		only   bool
		number uint16
		source uint32
		from   []netip.Prefix
	}{
		{p.OnlyIPv4, unix.ETH_P_IP, 12, p.IPv4},
		// A guest talks to its neighbor, the host, from its own link.
		{p.OnlyIPv6, unix.ETH_P_IPV6, 8, append([]netip.Prefix{linkLocal, unspecified}, p.IPv6...)},
	} {
		if !f.only {
			continue
		}
		for _, from := range f.from {
			all = append(all, join(frame(f.number), address(f.source, from, expr.CmpOpEq), leave()))
		}
		all = append(all, join(frame(f.number), drop()))
	}
	return all
}

var (
	linkLocal   = netip.MustParsePrefix("fe80::/10")
	unspecified = netip.MustParsePrefix("::/128")
)

// rest refuses what is left at a port that may have only some addresses.
func (p Port) rest() []rule {
	if !p.OnlyIPv4 && !p.OnlyIPv6 {
		return nil
	}
	var all []rule
	if !p.OnlyIPv4 {
		all = append(all, join(frame(unix.ETH_P_IP), leave()), join(frame(unix.ETH_P_ARP), leave()))
	}
	if !p.OnlyIPv6 {
		all = append(all, join(frame(unix.ETH_P_IPV6), leave()))
	}
	// It is refused, or is in something else, as a VLAN, in which it could hide.
	return append(all, drop())
}

// macs refuse frames from another address, and neighbors told of another.
func (p Port) macs() []rule {
	if p.MAC == nil {
		return nil
	}
	const ask, advert = byte(1), byte(2) // The options that tell of an address: of who asks, and of who is asked for.
	other := func(offset uint32) rule {
		return payload(expr.PayloadBaseTransportHeader, offset, p.MAC, expr.CmpOpNeq)
	}
	option := func(offset uint32, typ byte) rule {
		return payload(expr.PayloadBaseTransportHeader, offset, []byte{typ}, expr.CmpOpNeq)
	}
	some := address(8, unspecified, expr.CmpOpNeq) // Who has no address yet tells of none.
	return append([]rule{
		join(payload(expr.PayloadBaseLLHeader, 6, p.MAC, expr.CmpOpNeq), drop()),
		join(frame(unix.ETH_P_ARP), payload(expr.PayloadBaseNetworkHeader, 8, p.MAC, expr.CmpOpNeq), drop()),
		join(icmp(neighborAsk), some, option(24, ask), drop()),
		join(icmp(neighborAsk), some, other(26), drop()),
		join(icmp(neighborAnswer), option(24, advert), drop()),
		join(icmp(neighborAnswer), other(26), drop()),
		join(icmp(routerSolicit), some, option(8, ask), drop()),
		join(icmp(routerSolicit), some, other(10), drop()),
	}, p.dhcp()...)
}

func (p Port) ipv4() []rule {
	if !p.OnlyIPv4 {
		return nil
	}
	zero := netip.PrefixFrom(netip.IPv4Unspecified(), 32)
	everyone := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 32)
	var all []rule
	if len(p.IPv4) > 0 {
		all = append(all, join(
			frame(unix.ETH_P_IP), address(12, zero, expr.CmpOpEq), address(16, everyone, expr.CmpOpEq), fromPort(68), port(unix.IPPROTO_UDP, 67), leave(),
		))
	}
	all = append(all, join(frame(unix.ETH_P_IP), fromPort(67), drop())) // No server of DHCP.
	for _, a := range p.IPv4 {
		all = append(
			all,
			join(frame(unix.ETH_P_IP), address(12, a, expr.CmpOpEq), leave()),
			join(frame(unix.ETH_P_ARP), address(14, a, expr.CmpOpEq), leave()),
			// Who asks whether somebody has its address.
			join(frame(unix.ETH_P_ARP), address(14, zero, expr.CmpOpEq), address(24, a, expr.CmpOpEq), leave()),
		)
	}
	return append(all, join(frame(unix.ETH_P_IP), drop()), join(frame(unix.ETH_P_ARP), drop()))
}

func (p Port) ipv6() []rule {
	if !p.OnlyIPv6 {
		return nil
	}
	none := address(8, unspecified, expr.CmpOpEq)
	all := []rule{
		join(icmp(routerAdvert), drop()),
		join(icmp(redirect), drop()),
		join(frame(unix.ETH_P_IPV6), fromPort(547), drop()), // No server of DHCP.
	}
	if len(p.IPv6) > 0 {
		for _, typ := range []byte{mldReport, mldDone, mld2Report, routerSolicit} {
			all = append(all, join(icmp(typ), none, leave()))
		}
	}
	for _, a := range p.IPv6 {
		all = append(
			all,
			join(icmp(neighborAnswer), target(a), leave()),
			join(icmp(neighborAsk), none, target(a), leave()),
		)
	}
	all = append(all, join(icmp(neighborAnswer), drop()))
	for _, a := range p.IPv6 {
		all = append(all, join(frame(unix.ETH_P_IPV6), address(8, a, expr.CmpOpEq), leave()))
	}
	return append(all, join(frame(unix.ETH_P_IPV6), drop()))
}

// target is the address that neighbors ask for or answer with.
func target(p netip.Prefix) rule {
	r := address(8, p, expr.CmpOpEq)
	if load, ok := r[0].(*expr.Payload); ok {
		load.Base = expr.PayloadBaseTransportHeader
	}
	return r
}

// frame matches what is directly in a frame, and in no VLAN.
func frame(ethertype uint16) rule {
	return payload(expr.PayloadBaseLLHeader, 12, binaryutil.BigEndian.PutUint16(ethertype), expr.CmpOpEq)
}

func icmp(typ byte) rule {
	return join(frame(unix.ETH_P_IPV6), proto(unix.IPPROTO_ICMPV6), payload(expr.PayloadBaseTransportHeader, 0, []byte{typ}, expr.CmpOpEq))
}

// fromPort matches a source port of UDP.
func fromPort(number uint16) rule {
	return join(proto(unix.IPPROTO_UDP), payload(expr.PayloadBaseTransportHeader, 0, binaryutil.BigEndian.PutUint16(number), expr.CmpOpEq))
}

func payload(base expr.PayloadBase, offset uint32, data []byte, op expr.CmpOp) rule {
	return rule{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(data))}, //nolint:gosec // A few bytes.
		&expr.Cmp{Op: op, Register: 1, Data: data},
	}
}

// leave ends the rules of the port, and the packet goes on.
func leave() rule { return rule{&expr.Verdict{Kind: expr.VerdictReturn}} }
