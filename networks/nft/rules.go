package nft

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// A chain is a base chain with its rules.
type chain struct {
	*nftables.Chain

	rules []rule
	kept  [][]byte // What is kept with them, if somebody has worked it out.
}

// A rule is what it matches, and then its verdict.
type rule []expr.Any

// chains returns the table that cfg asks for.
func chains(cfg networks.Config) []chain {
	return append([]chain{
		newChain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter, input(cfg)),
		newChain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter, forward(cfg)),
		newChain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, postrouting(cfg, "")),
	}, ordered(cfg)...)
}

func newChain(name string, typ nftables.ChainType, hook *nftables.ChainHook, prio *nftables.ChainPriority, rules []rule) chain {
	policy := nftables.ChainPolicyAccept
	return chain{Chain: &nftables.Chain{Name: name, Type: typ, Hooknum: hook, Priority: prio, Policy: &policy}, rules: rules}
}

// input accepts what guests ask of the host itself.
func input(cfg networks.Config) []rule {
	var rules []rule
	in := iface(expr.MetaKeyIIFNAME, cfg.Name)
	if cfg.IPv4.Firewall && cfg.IPv4.Address.IsValid() {
		rules = append(
			rules,
			join(in, family(unix.NFPROTO_IPV4), port(unix.IPPROTO_UDP, 67), accept()),
			join(in, family(unix.NFPROTO_IPV4), port(unix.IPPROTO_UDP, 53), accept()),
			join(in, family(unix.NFPROTO_IPV4), port(unix.IPPROTO_TCP, 53), accept()),
			join(in, proto(unix.IPPROTO_ICMP), accept()),
		)
	}
	if cfg.IPv6.Firewall && cfg.IPv6.Address.IsValid() {
		rules = append(
			rules,
			join(in, family(unix.NFPROTO_IPV6), port(unix.IPPROTO_UDP, 547), accept()),
			join(in, family(unix.NFPROTO_IPV6), port(unix.IPPROTO_UDP, 53), accept()),
			join(in, family(unix.NFPROTO_IPV6), port(unix.IPPROTO_TCP, 53), accept()),
			join(in, proto(unix.IPPROTO_ICMPV6), accept()),
		)
	}
	return rules
}

// forward accepts what passes between the network and the others, or drops
// it where the network is not routed. What stays within the bridge, and
// passes here if the kernel filters bridges, is not dropped.
func forward(cfg networks.Config) []rule {
	var rules []rule
	for _, f := range []struct {
		networks.Family

		number byte
	}{{cfg.IPv4, unix.NFPROTO_IPV4}, {cfg.IPv6, unix.NFPROTO_IPV6}} {
		from := join(iface(expr.MetaKeyIIFNAME, cfg.Name), family(f.number))
		to := join(iface(expr.MetaKeyOIFNAME, cfg.Name), family(f.number))
		switch {
		case !f.Address.IsValid():
		case !f.Routing:
			rules = append(
				rules,
				join(from, notIface(expr.MetaKeyOIFNAME, cfg.Name), drop()),
				join(to, notIface(expr.MetaKeyIIFNAME, cfg.Name), drop()),
			)
		case f.Firewall:
			rules = append(rules, join(from, accept()), join(to, accept()))
		}
	}
	return rules
}

// leaving matches packets from a network to elsewhere.
func leaving(p netip.Prefix) rule {
	number, src, dst := byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
	if p.Addr().Is6() {
		number, src, dst = unix.NFPROTO_IPV6, 8, 24
	}
	return join(family(number), address(src, p, expr.CmpOpEq), address(dst, p, expr.CmpOpNeq))
}

// address compares the network of the address at an offset in the header.
func address(offset uint32, p netip.Prefix, op expr.CmpOp) rule {
	raw := p.Addr().AsSlice()
	size := uint32(p.Addr().BitLen() / 8)
	return rule{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: raw},
	}
}

func iface(key expr.MetaKey, name string) rule { return ifaceIs(key, expr.CmpOpEq, name) }

func notIface(key expr.MetaKey, name string) rule { return ifaceIs(key, expr.CmpOpNeq, name) }

func ifaceIs(key expr.MetaKey, op expr.CmpOp, name string) rule {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return rule{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

func family(number byte) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

func proto(number byte) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

// port matches a destination port of TCP or UDP.
func port(protocol byte, number uint16) rule {
	return join(proto(protocol), rule{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	})
}

func accept() rule { return rule{&expr.Verdict{Kind: expr.VerdictAccept}} }

func drop() rule { return rule{&expr.Verdict{Kind: expr.VerdictDrop}} }

func join(parts ...rule) rule {
	var all rule
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
