package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/acl"
)

// A set is one of nftables, with what is in it.
type set struct {
	*nftables.Set

	elements []nftables.SetElement

	// Of a set with addresses of the book: whose they are.
	side acl.Side
	six  bool
}

// fresh returns the set with the addresses that the book has now.
func (s set) fresh(book acl.Book) set {
	s.elements = intervals(addresses(s.side, s.six, book))
	return s
}

// add puts the set into a table.
func (s set) add(c *nftables.Conn, t *nftables.Table) error {
	s.Table = t
	if err := addSet(c, s.Set); err != nil {
		return err
	}
	return s.fill(c)
}

// fill puts its elements into a set that is empty.
func (s set) fill(c *nftables.Conn) error {
	for some := range slices.Chunk(s.elements, 2*rangesAtOnce) {
		if err := c.SetAddElements(s.Set, some); err != nil {
			return err
		}
	}
	return nil
}

// An aclWriter makes rules of what ACLs say, for one table.
type aclWriter struct {
	book    acl.Book
	network string
	group   uint16 // Of nflog, where what is logged goes.

	// Allowed ends the rules for what is allowed, and Stateless for what is
	// so without a state.
	allowed, stateless rule

	// Mute is where the kernel cannot answer: what is rejected is dropped.
	mute bool

	named map[string]set // By name, which tells what is in them.
	ids   *ids
}

// rangesAtOnce is how many ranges a message to the kernel has room for.
const rangesAtOnce = 256

// ids tell the sets of one transaction apart.
type ids struct{ last uint32 }

// firstID is far from those that the library gives to sets of the same
// transaction.
const firstID = 1 << 24

func (n *ids) next() uint32 {
	n.last = max(n.last, firstID) + 1
	return n.last
}

// newACLWriter returns a writer of rules for what a policy says.
func newACLWriter(p *acl.Policy, n *ids, allowed, stateless rule) *aclWriter {
	return &aclWriter{
		book: p.Book, network: p.Network, group: p.LogGroup, allowed: allowed, stateless: stateless,
		named: map[string]set{}, ids: n,
	}
}

// An owned rule counts for a rule of an ACL: its number in the direction's
// rules, or -1 for the default. What only logs has no number.
type owned struct {
	rule

	of int
}

const (
	ofDefault = -1
	ofNone    = -2
)

// direction makes all rules of a direction, and the default.
func (w *aclWriter) direction(name string, d acl.Direction) []owned {
	var all []owned
	for i, r := range d.Rules {
		for _, m := range w.matches(r) {
			if r.Logged {
				all = append(all, owned{join(m, w.log(r.ACL, r.Direction, fmt.Sprint(r.Index), r.Action)), ofNone})
			}
			for _, verdict := range w.verdicts(r.Action, r.Protocol) {
				all = append(all, owned{join(m, verdict), i})
			}
		}
	}
	if d.Logged {
		all = append(all, owned{w.log(d.Owner, name, "default", d.Default), ofNone})
	}
	for _, verdict := range w.verdicts(d.Default, "") {
		all = append(all, owned{verdict, ofDefault})
	}
	return all
}

// Rates of the log of one rule: a flood of packets does not keep the daemon
// busy.
const (
	logRate  = 20 // In a second.
	logBurst = 100
	logBytes = 128 // Of a packet: the headers.
)

func (w *aclWriter) log(owner, direction, index, action string) rule {
	return rule{
		&expr.Limit{Type: expr.LimitTypePkts, Rate: logRate, Unit: expr.LimitTimeSecond, Burst: logBurst},
		&expr.Log{
			Key:   1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN,
			Group: w.group, Snaplen: logBytes, Data: []byte(strings.Join([]string{LogPrefix, LogName(owner), direction, index, action, w.network}, " ")),
		},
	}
}

// longestLogged is how long the name of an ACL is at most in what is logged: the
// kernel has room for 127 characters with all else.
const longestLogged = 63

// LogName is what an ACL is called in [Logged]: its name, or what stands for a
// longer one.
func LogName(owner string) string {
	if len(owner) <= longestLogged {
		return owner
	}
	sum := sha256.Sum256([]byte(owner))
	return hex.EncodeToString(sum[:longestLogged/2])
}

