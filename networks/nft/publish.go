package nft

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/cuib/cuib/networks"
)

// The chains that lead what is published on. Those that are not called by the
// kernel itself are called from these.
const (
	publishedIn   = "published-in"
	publishedOut  = "published-out"
	publishedBack = "published-back"
	admitted      = "admitted"
)

// A publisher makes the maps and chains for what is published. Packets look
// for their port in maps: it takes as long for one as for thousands.
type publisher struct {
	Near

	maps  map[string]*mapping
	names []string // Of the maps, in the order in which they were made.
	turns []chain
	gates []gate
}

// Near tells who reaches targets without the host.
type Near struct {
	Bridges []string
	Subnets []netip.Prefix
}

// behind is who is on a network.
func behind(cfg networks.Config) Near {
	n := Near{Bridges: []string{cfg.Name}}
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() {
			n.Subnets = append(n.Subnets, f.Address.Masked())
		}
	}
	return n
}

// A gate is a chain that leads those on that may come in.
type gate struct {
	networks.Gate

	name string
}

// published returns the maps and the chains for a list. There are none for an
// empty one.
func published(list []networks.Published, near Near) ([]*mapping, []chain) {
	if len(list) == 0 {
		return nil, nil
	}
	p := &publisher{Near: near, maps: map[string]*mapping{}}
	for _, e := range list {
		p.add(e)
	}
	all := make([]*mapping, len(p.names))
	for i, name := range p.names {
		all[i] = p.maps[name]
	}
	return all, p.chains()
}

// add puts one into the maps that it belongs into.
func (p *publisher) add(e networks.Published) {
	if len(e.Targets) == 0 {
		return
	}
	w, f := place{any: e.Listen.IsUnspecified(), rest: e.Protocol == 0}, familyOf(e.Listen)
	if len(e.Gate) > 0 {
		w.guarded = true
		p.guard(w, e)
	}
	to := e.Targets[0]
	switch {
	case len(e.Targets) > 1:
		p.put(w, chosen, f, interval(w, e, nftables.SetElement{VerdictData: goTo(p.turn(e))}))
	case w.rest:
		p.put(w, rest, f, nftables.SetElement{Key: e.Listen.AsSlice(), Val: to.Addr().AsSlice()})
	case keeps(e):
		p.put(w, ranges, f, interval(w, e, nftables.SetElement{Val: to.Addr().AsSlice()}))
	default:
		for port := int(e.First); port <= int(e.Last); port++ {
			p.put(w, ports, f, nftables.SetElement{Key: w.key(e, uint16(port)), Val: socket(to.Addr(), moved(e, uint16(port)))})
		}
	}
	if e.SNAT && len(e.Targets) == 1 && !w.any {
		p.source(e)
	}
}

// keeps reports whether targets get connections at the ports that they came
// for.
func keeps(e networks.Published) bool {
	return !slices.ContainsFunc(e.Targets, func(to netip.AddrPort) bool {
		return to.Port() != 0 && (e.First == e.Last || to.Port() != e.First)
	})
}

// moved is the port of the target for one of the host's.
func moved(e networks.Published, port uint16) uint16 {
	if to := e.Targets[0].Port(); to != 0 {
		return to + port - e.First
	}
	return port
}

// socket is an address with a port, as registers have it.
func socket(a netip.Addr, port uint16) []byte {
	return append(a.AsSlice(), padded(binaryutil.BigEndian.PutUint16(port))...)
}

// padded fills what is in a register up to whole words.
func padded(data []byte) []byte {
	return append(data, make([]byte, (4-len(data)%4)%4)...)
}

// key is what a port of the host is found by.
func (w place) key(e networks.Published, port uint16) []byte {
	k := append(padded([]byte{e.Protocol}), padded(binaryutil.BigEndian.PutUint16(port))...)
	if w.any {
		return k
	}
	return append(e.Listen.AsSlice(), k...)
}

// interval has an element be for all ports of e.
func interval(w place, e networks.Published, el nftables.SetElement) nftables.SetElement {
	el.Key, el.KeyEnd = w.key(e, e.First), w.key(e, e.Last)
	return el
}

