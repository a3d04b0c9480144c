package overlay

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// A stream is a magic, a header, and the directories that it says will come,
// each as a tree on the wire: the layers, the undermost first, and then what
// the state has on top of them.
const (
	streamMagic = "cuib-overlay\x00\x01\n"
	maxHeader   = 1 << 18
	maxLayers   = 400 // The kernel stacks 500.
)

// A header says what a state is made of.
type header struct {
	Base   []string // The layers of the state that it builds on, the undermost first.
	Topped bool     // That has something on top of them.
	Layers []string // Its own layers. Those that Base has too do not come.
	Upper  bool     // Something on top of them comes.
}

func (h header) write(w io.Writer) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32([]byte(streamMagic), uint32(len(text))) //nolint:gosec // A few KiB.
	_, err = w.Write(append(head, text...))
	return err
}

func readHeader(r io.Reader) (h header, err error) {
	head := make([]byte, len(streamMagic)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return h, cutOff(err)
	}
	if string(head[:len(streamMagic)]) != streamMagic {
		return h, errs.Invalidf("bad stream: it is not one of overlay")
	}
	size := binary.BigEndian.Uint32(head[len(streamMagic):])
	if size > maxHeader {
		return h, errs.Invalidf("bad stream: a header of %d bytes", size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, cutOff(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return h, errs.Newf(errs.Invalid, "bad stream: %w", err)
	}
	return h, h.check()
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.Invalidf("bad stream: it is cut off")
	}
	return err
}

func (h header) check() error {
	for _, ids := range [][]string{h.Base, h.Layers} {
		if len(ids) > maxLayers {
			return errs.Invalidf("bad stream: %d layers, at most %d are allowed", len(ids), maxLayers)
		}
		for i, id := range ids {
			if !isID(id) || slices.Contains(ids[:i], id) {
				return errs.Invalidf("bad stream: bad layer %q", id)
			}
		}
	}
	if n := h.common(); slices.ContainsFunc(h.Layers[n:], func(id string) bool { return slices.Contains(h.Base, id) }) {
		return errs.Invalidf("bad stream: a layer is above what it does not belong on")
	}
	if len(h.Layers) == 0 && !h.Upper {
		return errs.Invalidf("bad stream: it is of nothing")
	}
	return nil
}

// common returns how many layers a state shares with that which it builds on.
func (h header) common() int {
	n := 0
	for n < min(len(h.Base), len(h.Layers)) && h.Base[n] == h.Layers[n] {
		n++
	}
	return n
}

func isID(id string) bool {
	return len(id) > 0 && len(id) <= 64 && strings.Trim(id, "0123456789abcdef") == ""
}

// sendXattr says which extended attributes of a layer are sent: of those of
// overlayfs only what a directory hides or is a new name of. The others are
// about other files of the same file system.
func sendXattr(path, name string) bool {
	if !strings.HasPrefix(name, overlayAttrs) {
		return true
	}
	return path != "." && (name == opaqueAttr || name == redirectAttr)
}

const overlayAttrs = "trusted.overlay."

// checkXattr refuses what sendXattr does not let pass, and values that the
// kernel does not write.
func checkXattr(path, name, value string) error {
	switch {
	case !sendXattr(path, name):
		return errs.Invalidf("bad stream: extended attribute %q", name)
	case name == opaqueAttr && value != "y" && value != "x",
		name == redirectAttr && !isRedirect(value):
		return errs.Invalidf("bad stream: extended attribute %s=%q", name, value)
	}
	return nil
}

func isRedirect(to string) bool {
	parts := strings.Split(strings.TrimPrefix(to, "/"), "/")
	if len(parts) > 1 && !strings.HasPrefix(to, "/") || len(to) >= unix.PathMax || strings.ContainsRune(to, 0) {
		return false
	}
	return !slices.ContainsFunc(parts, func(p string) bool { return p == "" || p == "." || p == ".." })
}

// A summing reader sums up what is read, which names the layer.
type summing struct {
	r   *bufio.Reader
	sum hash.Hash
	one [1]byte
}

func newSumming(r *bufio.Reader, below string) *summing {
	s := &summing{r: r, sum: sha256.New()}
	_, _ = s.sum.Write([]byte(below + "\n")) // It never fails.
	return s
}

func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	_, _ = s.sum.Write(p[:n])
	return n, err
}

func (s *summing) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.one[0] = b
		_, _ = s.sum.Write(s.one[:])
	}
	return b, err
}

// id returns the name of the layer: it is the same for what is the same, and
// on top of the same.
func (s *summing) id() string { return hex.EncodeToString(s.sum.Sum(nil))[:32] }
