// Package acl says what is let pass between a network, or an interface on it,
// and the others, without saying how the kernel is told.
package acl

import (
	"cmp"
	"net/netip"
	"slices"
)

// The actions of a rule. What is rejected is answered, what is dropped is not.
// An answer to what is allowed is allowed too, unless it is so without a state.
const (
	Allow          = "allow"
	AllowStateless = "allow-stateless"
	Reject         = "reject"
	Drop           = "drop"
)

// The states of a rule.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
	Logged   = "logged"
)

// The directions: from elsewhere to the instance, and from it.
const (
	Ingress = "ingress"
	Egress  = "egress"
)

// The protocols of a rule.
const (
	TCP   = "tcp"
	UDP   = "udp"
	ICMP4 = "icmp4"
	ICMP6 = "icmp6"
)

// A Ref names what an interface has: ACLs, in which network they are meant, and
// what happens to what none of their rules is about.
type Ref struct {
	Network string
	ACLs    []string
	Ingress Default `json:",omitzero"`
	Egress  Default `json:",omitzero"`
}

// A Default is for what no rule is about. Its zero value leaves it to the
// network.
type Default struct {
	Action string `json:",omitempty"`
	Logged string `json:",omitempty"` // "true", "false" or empty.
}

// A Policy is all rules that a network or an interface has.
type Policy struct {
	Network         string
	Ingress, Egress Direction

	LogGroup uint16 // Of nflog.

	// Gateways are the host's addresses, which answer what every guest asks.
	Gateways []netip.Addr

	// Book has the addresses behind names. They change without the policy.
	Book Book
}

// A Direction is the rules for packets of one direction, in the order in which
// they are asked, and what happens to what they are not about.
type Direction struct {
	Rules   []Rule
	Default string // allow, reject or drop.
	Logged  bool   // What the default is for.
	Owner   string // The ACL in whose log that is.
}

// A Rule is one of an ACL.
type Rule struct {
	ACL       string
	Direction string
	Index     int // In the ACL, from 0.

	Action              string
	Logged              bool
	Source, Destination Side
	Protocol            string // Empty for all.
	SourcePorts         []Ports
	DestinationPorts    []Ports
	ICMPType, ICMPCode  int // -1 for all.
}

// A Side is who sends or gets a packet: one of the addresses, or of those that
// the book has of a name. All is for a rule that does not ask.
type Side struct {
	All       bool
	Addresses []Range
	Names     []string
}

// Ports is a range of ports, both ends in it.
type Ports struct{ First, Last uint16 }

// A Range is a range of addresses of one family, both ends in it.
type Range struct{ First, Last netip.Addr }

// A Book knows addresses by names. It is safe for concurrent use.
type Book interface {
	// Addresses returns those of a name; none if nobody has it.
	Addresses(name string) []Range
}

// precedence is the order in which actions are tried.
var precedence = []string{Drop, Reject, AllowStateless, Allow}

// Sort puts rules into the order in which they are asked: what drops, what
// rejects, what allows. That of the ACLs, and in them, does not matter.
func Sort(rules []Rule) {
	slices.SortStableFunc(rules, func(a, b Rule) int {
		return cmp.Compare(slices.Index(precedence, a.Action), slices.Index(precedence, b.Action))
	})
}

// OfPrefix returns a network as a range.
func OfPrefix(p netip.Prefix) Range {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(last) // It has the length of an address.
	return Range{p.Addr(), a}
}

// OfAddress returns one address as a range.
func OfAddress(a netip.Addr) Range { return Range{a, a} }

// Merge returns the ranges of a family, without those that overlap or touch.
func Merge(ranges []Range, six bool) []Range {
	all := slices.DeleteFunc(slices.Clone(ranges), func(r Range) bool { return r.First.Is6() != six })
	slices.SortFunc(all, func(a, b Range) int { return a.First.Compare(b.First) })
	var out []Range
	for _, r := range all {
		if n := len(out) - 1; n >= 0 && (!out[n].Last.Less(r.First) || out[n].Last.Next() == r.First) {
			if out[n].Last.Less(r.Last) {
				out[n].Last = r.Last
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// MergePorts returns the ranges without those that overlap or touch.
func MergePorts(list []Ports) []Ports {
	all := slices.Clone(list)
	slices.SortFunc(all, func(a, b Ports) int { return cmp.Compare(a.First, b.First) })
	var out []Ports
	for _, p := range all {
		if n := len(out) - 1; n >= 0 && int(p.First) <= int(out[n].Last)+1 {
			out[n].Last = max(out[n].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}

// Outside returns all addresses of both families that are in none of the
// ranges.
func Outside(ranges []Range) []Range {
	var out []Range
	for _, all := range []Range{OfPrefix(netip.MustParsePrefix("0.0.0.0/0")), OfPrefix(netip.MustParsePrefix("::/0"))} {
		from := all.First
		for _, r := range Merge(ranges, all.First.Is6()) {
			if from.Less(r.First) {
				out = append(out, Range{from, r.First.Prev()})
			}
			from = r.Last.Next() // Not valid after the last address of all.
		}
		if from.IsValid() {
			out = append(out, Range{from, all.Last})
		}
	}
	return out
}
