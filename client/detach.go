package client

import "io"

// The keys that detach from a console.
const (
	escapeKey = 0x01 // ctrl+a
	detachKey = 'q'
)

// Detachable returns the keys that r has, until the user types ctrl+a q. The
// user types ctrl+a twice for one.
func Detachable(r io.Reader) io.Reader { return &detachable{r: r} }

type detachable struct {
	r       io.Reader
	escaped bool // The last key was escapeKey.
	done    bool
}

func (d *detachable) Read(p []byte) (int, error) {
	in := make([]byte, max(1, len(p)/2)) // A key can become two.
	for !d.done {
		n, err := d.r.Read(in)
		out := d.filter(p[:0], in[:n])
		if len(out) > 0 || err != nil {
			return len(out), err
		}
	}
	return 0, io.EOF
}

// filter appends keys to out without the escape sequences.
func (d *detachable) filter(out, keys []byte) []byte {
	for _, k := range keys {
		switch {
		case !d.escaped && k == escapeKey:
			d.escaped = true
			continue
		case d.escaped && k == detachKey:
			d.done = true
			return out
		case d.escaped && k != escapeKey:
			out = append(out, escapeKey) // It was no escape after all.
		}
		d.escaped = false
		out = append(out, k)
	}
	return out
}
