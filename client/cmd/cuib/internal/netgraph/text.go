package netgraph

import (
	"strings"
	"unicode"
)

// A branch is a line of a tree, with what is below it.
type branch struct {
	text  string
	below []branch
}

// Text draws a tree.
func (g Graph) Text() string {
	var out strings.Builder
	out.WriteString("host\n")
	grow(&out, "", g.tree())
	return out.String()
}

func grow(out *strings.Builder, indent string, all []branch) {
	for i, b := range all {
		corner, further := "├─ ", "│  "
		if i == len(all)-1 {
			corner, further = "└─ ", "   "
		}
		out.WriteString(indent + corner + plain(b.text) + "\n")
		grow(out, indent+further, b.below)
	}
}

// plain has nothing that a terminal would act on, and one line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

func (g Graph) tree() []branch {
	var all []branch
	for _, u := range g.Uplinks {
		all = append(all, branch{"uplink " + u.describe(), g.nicsOn(u.Name)})
	}
	for _, n := range g.Networks {
		b := branch{text: "network " + n.describe()}
		for _, u := range n.Uplinks {
			b.text += ", " + u.How + " " + u.Interface
		}
		if n.Status != "" && n.Status != "Created" {
			b.text += ", " + strings.ToLower(n.Status)
		}
		for _, p := range n.Peers {
			b.below = append(b.below, branch{text: "peer " + p})
		}
		b.below = append(b.below, g.publishedOn(n.Name)...)
		b.below = append(b.below, g.nicsOn(n.Name)...)
		all = append(all, b)
	}
	all = append(all, g.publishedOn("")...)
	if loose := g.nicsOn(""); len(loose) > 0 {
		all = append(all, branch{"on no network", loose})
	}
	for _, in := range g.Instances {
		if len(in.NICs) == 0 {
			all = append(all, branch{text: in.Name + " (" + in.Status + "), without interfaces"})
		}
		for _, n := range in.NICs {
			if n.Kind == ofHost {
				all = append(all, branch{text: in.Name + " " + n.Name + " (" + in.Status + "), in the host's own network"})
			}
		}
	}
	return all
}

func (i Interface) describe() string {
	text := i.Name + " (" + i.Kind + ")"
	if !i.Up {
		text += " down"
	}
	if len(i.Addresses) > 0 {
		text += ": " + strings.Join(i.Addresses, " ")
	}
	if len(i.Gateways) > 0 {
		text += ", gateway " + strings.Join(i.Gateways, " ")
	}
	return text
}

func (g Graph) publishedOn(network string) []branch {
	var all []branch
	for _, p := range g.Published {
		if p.Network != network {
			continue
		}
		b, lines := branch{text: p.Kind + " " + p.Listen}, p.lines()
		if len(lines) == 1 {
			b.text += " " + lines[0]
			lines = nil
		}
		for _, l := range lines {
			b.below = append(b.below, branch{text: l})
		}
		all = append(all, b)
	}
	return all
}

// nicsOn are what is on a network or an interface. What no picture has, as an
// interface that is gone, counts as none.
func (g Graph) nicsOn(name string) []branch {
	var all []branch
	for _, in := range g.Instances {
		for _, n := range in.NICs {
			if g.place(n) == name && n.Kind != ofHost {
				all = append(all, branch{text: in.Name + " " + n.describe() + " (" + in.Status + ")"})
			}
		}
	}
	return all
}

func (n NIC) describe() string {
	text := n.Name
	if n.Kind != "" {
		text += " " + n.Kind
	}
	if len(n.Addresses) > 0 {
		text += " " + strings.Join(n.Addresses, " ")
	}
	return text
}

// place is the network or uplink that a NIC is drawn at; empty for none.
func (g Graph) place(n NIC) string {
	for _, i := range g.Networks {
		if i.Name == n.On {
			return n.On
		}
	}
	for _, i := range g.Uplinks {
		if i.Name == n.On {
			return n.On
		}
	}
	return ""
}
