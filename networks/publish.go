package networks

import "net/netip"

// A Published is a port of the host, or several, that lead into a network.
type Published struct {
	// Listen is whose ports they are: an unspecified address stands for all
	// that the host has of the family, but for the loopback.
	Listen netip.Addr

	// Protocol is that of the ports, TCP or UDP. 0 is for all that comes for
	// Listen and is not published otherwise; then there are no ports.
	Protocol    uint8
	First, Last uint16

	// Targets take turns in getting connections. One that has no port gets
	// them at the port that they came for. Of several ports the first leads
	// to the target's, and those behind it to those behind that. Without a
	// target it is as if it were not published.
	Targets  []netip.AddrPort
	BySource bool // Clients come to the same target each time, as long as the targets are the same.
	SNAT     bool // What the target begins from its port has Listen as its source; for one target alone.

	// Gate says from where it can be reached. The host itself always can.
	Gate Gate
}

// A Gate is a list of which the first that fits decides. An empty list lets
// all in; what fits none in another is kept out.
type Gate []Passage

// A Passage lets in what comes by an interface and from an address, or keeps
// it out.
type Passage struct {
	In     string       // An interface; empty for all.
	Source netip.Prefix // Not valid for all.
	Open   bool
}

// Spread returns what publishes ports of the host as e does, but at ports of
// an address: as many as those of the host, one for all, or none for the same.
// Ports that follow each other are one.
func (e Published) Spread(to netip.Addr, ports, targets []uint16) []Published {
	target := func(i int) uint16 {
		switch len(targets) {
		case 0:
			return ports[i]
		case 1:
			return targets[0]
		}
		return targets[i]
	}
	var out []Published
	for i, port := range ports {
		if i > 0 {
			last := &out[len(out)-1]
			if int(port) == int(last.Last)+1 && int(target(i)) == int(target(i-1))+1 {
				last.Last = port
				continue
			}
		}
		next := e
		next.First, next.Last, next.Targets = port, port, []netip.AddrPort{netip.AddrPortFrom(to, target(i))}
		out = append(out, next)
	}
	return out
}

// Overlaps reports whether two would get the same connections.
func (e Published) Overlaps(o Published) bool {
	if e.Listen.Is4() != o.Listen.Is4() || e.Protocol != o.Protocol {
		return false
	}
	if e.Listen != o.Listen && !e.Listen.IsUnspecified() && !o.Listen.IsUnspecified() {
		return false
	}
	return e.Protocol == 0 || e.First <= o.Last && o.First <= e.Last
}

// From is e without the ports before one.
func (e Published) From(port uint16) Published {
	out := e
	out.First = port
	out.Targets = make([]netip.AddrPort, len(e.Targets))
	for i, t := range e.Targets {
		if t.Port() != 0 {
			t = netip.AddrPortFrom(t.Addr(), t.Port()+port-e.First)
		}
		out.Targets[i] = t
	}
	return out
}