func goTo(chain string) *expr.Verdict { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

// source has what a target begins leave with the address that it is reached
// at.
func (p *publisher) source(e networks.Published) {
	to, f, w := e.Targets[0].Addr(), familyOf(e.Listen), place{sources: true, rest: e.Protocol == 0}
	if w.rest {
		p.put(w, rest, f, nftables.SetElement{Key: to.AsSlice(), Val: e.Listen.AsSlice()})
		return
	}
	for port := int(e.First); port <= int(e.Last); port++ {
		inside := networks.Published{Listen: to, Protocol: e.Protocol}
		p.put(w, ports, f, nftables.SetElement{Key: w.key(inside, moved(e, uint16(port))), Val: socket(e.Listen, uint16(port))})
	}
}

// guard leads what comes for ports first to the gate that they are behind.
func (p *publisher) guard(w place, e networks.Published) {
	i := slices.IndexFunc(p.gates, func(g gate) bool { return slices.Equal(g.Gate, e.Gate) })
	if i < 0 {
		i = len(p.gates)
		p.gates = append(p.gates, gate{e.Gate, fmt.Sprintf("gate-%d", i)})
	}
	w.gates = true
	el := nftables.SetElement{VerdictData: goTo(p.gates[i].name)}
	if w.rest {
		el.Key = e.Listen.AsSlice()
		p.put(w, doors, familyOf(e.Listen), el)
		return
	}
	p.put(w, chosen, familyOf(e.Listen), interval(w, e, el))
}

// turn returns the name of the chain that picks one of several targets.
func (p *publisher) turn(e networks.Published) string {
	f, n := familyOf(e.Listen), len(p.turns)
	to := f.addressType
	if !keeps(e) {
		to = f.socketType
	}
	choices := &mapping{Set: &nftables.Set{Name: fmt.Sprintf("targets_%d", n), IsMap: true, KeyType: nftables.TypeInteger, DataType: to}}
	for i, t := range e.Targets {
		val := t.Addr().AsSlice()
		if !keeps(e) {
			val = socket(t.Addr(), t.Port())
		}
		choices.elements = append(choices.elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: val})
	}
	p.maps[choices.Name] = choices
	p.names = append(p.names, choices.Name)
	p.turns = append(p.turns, called(fmt.Sprintf("turn-%d", n), []rule{join(
		f.pick(len(e.Targets), e.BySource), find(choices.Name), f.translate(expr.NATTypeDestNAT, !keeps(e)),
	)}))
	return p.turns[n].Name
}

// put adds an element to a map, unless the map has the key: two that say so
// would keep all others from being published.
func (p *publisher) put(w place, kind string, f layout, e nftables.SetElement) {
	name := w.name(kind, f)
	m := p.maps[name]
	if m == nil {
		m = &mapping{Set: f.newMap(w, kind), known: map[string]bool{}}
		m.Name = name
		p.maps[name] = m
		p.names = append(p.names, name)
	}
	k := string(e.Key)
	if m.known[k] {
		return
	}
	m.known[k] = true
	m.elements = append(m.elements, e)
}

// chains are those of all that was added.
func (p *publisher) chains() []chain {
	nat := func(name string, hook *nftables.ChainHook, prio *nftables.ChainPriority, rules []rule) chain {
		return newChain(name, nftables.ChainTypeNAT, hook, prio, rules)
	}
	// Just before what gives all that leaves the host's own address.
	before := new(*nftables.ChainPriorityNATSource - 1)
	out := []chain{
		nat(publishedIn, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, p.find(
			place{}, place{guarded: true, gates: true}, place{any: true}, place{any: true, guarded: true, gates: true},
			place{rest: true}, place{rest: true, guarded: true, gates: true},
		)),
		nat(publishedOut, nftables.ChainHookOutput, nftables.ChainPriorityNATDest, p.find(
			place{}, place{guarded: true}, place{any: true}, place{any: true, guarded: true}, place{rest: true}, place{rest: true, guarded: true},
		)),
		nat(publishedBack, nftables.ChainHookPostrouting, before, p.back()),
	}
	if len(p.gates) > 0 {
		out = append(out, called(admitted, p.find(place{guarded: true}, place{any: true, guarded: true}, place{rest: true, guarded: true})))
	}
	for _, g := range p.gates {
		out = append(out, called(g.name, p.passages(g.Gate)))
	}
	return append(out, p.turns...)
}