// LogPrefix begins what the kernel says of packets that a rule of an ACL logs.
// The ACL, the direction, the rule's number, its action and the network follow.
const LogPrefix = "cuib-acl"

// verdicts are what ends the rules of an action. Who is rejected is answered as
// the protocol wants it.
func (w *aclWriter) verdicts(action, protocol string) []rule {
	count := rule{&expr.Counter{}}
	reset := rule{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	unreachable := rule{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}
	switch {
	case action == acl.Allow:
		return []rule{join(count, w.allowed)}
	case action == acl.AllowStateless:
		return []rule{join(count, w.stateless)}
	case action == acl.Drop || w.mute:
		return []rule{join(count, drop())}
	case protocol == acl.TCP:
		return []rule{join(count, reset)}
	case protocol != "":
		return []rule{join(count, unreachable)}
	}
	return []rule{join(proto(unix.IPPROTO_TCP), count, reset), join(count, unreachable)}
}

// matches returns what a rule of an ACL is about, for each family of addresses
// that it has. One that no address can be of has none.
func (w *aclWriter) matches(r acl.Rule) []rule {
	l4 := w.transport(r)
	if r.Source.All && r.Destination.All && r.Protocol != acl.ICMP4 && r.Protocol != acl.ICMP6 {
		return []rule{l4}
	}
	var all []rule
	for _, six := range []bool{false, true} {
		if six && r.Protocol == acl.ICMP4 || !six && r.Protocol == acl.ICMP6 || !has(r.Source, six) || !has(r.Destination, six) {
			continue
		}
		source, destination := addressOffsets(six)
		all = append(all, join(protocolIs(six), w.side(r.Source, six, source), w.side(r.Destination, six, destination), l4))
	}
	return all
}

// has tells whether addresses of a family can be a side.
func has(s acl.Side, six bool) bool {
	return s.All || len(s.Names) > 0 || slices.ContainsFunc(s.Addresses, func(r acl.Range) bool { return r.First.Is6() == six })
}

// addressOffsets are those of the source and the destination in a header.
func addressOffsets(six bool) (source, destination uint32) { //nolint:revive // a value and not a switch
	if six {
		return 8, 24
	}
	return 12, 16
}

func addressSize(six bool) uint32 { //nolint:revive // a value and not a switch
	if six {
		return 16
	}
	return 4
}

// protocolIs matches packets of a family, also where frames pass.
func protocolIs(six bool) rule { //nolint:revive // a value and not a switch
	ethertype := uint16(unix.ETH_P_IP)
	if six {
		ethertype = unix.ETH_P_IPV6
	}
	return rule{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(ethertype)},
	}
}

// side matches who sends or gets a packet.
func (w *aclWriter) side(s acl.Side, six bool, offset uint32) rule {
	if s.All {
		return nil
	}
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: addressSize(six)}
	if len(s.Names) > 0 {
		return rule{load, lookupIn(w.known(s, six))}
	}
	ranges := acl.Merge(s.Addresses, six)
	if len(ranges) == 1 {
		if p, ok := prefixOf(ranges[0]); ok {
			return address(offset, p, expr.CmpOpEq)
		}
		return rule{load, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: ranges[0].First.AsSlice(), ToData: ranges[0].Last.AsSlice()}}
	}
	return rule{load, lookupIn(w.fixed(addressType(six), intervals(ranges)))}
}

// prefixOf returns a range as a network, if it is one.
func prefixOf(r acl.Range) (netip.Prefix, bool) {
	first, last := r.First.AsSlice(), r.Last.AsSlice()
	length := 0
	for i := range first {
		same := bits.LeadingZeros8(first[i] ^ last[i])
		length += same
		if same < 8 {
			break
		}
	}
	p := netip.PrefixFrom(r.First, length)
	return p, acl.OfPrefix(p) == r
}

func lookupIn(s *nftables.Set) *expr.Lookup {
	return &expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}
}

