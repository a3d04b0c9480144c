package netgraph

import (
	"fmt"
	"html"
	"strings"
	"unicode/utf8"
)

// Sizes in pixels. Letters are those of a font in which all have one width.
const (
	letter    = 7.3
	rowHeight = 17
	padding   = 10
	gapAcross = 90
	gapDown   = 18
	margin    = 20
)

const svgStyle = `<style>
text { font: 12px monospace; fill: #222; }
.title { font-weight: bold; }
.label { font-size: 10px; fill: #555; }
rect { stroke: #555; rx: 4; }
.uplink { fill: #dde7f3; } .network { fill: #e2f0d9; } .published { fill: #fff2cc; } .instance { fill: #f2f2f2; }
.down { stroke-dasharray: 4 3; }
path { fill: none; stroke: #777; }
.leads { stroke-dasharray: 5 3; }
</style>
`

// placed is a box with its place.
type placed struct {
	box

	x, y, width, height int
}

// SVG draws it as a picture for browsers.
func (g Graph) SVG() string {
	boxes, lines := g.parts()
	all, width, height := layout(boxes)
	byID := map[string]placed{}
	for _, b := range all {
		byID[b.id] = b
	}
	var out strings.Builder
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n%s", width, height, width, height, svgStyle)
	out.WriteString(`<defs><marker id="arrow" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto"><path d="M1,1 L7,4 L1,7"/></marker></defs>` + "\n")
	for _, l := range lines {
		out.WriteString(l.svg(byID[l.from], byID[l.to]))
	}
	for _, b := range all {
		out.WriteString(b.svg())
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// layout has a column for each kind, and leaves out those with nothing in them.
func layout(boxes []box) (all []placed, width, height int) {
	x := margin
	for c := range columns {
		y, widest := margin, 0
		first := len(all)
		for _, b := range boxes {
			if b.column != c {
				continue
			}
			p := placed{box: b, x: x, y: y, height: rowHeight*(1+len(b.lines)) + padding}
			for _, text := range append([]string{b.title}, b.lines...) {
				widest = max(widest, int(float64(utf8.RuneCountInString(text))*letter)+2*padding)
			}
			y += p.height + gapDown
			all = append(all, p)
		}
		for i := first; i < len(all); i++ {
			all[i].width = widest
		}
		if widest > 0 {
			x += widest + gapAcross
			height = max(height, y)
		}
	}
	return all, max(x-gapAcross, margin) + margin, max(height, 2*margin)
}

func (p placed) svg() string {
	class := p.kind
	if p.down {
		class += " down"
	}
	var out strings.Builder
	fmt.Fprintf(&out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", class, p.x, p.y, p.width, p.height)
	fmt.Fprintf(&out, "<text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", p.x+padding, p.y+rowHeight, escape(p.title))
	for i, l := range p.lines {
		fmt.Fprintf(&out, "<text x=\"%d\" y=\"%d\">%s</text>\n", p.x+padding, p.y+rowHeight*(i+2), escape(l))
	}
	return out.String()
}

func escape(s string) string { return html.EscapeString(plain(s)) }

func (l line) svg(from, to placed) string {
	x1, y1 := from.x+from.width, from.y+from.height/2
	x2, y2 := to.x, to.y+to.height/2
	if l.row > 0 {
		y2 = to.y + rowHeight*l.row + (rowHeight+padding)/2
	}
	attributes := ""
	if l.arrow {
		attributes = ` class="leads" marker-end="url(#arrow)"`
	}
	const bend = gapAcross / 2
	text := fmt.Sprintf("<path%s d=\"M%d,%d C%d,%d %d,%d %d,%d\"/>\n", attributes, x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)
	if l.label != "" {
		const above = 4
		text += fmt.Sprintf("<text class=\"label\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", x2-above, y2-above, escape(l.label))
	}
	return text
}
