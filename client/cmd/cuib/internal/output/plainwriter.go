package output

import "io"

// PlainWriter returns a writer that passes texts on without what a terminal
// takes for orders, such as colours, also where one is cut in two. Lines and
// tabs stay.
func PlainWriter(w io.Writer) io.Writer { return &plainWriter{w: w} }

type plainWriter struct {
	w     io.Writer
	state func(*plainWriter, byte) // Takes the next byte; nil for text.
	rest  int                      // Bytes that the character lacks.
	out   []byte
}

// Write implements [io.Writer].
func (p *plainWriter) Write(b []byte) (int, error) {
	p.out = p.out[:0]
	for _, c := range b {
		switch {
		case c == '\n': // Ends whatever was begun, so that nothing hides for long.
			p.state, p.rest = nil, 0
			p.out = append(p.out, c)
		case p.state != nil:
			p.state(p, c)
		default:
			p.text(c)
		}
	}
	if _, err := p.w.Write(p.out); err != nil {
		return 0, err
	}
	return len(b), nil
}

const (
	escape = 0x1b
	bell   = 0x07
	wide   = 0xc2 // Begins the control characters from 0x80 to 0x9f in UTF-8.
)

// text takes a byte that is part of no order.
func (p *plainWriter) text(c byte) {
	switch {
	case c >= 0x80 && c < 0xc0:
		if p.rest > 0 {
			p.rest--
			p.out = append(p.out, c)
		}
		return
	case c == escape:
		p.state = (*plainWriter).afterEscape
	case c == wide:
		p.state = (*plainWriter).afterWide
	case c == '\t' || c >= ' ' && c != 0x7f:
		p.out = append(p.out, c)
	}
	p.rest = 0
	switch {
	case c >= 0xf0:
		p.rest = 3
	case c >= 0xe0:
		p.rest = 2
	case c > wide:
		p.rest = 1
	}
}

func (p *plainWriter) afterWide(c byte) {
	p.state = nil
	switch {
	case c >= 0x80 && c < 0xa0: // A control character.
	case c >= 0xa0 && c < 0xc0:
		p.out = append(p.out, wide, c)
	default:
		p.text(c)
	}
}

func (p *plainWriter) afterEscape(c byte) {
	switch c {
	case '[':
		p.state = (*plainWriter).inSequence
	case ']', 'P', 'X', '^', '_':
		p.state = (*plainWriter).inString
	default:
		if c < ' ' || c > '/' { // Else one more follows.
			p.state = nil
		}
	}
}

func (p *plainWriter) inSequence(c byte) {
	if c >= '@' && c <= '~' {
		p.state = nil
	}
}

func (p *plainWriter) inString(c byte) {
	switch c {
	case bell:
		p.state = nil
	case escape: // Of the end, which is ESC \.
		p.state = (*plainWriter).afterEscape
	}
}
