package netgraph

import (
	"fmt"
	"strings"
)

var dotStyles = map[string]string{
	"uplink": `fillcolor="#dde7f3"`, "network": `fillcolor="#e2f0d9"`,
	"published": `fillcolor="#fff2cc"`, "instance": `fillcolor="#f2f2f2"`,
}

// DOT draws it in the language of Graphviz.
func (g Graph) DOT() string {
	boxes, lines := g.parts()
	var out strings.Builder
	out.WriteString("digraph cuib {\n\trankdir=LR;\n\tnode [shape=box, style=filled, fontname=\"monospace\"];\n\tedge [dir=none, fontname=\"monospace\"];\n")
	for _, b := range boxes {
		style := dotStyles[b.kind]
		if b.down {
			style += `, style="filled,dashed"`
		}
		fmt.Fprintf(&out, "\t\"%s\" [label=\"%s\\n", quote(b.id), quote(b.title))
		for _, l := range b.lines {
			out.WriteString(quote(l) + `\l`)
		}
		fmt.Fprintf(&out, "\", %s];\n", style)
	}
	for _, l := range lines {
		fmt.Fprintf(&out, "\t\"%s\" -> \"%s\"", quote(l.from), quote(l.to))
		switch {
		case l.arrow:
			out.WriteString(" [dir=forward, style=dashed]")
		case l.label != "":
			fmt.Fprintf(&out, " [label=\"%s\"]", quote(l.label))
		}
		out.WriteString(";\n")
	}
	out.WriteString("}\n")
	return out.String()
}

// quote is a part of a string in quotes.
func quote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plain(s))
}
