package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// Who translates an address first has it: chains of other tables, and those of
// iptables, have the priority of sources.
var (
	beforeOthers = *nftables.ChainPriorityNATSource - 1
	afterOthers  = *nftables.ChainPriorityNATSource + 1
)

// ordered are the chains of what is translated before others or after them.
func ordered(cfg networks.Config) []chain {
	var all []chain
	for _, o := range []struct {
		order string
		prio  nftables.ChainPriority
	}{{networks.NATBefore, beforeOthers}, {networks.NATAfter, afterOthers}} {
		if rules := postrouting(cfg, o.order); len(rules) > 0 {
			all = append(all, newChain("postrouting-"+o.order, nftables.ChainTypeNAT, nftables.ChainHookPostrouting, &o.prio, rules))
		}
	}
	return all
}

// postrouting lets guests of those families leave with an address of the host
// that have an order.
func postrouting(cfg networks.Config, order string) []rule {
	var rules []rule
	out := notIface(expr.MetaKeyOIFNAME, cfg.Name)
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.NAT && f.Address.IsValid() && f.NATOrder == order {
			rules = append(rules, toPeers(cfg, f.Address)...)
			rules = append(rules, join(out, leaving(f.Address.Masked()), leaveWith(f.NATAddress)))
		}
	}
	return rules
}

// toPeers lets packets to peers leave as they are.
func toPeers(cfg networks.Config, from netip.Prefix) []rule {
	var rules []rule
	number, src, dst := byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
	if from.Addr().Is6() {
		number, src, dst = unix.NFPROTO_IPV6, 8, 24
	}
	for _, p := range cfg.Peers {
		to := p.IPv4
		if from.Addr().Is6() {
			to = p.IPv6
		}
		if to.IsValid() {
			rules = append(rules, join(family(number), address(src, from.Masked(), expr.CmpOpEq), address(dst, to.Masked(), expr.CmpOpEq), leave()))
		}
	}
	return rules
}

// leaveWith gives packets a source address, that of the interface they leave
// by if there is none.
func leaveWith(a netip.Addr) rule {
	if !a.IsValid() {
		return rule{&expr.Masq{}}
	}
	number := uint32(unix.NFPROTO_IPV4)
	if a.Is6() {
		number = unix.NFPROTO_IPV6
	}
	return rule{
		&expr.Immediate{Register: 1, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: number, RegAddrMin: 1},
	}
}
