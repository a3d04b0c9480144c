package nft

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/conntrack"
)

// The kernel leads a flow of UDP to where its first packet was led, as long as
// packets come. So those that a table has led elsewhere than it does now are
// ended, when the table changes: what a table leads is read from its maps.

// A shelf has the elements of a table's maps by their names.
type shelf map[string][]nftables.SetElement

// shelfOf reads the maps of a table that lead datagrams somewhere. There are
// none if there is no table.
func shelfOf(c *nftables.Conn, t *nftables.Table) (shelf, error) {
	sets, err := setsOf(c, t)
	if err != nil {
		return nil, err
	}
	out := shelf{}
	for _, set := range sets {
		if !set.IsMap || !leading(set.Name) {
			continue
		}
		if out[set.Name], err = c.GetSetElements(set); err != nil && !isMissing(err) {
			return nil, fmt.Errorf("read map %s of nftables table %s: %w", set.Name, t.Name, err)
		}
	}
	return out, nil
}

// setsOf returns the sets and maps of a table; none if there is no table, which
// the library does not tell from other errors.
func setsOf(c *nftables.Conn, t *nftables.Table) ([]*nftables.Set, error) {
	tables, err := c.ListTablesOfFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(got *nftables.Table) bool { return got.Name == t.Name }) {
		return nil, nil
	}
	sets, err := c.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("list the sets of nftables table %s: %w", t.Name, err)
	}
	for _, s := range sets {
		s.Table = t // Which the kernel does not name with them.
	}
	return sets, nil
}

// shelved are the maps of contents, as [shelfOf] would read them.
func (in contents) shelved() shelf {
	out := shelf{}
	for _, m := range in.maps {
		if leading(m.Name) {
			out[m.Name] = m.elements
		}
	}
	return out
}

// leading tells whether a map is one of those that lead to targets.
func leading(name string) bool {
	if strings.HasSuffix(name, "_gates_v4") || strings.HasSuffix(name, "_gates_v6") || strings.Contains(name, "_sources_") {
		return false
	}
	kind, _, _ := strings.Cut(name, "_")
	return slices.Contains([]string{ports, ranges, chosen, rest, "targets"}, kind)
}

