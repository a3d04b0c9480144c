package tree

import (
	"encoding/binary"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// A tree on the wire is a sequence of records. Each begins with its kind and
// a path; numbers are varints, and texts come after their length. Directories
// come before what is in them, and their attributes after it.
const (
	recordDir    = 'd' // Is a directory: it is made, or kept.
	recordAttrs  = 'a' // Attributes of a directory.
	recordFile   = 'f' // Attributes, size, extents: length, offset, data; a length of 0.
	recordLink   = 'l' // Attributes, target.
	recordOther  = 's' // Attributes, device.
	recordHard   = 'h' // The path of the file that it is one more name of.
	recordRemove = 'r'
	recordEnd    = 'e' // Has no path.
)

// What one reads at most.
const (
	maxExtent    = 1 << 20
	maxXattrs    = 1 << 12
	maxXattrName = 255
	maxXattr     = 1 << 16
	maxTarget    = unix.PathMax
)

// attributes are what all files have.
type attributes struct {
	mode     uint32
	uid, gid uint32
	mtime    unix.Timespec
	xattrs   map[string]string
}

func attributesOf(st *unix.Stat_t, xattrs map[string]string) attributes {
	return attributes{mode: st.Mode, uid: st.Uid, gid: st.Gid, mtime: st.Mtim, xattrs: xattrs}
}

// A Reader is what a tree is read from, no further than to its end.
type Reader interface {
	io.Reader
	io.ByteReader
}

// A decoder reads the parts of records. The first error stays.
type decoder struct {
	r   Reader
	err error
}

func (d *decoder) fail(err error) {
	if d.err != nil || err == nil {
		return
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errs.Invalidf("bad stream: it is cut off")
	}
	d.err = err
}

func (d *decoder) byte() byte {
	if d.err != nil {
		return 0
	}
	b, err := d.r.ReadByte()
	d.fail(err)
	return b
}

// number reads a number that is limit at most.
func (d *decoder) number(limit uint64) uint64 {
	var n uint64
	for shift := 0; d.err == nil; shift += 7 {
		b := d.byte()
		if shift == 63 && b > 1 {
			d.fail(errs.Invalidf("bad stream: a number is too large"))
			break
		}
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	if d.err == nil && n > limit {
		d.fail(errs.Invalidf("bad stream: a number is %d, at most %d is allowed", n, limit))
	}
	if d.err != nil {
		return 0
	}
	return n
}

func (d *decoder) text(limit uint64) string {
	n := d.number(limit)
	if d.err != nil {
		return ""
	}
	buf := make([]byte, n)
	_, err := io.ReadFull(d.r, buf)
	d.fail(err)
	return string(buf)
}

// path reads a path that leads to what is in the tree.
func (d *decoder) path() string {
	p := d.text(unix.PathMax)
	if d.err != nil {
		return ""
	}
	if p != path.Clean(p) || strings.HasPrefix(p, "/") || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
		d.fail(errs.Invalidf("bad stream: bad path %q", p))
		return ""
	}
	return p
}

func (d *decoder) attributes() attributes {
	const max32 = 1<<32 - 1
	a := attributes{mode: uint32(d.number(max32)), uid: uint32(d.number(max32)), gid: uint32(d.number(max32))}
	sec := d.number(1<<64 - 1)
	a.mtime = unix.Timespec{Sec: int64(sec>>1) ^ -int64(sec&1), Nsec: int64(d.number(1e9 - 1))} //nolint:gosec // It is written so.
	for range d.number(maxXattrs) {
		name := d.text(maxXattrName)
		value := d.text(maxXattr)
		if d.err != nil {
			break
		}
		if name == "" || strings.ContainsRune(name, 0) {
			d.fail(errs.Invalidf("bad stream: bad name %q of an attribute", name))
		}
		if a.xattrs == nil {
			a.xattrs = map[string]string{}
		}
		a.xattrs[name] = value
	}
	return a
}

// An encoder writes the parts of records.
type encoder struct{ buf []byte }

func (e *encoder) number(n uint64) { e.buf = binary.AppendUvarint(e.buf, n) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.buf = append(e.buf, s...)
}

func (e *encoder) begin(kind byte, at string) {
	e.buf = append(e.buf, kind)
	e.text(at)
}

func (e *encoder) attributes(a attributes) {
	for _, n := range []uint32{a.mode, a.uid, a.gid} {
		e.number(uint64(n))
	}
	e.number(uint64(a.mtime.Sec<<1) ^ uint64(a.mtime.Sec>>63)) //nolint:gosec // It is read so.
	e.number(uint64(a.mtime.Nsec))                             //nolint:gosec // It is not negative.
	e.number(uint64(len(a.xattrs)))
	names := make([]string, 0, len(a.xattrs))
	for name := range a.xattrs {
		names = append(names, name)
	}
	slices.Sort(names) // The same tree makes the same stream.
	for _, name := range names {
		e.text(name)
		e.text(a.xattrs[name])
	}
}
