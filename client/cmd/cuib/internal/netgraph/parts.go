package netgraph

import (
	"strconv"
	"strings"
)

// A box is something in a picture, in one of its columns.
type box struct {
	id     string
	column int
	kind   string // Its class: uplink, network, published or instance.
	down   bool
	title  string
	lines  []string
}

// The columns.
const (
	columnUplinks = iota
	columnNetworks
	columnPublished
	columnInstances
	columns
)

// A line connects two boxes.
type line struct {
	from, to, label string
	arrow           bool
	row             int // Of the box that it leads to: a line of its text; 0 for its middle.
}

// parts are the boxes and lines that a graph consists of.
func (g Graph) parts() ([]box, []line) {
	var boxes []box
	var lines []line
	for _, u := range g.Uplinks {
		boxes = append(boxes, box{"u:" + u.Name, columnUplinks, "uplink", !u.Up, u.Name + " (" + u.Kind + ")", u.details()})
	}
	for _, n := range g.Networks {
		boxes = append(boxes, box{"n:" + n.Name, columnNetworks, "network", !n.Up, n.Name + " (" + n.Kind + ")", n.details()})
		for _, u := range n.Uplinks {
			lines = append(lines, line{from: "u:" + u.Interface, to: "n:" + n.Name, label: u.How})
		}
	}
	for i, p := range g.Published {
		b := box{"p:" + strconv.Itoa(i), columnPublished, "published", false, p.Kind + " " + p.Listen, p.lines()}
		boxes = append(boxes, b)
		if p.Network != "" {
			lines = append(lines, line{from: "n:" + p.Network, to: b.id})
		}
		for _, name := range p.instances() {
			lines = append(lines, line{from: b.id, to: "i:" + name, arrow: true})
		}
	}
	for _, in := range g.Instances {
		b := box{id: "i:" + in.Name, column: columnInstances, kind: "instance", down: in.Status == "stopped", title: in.Name}
		b.lines = append(b.lines, in.Status)
		for _, n := range in.NICs {
			b.lines = append(b.lines, n.describe())
			if id := g.idOf(n); id != "" {
				lines = append(lines, line{from: id, to: b.id, label: n.Name, row: len(b.lines)})
			}
		}
		boxes = append(boxes, b)
	}
	return boxes, known(boxes, lines)
}

// known leaves out lines to what is not there, as a parent that is gone.
func known(boxes []box, lines []line) []line {
	there := map[string]bool{}
	for _, b := range boxes {
		there[b.id] = true
	}
	var out []line
	for _, l := range lines {
		if there[l.from] && there[l.to] {
			out = append(out, l)
		}
	}
	return out
}

func (g Graph) idOf(n NIC) string {
	at := g.place(n)
	if at == "" {
		return ""
	}
	for _, i := range g.Networks {
		if i.Name == at {
			return "n:" + at
		}
	}
	return "u:" + at
}

func (i Interface) details() []string {
	out := append([]string{}, i.Addresses...)
	for _, gw := range i.Gateways {
		out = append(out, "gateway "+gw)
	}
	return out
}

func (n Network) details() []string {
	out := n.Interface.details()
	for _, p := range n.Peers {
		out = append(out, "peer "+p)
	}
	if n.Status != "" && n.Status != "Created" {
		out = append(out, strings.ToLower(n.Status))
	}
	return out
}

// instances are those that something leads to, each once.
func (p Published) instances() []string {
	var out []string
	seen := map[string]bool{}
	for _, port := range p.Ports {
		for _, t := range port.Targets {
			if t.Instance != "" && !seen[t.Instance] {
				seen[t.Instance] = true
				out = append(out, t.Instance)
			}
		}
	}
	return out
}