// datagrams are what of a shelf is published of UDP, in order: nothing is said of
// gates, which flows have passed.
func (s shelf) datagrams() []networks.Published {
	var out []networks.Published
	for name, elements := range s {
		kind, _, _ := strings.Cut(name, "_")
		if kind == "targets" {
			continue
		}
		f := ipv4
		if strings.HasSuffix(name, "_v6") {
			f = ipv6
		}
		for _, el := range elements {
			if e, ok := f.published(kind, strings.Contains(name, "_any"), el); ok {
				if kind == chosen {
					e.Targets = s.choices(el)
				}
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b networks.Published) int {
		return cmp.Or(a.Listen.Compare(b.Listen), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	return out
}

// published is what an element of a map says.
func (f layout) published(kind string, everywhere bool, el nftables.SetElement) (e networks.Published, ok bool) { //nolint:revive // Not exported.
	key := el.Key
	e.Listen = netip.IPv4Unspecified()
	if f.version == 6 {
		e.Listen = netip.IPv6Unspecified()
	}
	if !everywhere {
		e.Listen, key = cutAddress(f, key)
	}
	if kind != rest {
		if len(key) < 8 || key[0] != unix.IPPROTO_UDP {
			return e, false
		}
		e.Protocol, e.First = key[0], binary.BigEndian.Uint16(key[4:])
		e.Last = e.First
		if n := len(el.KeyEnd); n >= 4 {
			e.Last = binary.BigEndian.Uint16(el.KeyEnd[n-4:])
		}
	}
	if kind != chosen {
		e.Targets = []netip.AddrPort{targetOf(el.Val)}
	}
	return e, e.Listen.IsValid()
}

func cutAddress(f layout, data []byte) (netip.Addr, []byte) {
	if len(data) < int(f.length) {
		return netip.Addr{}, nil
	}
	a, _ := netip.AddrFromSlice(data[:f.length])
	return a, data[f.length:]
}

// targetOf reads an address, or one with a port.
func targetOf(val []byte) netip.AddrPort {
	f := ipv4
	if len(val) >= int(ipv6.length) {
		f = ipv6
	}
	a, left := cutAddress(f, val)
	port := uint16(0)
	if len(left) >= 2 {
		port = binary.BigEndian.Uint16(left)
	}
	return netip.AddrPortFrom(a, port)
}

// choices are the targets of the chain that an element leads to.
func (s shelf) choices(el nftables.SetElement) []netip.AddrPort {
	chain := ""
	if el.VerdictData != nil {
		chain = el.VerdictData.Chain
	} else if attrs, err := nl.ParseRouteAttr(el.Val); err == nil {
		for _, a := range attrs {
			if a.Attr.Type&^unix.NLA_F_NESTED == unix.NFTA_VERDICT_CHAIN {
				chain = nl.BytesToString(a.Value)
			}
		}
	}
	number, ok := strings.CutPrefix(chain, "turn-")
	if !ok {
		return nil
	}
	var out []netip.AddrPort
	for _, t := range s["targets_"+number] {
		out = append(out, targetOf(t.Val))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// ledTo are the targets that datagrams for an address of the host are led to.
func ledTo(all []networks.Published, to netip.AddrPort) []netip.AddrPort {
	var some, others []netip.AddrPort
	for _, e := range all {
		if e.Listen != to.Addr() && (!e.Listen.IsUnspecified() || e.Listen.Is4() != to.Addr().Is4()) {
			continue
		}
		if e.Protocol != 0 && (to.Port() < e.First || to.Port() > e.Last) {
			continue
		}
		for _, t := range e.Targets {
			if t.Port() == 0 {
				t = netip.AddrPortFrom(t.Addr(), to.Port())
			}
			if e.Protocol == 0 {
				others = append(others, t)
			} else {
				some = append(some, t)
			}
		}
	}
	if len(some) > 0 {
		return some
	}
	return others
}

// endFlows ends the flows that were led by some, and are led otherwise by
// others; and those that came to the host itself for what leads on now.
func endFlows(before, after []networks.Published) error {
	changed := difference(before, after)
	var failed error
	for _, f := range filters(changed) {
		all, err := conntrack.Flows(f)
		failed = errors.Join(failed, err)
		for _, flow := range all {
			if len(ledTo(changed, flow.To)) > 0 && stale(flow, before, after) {
				failed = errors.Join(failed, flow.End())
			}
		}
	}
	return failed
}

// stale tells whether a flow is led otherwise than it would be now.
func stale(flow conntrack.Flow, before, after []networks.Published) bool {
	old, now := ledTo(before, flow.To), ledTo(after, flow.To)
	switch {
	case slices.Contains(now, flow.Answerer):
		return false
	case len(old) > 0:
		return slices.Contains(old, flow.Answerer)
	}
	// What is published at all addresses of the host is not what passes to
	// that port of others.
	return flow.Answerer == flow.To && ours(flow.To.Addr())
}

// ours tells whether an address is the host's.
func ours(a netip.Addr) bool {
	routes, err := netlink.RouteGet(a.AsSlice())
	return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

// difference are those that are in one of two lists.
func difference(a, b []networks.Published) []networks.Published {
	says := func(e networks.Published) string { return fmt.Sprint(e.Listen, e.Protocol, e.First, e.Last, e.Targets) }
	in := map[string]int{}
	for i, list := range [][]networks.Published{a, b} {
		for _, e := range list {
			in[says(e)] |= 1 << i
		}
	}
	var out []networks.Published
	for _, e := range slices.Concat(a, b) {
		if in[says(e)] != 1|1<<1 {
			out = append(out, e)
		}
	}
	return out
}

// filters find the flows of some: as few as one filter for each family can.
func filters(some []networks.Published) []conntrack.Filter {
	found := map[bool]conntrack.Filter{}
	for _, e := range some {
		one := conntrack.Filter{Six: e.Listen.Is6()}
		if !e.Listen.IsUnspecified() {
			one.To = e.Listen
		}
		if e.First == e.Last {
			one.Port = e.First
		}
		f, ok := found[one.Six]
		if !ok {
			f = one
		}
		if f.To != one.To {
			f.To = netip.Addr{}
		}
		if f.Port != one.Port {
			f.Port = 0
		}
		found[one.Six] = f
	}
	return slices.Collect(maps.Values(found))
}
