package files

import (
	"bytes"
	"errors"
	"io"
	"os"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
)

// A part is where a file has data.
type part struct{ at, size int64 }

// parts calls fn for each part of a file that has data, until it fails.
func parts(f *os.File, size int64, fn func(part) error) error {
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && from >= size {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			return os.NewSyscallError("lseek", err)
		}
		at = min(at, size)
		if err := fn(part{from, at - from}); err != nil {
			return err
		}
	}
	return nil
}

// regular returns the size of r if it is a file of this host that can have
// holes.
func regular(r io.Reader) (f *os.File, size int64, ok bool) {
	f, ok = r.(*os.File)
	if !ok {
		return nil, 0, false
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, 0, false
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != 0 {
		return nil, 0, false // The rest of it only is meant.
	}
	return f, info.Size(), true
}

// send writes what r holds to a new file. Of a file of this host it sends the
// data, and leaves its holes.
func send(to *sftp.File, r io.Reader, m *kit.Meter) error {
	f, size, ok := regular(r)
	if !ok {
		_, err := to.ReadFrom(measured(m, r, -1))
		return err
	}
	end := int64(0)
	err := parts(f, size, func(p part) error {
		if _, err := to.Seek(p.at, io.SeekStart); err != nil {
			return err
		}
		m.Skip(p.at - end)
		n, err := to.ReadFrom(measured(m, io.NewSectionReader(f, p.at, p.size), p.size))
		end = p.at + n
		if err == nil && n < p.size {
			size = end // It became shorter meanwhile.
		}
		return err
	})
	if err == nil && end < size {
		m.Skip(size - end)
		err = to.Truncate(size)
	}
	return err
}

// A sized reader says how much it has, from which SFTP knows how much to have
// under way at a time.
type sized struct {
	io.Reader

	size int64
}

// Size returns how much there is, -1 if nobody knows.
func (s sized) Size() int64 { return s.size }

// measured returns r, of a size that can be -1, with a meter.
func measured(m *kit.Meter, r io.Reader, size int64) io.Reader {
	return sized{m.Reader(r), size}
}

// page is how much of zeros becomes a hole.
const page = 4096

// A digger writes to a file that is empty, and leaves holes where pages of
// zeros would be.
type digger struct {
	f  *os.File
	at int64
}

// newDigger returns what leaves holes in w if that is a file that can have
// some, and w otherwise.
func newDigger(w io.Writer) (out io.Writer, finish func() error) {
	f, ok := w.(*os.File)
	if !ok {
		return w, func() error { return nil }
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != 0 || isAppending(f) {
		return w, func() error { return nil }
	}
	d := &digger{f: f}
	return d, d.finish
}

// isAppending reports whether all writes to a file go to its end.
func isAppending(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err != nil || flags&unix.O_APPEND != 0
}

var zeros [page]byte

// Write implements [io.Writer].
func (d *digger) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := d.run(p[done:], true)
		d.at += int64(n)
		done += n
		n = d.run(p[done:], false)
		if _, err := d.f.WriteAt(p[done:done+n], d.at); err != nil {
			return done, err
		}
		d.at += int64(n)
		done += n
	}
	return done, nil
}

// run returns how much p begins with of pages that are all zeros, or of others.
func (d *digger) run(p []byte, empty bool) int { //nolint:revive // Not exported.
	n := 0
	for n < len(p) {
		end := min(len(p), n+page-int((d.at+int64(n))%page))
		if bytes.Equal(p[n:end], zeros[:end-n]) != empty {
			break
		}
		n = end
	}
	return n
}

// finish gives the file its length, which can end in a hole.
func (d *digger) finish() error {
	if err := d.f.Truncate(d.at); err != nil {
		return err
	}
	_, err := d.f.Seek(d.at, io.SeekStart) // As if all had been written.
	return err
}

// receive copies what f holds to w, with holes where it has pages of zeros.
func receive(w io.Writer, f *sftp.File, m *kit.Meter) error {
	out, finish := newDigger(w)
	if _, err := f.WriteTo(m.Writer(out)); err != nil {
		return err
	}
	return finish()
}
