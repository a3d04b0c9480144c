package transfer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// A stream between hosts is a magic and frames, each of which has a kind, a
// length and a body: a hello, then for each state its head, its data in as
// many frames as it takes, and an end; and an end of all.
const (
	magic     = "cuib-transfer\x00\x01\n"
	frameMax  = 1 << 20
	frameHead = 5

	frameHello = 'h'
	frameState = 's'
	frameData  = 'd'
	frameDone  = 'z'
	frameEnd   = 'e'
	frameError = 'x'
)

// maxSnapshots is how many snapshots a volume can come with.
const maxSnapshots = 10000

// A hello says what will come.
type hello struct {
	Format    string
	Snapshots []string
}

func (h hello) check() error {
	if len(h.Snapshots) > maxSnapshots {
		return errs.Invalidf("bad stream: %d snapshots, at most %d are allowed", len(h.Snapshots), maxSnapshots)
	}
	sorted := slices.Sorted(slices.Values(h.Snapshots))
	for i, name := range sorted {
		if name == "" || len(name) > 255 || storage.Hidden(name) || strings.ContainsAny(name, "/\x00") || i > 0 && sorted[i-1] == name {
			return errs.Invalidf("bad stream: bad name %q of a snapshot", name)
		}
	}
	return nil
}

// A stateHead says which state comes, and what it builds on.
type stateHead struct{ Snapshot, Base string }

// A frameWriter writes frames. As an io.Writer it writes those of data.
type frameWriter struct{ w io.Writer }

func (f frameWriter) frame(kind byte, body []byte) error {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))) //nolint:gosec // At most frameMax.
	if _, err := f.w.Write(head); err != nil {
		return err
	}
	if len(body) == 0 {
		return nil
	}
	_, err := f.w.Write(body)
	return err
}

func (f frameWriter) json(kind byte, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if len(text) > frameMax {
		return errs.Invalidf("a frame of %d bytes", len(text))
	}
	return f.frame(kind, text)
}

func (f frameWriter) Write(p []byte) (int, error) {
	n := 0
	for part := range slices.Chunk(p, frameMax) {
		if err := f.frame(frameData, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// A frameReader reads frames. As an io.Reader it reads those of the data of
// one state, to its end.
type frameReader struct {
	r    io.Reader
	left int // Of a frame of data.
	done bool
}

func (f *frameReader) begin() error {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f.r, head); err != nil {
		return cutOff(err)
	}
	if string(head) != magic {
		return errs.Invalidf("bad stream: it is not one of a volume")
	}
	return nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.Invalidf("bad stream: it is cut off")
	}
	return err
}

// next reads the head of a frame.
func (f *frameReader) next() (kind byte, size int, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return 0, 0, cutOff(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > frameMax {
		return 0, 0, errs.Invalidf("bad stream: a frame of %d bytes", n)
	}
	if head[0] == frameError {
		text := make([]byte, n)
		if _, err := io.ReadFull(f.r, text); err != nil {
			return 0, 0, cutOff(err)
		}
		return 0, 0, fmt.Errorf("the sender failed: %q", text)
	}
	return head[0], int(n), nil
}

// body reads a frame of a kind.
func (f *frameReader) body(want byte) ([]byte, error) {
	kind, size, err := f.next()
	if err != nil {
		return nil, err
	}
	if kind != want {
		return nil, errs.Invalidf("bad stream: a frame of kind %q, want %q", kind, want)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(f.r, text); err != nil {
		return nil, cutOff(err)
	}
	return text, nil
}

// json reads a frame of a kind into out.
func (f *frameReader) json(kind byte, out any) error {
	text, err := f.body(kind)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return errs.Newf(errs.Invalid, "bad stream: %w", err)
	}
	return nil
}

func (f *frameReader) Read(p []byte) (int, error) {
	for f.left == 0 {
		if f.done {
			return 0, io.EOF
		}
		kind, size, err := f.next()
		switch {
		case err != nil:
			return 0, err
		case kind == frameDone && size == 0:
			f.done = true
		case kind == frameData:
			f.left = size
		default:
			return 0, errs.Invalidf("bad stream: a frame of kind %q within data", kind)
		}
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	if n > 0 {
		return n, nil
	}
	return 0, cutOff(err)
}