// passages lead on what comes in by a gate. What is on the bridge itself
// reaches the targets anyway.
func (p *publisher) passages(g networks.Gate) []rule {
	on := rule{&expr.Verdict{Kind: expr.VerdictGoto, Chain: admitted}}
	var out []rule
	for _, bridge := range p.Bridges {
		out = append(out, join(iface(expr.MetaKeyIIFNAME, bridge), on))
	}
	for _, w := range g {
		var r rule
		if w.In != "" {
			r = iface(expr.MetaKeyIIFNAME, w.In)
		}
		if w.Source.IsValid() {
			f := familyOf(w.Source.Addr())
			r = join(r, family(f.number), address(f.source, w.Source, expr.CmpOpEq))
		}
		if w.Open {
			out = append(out, join(r, on))
		} else {
			out = append(out, join(r, rule{&expr.Verdict{Kind: expr.VerdictReturn}}))
		}
	}
	return out
}

// back gives what a target begins the address that it is reached at; and what
// comes from where the target is, and is led there by the host, the host's
// address, so that answers come back by way of the host.
func (p *publisher) back() []rule {
	var out []rule
	for _, n := range p.Subnets {
		out = append(out, within(n))
	}
	var away rule
	for _, bridge := range p.Bridges {
		away = join(away, notIface(expr.MetaKeyOIFNAME, bridge))
	}
	for _, r := range p.find(place{sources: true}, place{sources: true, rest: true}) {
		out = append(out, join(away, r))
	}
	return out
}

// within matches what was led from a network into the same.
func within(n netip.Prefix) rule {
	f := familyOf(n.Addr())
	return join(
		family(f.number), address(f.source, n, expr.CmpOpEq), address(f.destination, n, expr.CmpOpEq),
		translated(), rule{&expr.Masq{}},
	)
}

// called is a chain that others call.
func called(name string, rules []rule) chain {
	return chain{Chain: &nftables.Chain{Name: name}, rules: rules}
}

// A place says which maps an entry is found in.
type place struct {
	any     bool // Of all addresses of the host.
	guarded bool // Behind a gate.
	gates   bool // The gates themselves.
	rest    bool // Of all ports.
	sources bool // For what targets begin.
}

// The kinds of maps, by what they lead to.
const (
	ports  = "ports"  // A port leads to an address and a port.
	ranges = "ranges" // Ports lead to an address.
	chosen = "chosen" // Ports lead to a chain.
	rest   = "rest"   // An address leads to an address.
	doors  = "doors"  // An address leads to a chain.
)

// name names the map of a kind and a family.
func (w place) name(kind string, f layout) string {
	name := kind + "_one"
	if w.any {
		name = kind + "_any"
	}
	for _, part := range []struct {
		on   bool
		name string
	}{{w.guarded, "_guarded"}, {w.gates, "_gates"}, {w.sources, "_sources"}} {
		if part.on {
			name += part.name
		}
	}
	return fmt.Sprintf("%s_v%d", name, f.version)
}

// find returns the rules that look into the maps of places, as far as there
// are any.
func (p *publisher) find(places ...place) []rule {
	var out []rule
	for _, w := range places {
		for _, f := range []layout{ipv4, ipv6} {
			kinds := []string{ports, ranges, chosen}
			if w.rest {
				kinds = []string{rest, doors}
			}
			for _, kind := range kinds {
				if m := p.maps[w.name(kind, f)]; m != nil {
					out = append(out, f.find(w, kind, m.Name))
				}
			}
		}
	}
	return out
}