func addressType(six bool) nftables.SetDatatype { //nolint:revive // a value and not a switch
	if six {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// fixed is a set of what does not change.
func (w *aclWriter) fixed(typ nftables.SetDatatype, elements []nftables.SetElement) *nftables.Set {
	sum := sha256.New()
	for _, e := range elements {
		fmt.Fprintf(sum, "%x %t ", e.Key, e.IntervalEnd)
	}
	name := "set_" + hex.EncodeToString(sum.Sum(nil)[:8])
	if had, ok := w.named[name]; ok {
		return had.Set
	}
	made := set{elements: elements, Set: &nftables.Set{ID: w.ids.next(), Name: name, Interval: true, KeyType: typ}}
	w.named[name] = made
	return made.Set
}

// known is the set with the addresses that the book has for a side, which
// change without the rules.
func (w *aclWriter) known(s acl.Side, six bool) *nftables.Set {
	name := setName(s, six)
	if had, ok := w.named[name]; ok {
		return had.Set
	}
	made := set{side: s, six: six, Set: &nftables.Set{ID: w.ids.next(), Name: name, Interval: true, KeyType: addressType(six)}}
	w.named[name] = made.fresh(w.book)
	return made.Set
}

// setName tells the sides of rules apart, by what is in them.
func setName(s acl.Side, six bool) string { //nolint:revive // a value and not a switch
	sum := sha256.Sum256(fmt.Append(nil, slices.Sorted(slices.Values(s.Names)), s.Addresses))
	if six {
		return "six_" + hex.EncodeToString(sum[:8])
	}
	return "four_" + hex.EncodeToString(sum[:8])
}

// addresses are all that are a side now.
func addresses(s acl.Side, six bool, book acl.Book) []acl.Range {
	all := slices.Clone(s.Addresses)
	for _, name := range s.Names {
		all = append(all, book.Addresses(name)...)
	}
	return acl.Merge(all, six)
}

// intervals are ranges as a set has them: the first address, and the one after
// the last, if there is one.
func intervals(ranges []acl.Range) []nftables.SetElement {
	var all []nftables.SetElement
	for _, r := range ranges {
		all = append(all, nftables.SetElement{Key: r.First.AsSlice()})
		if next := r.Last.Next(); next.IsValid() {
			all = append(all, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return all
}

// transport matches protocol, ports, type and code.
func (w *aclWriter) transport(r acl.Rule) rule {
	switch r.Protocol {
	case acl.TCP:
		return join(proto(unix.IPPROTO_TCP), w.ports(0, r.SourcePorts), w.ports(2, r.DestinationPorts))
	case acl.UDP:
		return join(proto(unix.IPPROTO_UDP), w.ports(0, r.SourcePorts), w.ports(2, r.DestinationPorts))
	case acl.ICMP4:
		return join(proto(unix.IPPROTO_ICMP), icmpByte(0, r.ICMPType), icmpByte(1, r.ICMPCode))
	case acl.ICMP6:
		return join(proto(unix.IPPROTO_ICMPV6), icmpByte(0, r.ICMPType), icmpByte(1, r.ICMPCode))
	}
	return nil
}

func icmpByte(offset uint32, want int) rule {
	if want < 0 {
		return nil
	}
	return payload(expr.PayloadBaseTransportHeader, offset, []byte{byte(want)}, expr.CmpOpEq)
}

// ports matches the ports at an offset of the header.
func (w *aclWriter) ports(offset uint32, list []acl.Ports) rule {
	if len(list) == 0 {
		return nil
	}
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}
	raw := binaryutil.BigEndian.PutUint16
	if len(list) > 1 {
		return rule{load, lookupIn(w.fixed(nftables.TypeInetService, portIntervals(list)))}
	}
	if list[0].First == list[0].Last {
		return rule{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: raw(list[0].First)}}
	}
	return rule{load, &expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: raw(list[0].First), ToData: raw(list[0].Last)}}
}

// portIntervals are ranges of ports as a set has them, without those that
// overlap.
func portIntervals(list []acl.Ports) []nftables.SetElement {
	var all []nftables.SetElement
	raw := binaryutil.BigEndian.PutUint16
	for _, p := range acl.MergePorts(list) {
		all = append(all, nftables.SetElement{Key: raw(p.First)})
		if p.Last < 1<<16-1 {
			all = append(all, nftables.SetElement{Key: raw(p.Last + 1), IntervalEnd: true})
		}
	}
	return all
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// isMissing reports whether something is not there, or not any more. The library
// keeps only the text of some errors.
func isMissing(err error) bool {
	return errors.Is(err, unix.ENOENT) || err != nil && strings.HasSuffix(err.Error(), ": "+unix.ENOENT.Error())
}
