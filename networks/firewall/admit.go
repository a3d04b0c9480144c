package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/cuib/cuib/networks"
)

// A Port is one of the host's own.
type Port struct {
	Listen netip.Addr // An address of the host.
	Proto  uint8
	Number uint16 // 0 for any.
}

// Admits says from where connections to a port of the host are let in by the
// chains for what comes to the host itself. Interfaces are those that they can
// come by. Where it is not known whether they are let in, they are not: as
// where a rule matches what no program tells beforehand.
func (r *Ruleset) Admits(port Port, interfaces []string) (networks.Gate, error) {
	p := Packet{Hook: Input, IPv6: port.Listen.Is6(), Dst: port.Listen, Proto: port.Proto, Port: port.Number}
	if len(r.bases(p)) == 0 {
		return nil, nil
	}
	open, err := r.lets(p)
	switch {
	case err != nil:
		return nil, err
	case open == yes:
		return nil, nil
	case open == no:
		return networks.Gate{{}}, nil
	}
	sources, err := r.sources(p)
	if err != nil {
		return nil, err
	}
	gate, sure, err := r.passages(p, sources)
	if err != nil || sure {
		return gate, err
	}
	gate = nil
	for _, name := range interfaces {
		p.In = name
		some, _, err := r.passages(p, sources)
		if err != nil {
			return nil, err
		}
		gate = append(gate, some...)
	}
	if len(gate) == 0 {
		gate = networks.Gate{{}}
	}
	return gate, nil
}

// passages says from which of the sources, and the rest, packets are let in by
// an interface. Sure says that it is known of all.
func (r *Ruleset) passages(p Packet, sources []netip.Prefix) (gate networks.Gate, sure bool, err error) {
	sure = true
	for i, s := range append(slices.Clone(sources), netip.Prefix{}) {
		from, ok := within(s, sources[:i], p.IPv6)
		if !ok {
			continue // What is in others is all of it.
		}
		p.Src = from
		open, err := r.lets(p)
		if err != nil {
			return nil, false, err
		}
		sure = sure && open != maybe
		gate = append(gate, networks.Passage{In: p.In, Source: s, Open: open == yes})
	}
	// A source that is treated as the rest is one of them.
	rest := gate[len(gate)-1]
	if !slices.ContainsFunc(gate, func(w networks.Passage) bool { return w.Open != rest.Open }) {
		gate = networks.Gate{rest}
	}
	return gate, sure, nil
}

// elsewhere are addresses that no rule is likely to name.
var elsewhere = map[bool][]netip.Addr{
	false: {netip.MustParseAddr("203.0.113.211"), netip.MustParseAddr("198.51.100.213"), netip.MustParseAddr("9.113.7.211"), netip.MustParseAddr("73.19.3.7")},
	true:  {netip.MustParseAddr("2001:db8:feed::d3"), netip.MustParseAddr("2610:1:2::d3"), netip.MustParseAddr("3fff:feed::d3")},
}

// within returns an address of a network that is in none of others; of none
// that is valid it is any other address.
func within(n netip.Prefix, others []netip.Prefix, six bool) (netip.Addr, bool) {
	candidates := elsewhere[six]
	if n.IsValid() {
		first, last := n.Masked().Addr(), networks.Last(n)
		candidates = []netip.Addr{first.Next(), last.Prev(), first, last}
	}
	for _, a := range candidates {
		if (!n.IsValid() || n.Contains(a)) && !slices.ContainsFunc(others, func(o netip.Prefix) bool { return o.Contains(a) }) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// lets tells whether a packet passes all chains.
func (r *Ruleset) lets(p Packet) (truth, error) {
	open := yes
	for _, base := range r.bases(p) {
		end, err := r.end(base, p)
		switch {
		case err != nil:
			return no, err
		case end.verdict == drop && !end.doubt:
			return no, nil
		case end.verdict == drop, end.risk:
			open = maybe
		}
	}
	return open, nil
}

// most is how many sources are told apart.
const most = 64

// sources are the networks that rules for a packet tell apart as where it comes
// from, small ones first. There are none if there are too many.
func (r *Ruleset) sources(p Packet) ([]netip.Prefix, error) {
	var out []netip.Prefix
	tables := map[place]bool{}
	for _, base := range r.bases(p) {
		tables[place{family: base.Table.Family, table: base.Table.Name}] = true
	}
	for _, ch := range r.chains {
		if !tables[place{family: ch.Table.Family, table: ch.Table.Name}] {
			continue
		}
		rules, err := r.rulesOf(ch)
		if err != nil {
			return nil, err
		}
		for _, rule := range rules {
			some, err := r.sourcesIn(ch.Table, rule.Exprs, p.IPv6)
			if err != nil {
				return nil, err
			}
			out = append(out, some...)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return cmp.Or(b.Bits()-a.Bits(), a.Addr().Compare(b.Addr())) })
	out = slices.Compact(out)
	if len(out) > most {
		return nil, nil
	}
	return out, nil
}

// sourcesIn are the networks that a rule compares a packet's source with.
func (r *Ruleset) sourcesIn(t *nftables.Table, exprs []expr.Any, six bool) ([]netip.Prefix, error) { //nolint:revive // Not exported.
	offset, size := uint32(12), 4
	if six {
		offset, size = 8, 16
	}
	var out []netip.Prefix
	loaded, bits := false, 0
	for _, x := range exprs {
		switch x := x.(type) {
		case *expr.Payload:
			loaded = x.Base == expr.PayloadBaseNetworkHeader && x.Offset == offset && int(x.Len) <= size
			bits = 8 * int(x.Len)
		case *expr.Meta, *expr.Ct, *expr.Fib:
			loaded = false
		case *expr.Bitwise:
			bits = ones(x.Mask)
		case *expr.Cmp:
			if a, ok := addressOf(x.Data, size); loaded && ok {
				out = append(out, netip.PrefixFrom(a, bits).Masked())
			}
		case *expr.Lookup:
			if !loaded {
				continue
			}
			elements, err := r.elements(t, x.SetName)
			if err != nil {
				return nil, err
			}
			out = append(out, networksOf(elements, size)...)
		}
	}
	return out, nil
}

// addressOf is the address that begins with data.
func addressOf(data []byte, size int) (netip.Addr, bool) {
	if len(data) == 0 || len(data) > size {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(append(slices.Clone(data), make([]byte, size-len(data))...))
}

// networksOf are the networks in a set: of intervals those that are one.
func networksOf(elements []nftables.SetElement, size int) []netip.Prefix {
	var out []netip.Prefix
	sorted := slices.SortedFunc(slices.Values(elements), func(a, b nftables.SetElement) int { return slices.Compare(a.Key, b.Key) })
	for i, el := range sorted {
		a, ok := addressOf(el.Key, size)
		if !ok || el.IntervalEnd {
			continue
		}
		bits := 8 * size
		if i+1 < len(sorted) && sorted[i+1].IntervalEnd {
			end, _ := addressOf(sorted[i+1].Key, size)
			for bits > 0 && a.Unmap() == netip.PrefixFrom(a, bits-1).Masked().Addr() && networks.Last(netip.PrefixFrom(a, bits-1)).Next().Compare(end) <= 0 {
				bits--
			}
		}
		out = append(out, netip.PrefixFrom(a, bits))
	}
	return out
}
