package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
)

// WriteOptions are how a tree is written. The zero value is ready to use.
type WriteOptions struct {
	// Before is an earlier state, if it is not empty: what did not change
	// since is left out.
	Before string

	// Xattr says of an extended attribute of the file at path whether it is
	// written; all are if it is nil.
	Xattr func(path, name string) bool
}

// Write writes the directory tree src for [Read], in records that are the
// same for the same tree.
func (o WriteOptions) Write(ctx context.Context, w io.Writer, src string) error {
	after, err := openDir(unix.AT_FDCWD, src)
	if err != nil {
		return err
	}
	defer after.Close()
	x := &writer{ctx: ctx, w: w, xattr: o.Xattr, links: map[inode]string{}}
	var before *os.File
	if o.Before != "" {
		if before, err = openDir(unix.AT_FDCWD, o.Before); err != nil {
			return err
		}
		defer before.Close()
		x.groups = map[inode]*linkGroup{}
		if err := x.collect(before, after, ""); err != nil {
			return err
		}
	}
	if err := rewind(after, before); err != nil {
		return err
	}
	if _, err := x.dir(before, after, ""); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(after.Fd()), &st); err != nil {
		return err
	}
	if err := x.attrs(after, ".", ".", &st); err != nil {
		return err
	}
	x.enc.buf = append(x.enc.buf, recordEnd)
	return x.flush(0)
}

func rewind(dirs ...*os.File) error {
	for _, d := range dirs {
		if d == nil {
			continue
		}
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// A writer writes one tree.
type writer struct {
	ctx    context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	w      io.Writer
	enc    encoder
	data   []byte
	xattr  func(path, name string) bool
	links  map[inode]string     // The first name of files that have several.
	groups map[inode]*linkGroup // If there is an earlier state.
}

// A linkGroup is a file with several names.
type linkGroup struct {
	names   uint64
	was     inode // The file that had the first name.
	changed bool  // Not all was as it is.
}

// flush writes what was encoded if that is more than some bytes.
func (w *writer) flush(more int) error {
	crash.Within("a tree is sent")
	if len(w.enc.buf) <= more {
		return nil
	}
	_, err := w.w.Write(w.enc.buf)
	w.enc.buf = w.enc.buf[:0]
	return err
}

const flushAt = 64 << 10

// sorted returns the entries of a directory; none if it is nil.
func sorted(dir *os.File) (map[string]*unix.Stat_t, []string, error) {
	all, err := statAll(dir)
	if err != nil {
		return nil, nil, err
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return all, names, nil
}

// collect finds the files with several names, and whether they changed: all
// names of one that did are written.
func (w *writer) collect(before, after *os.File, at string) error {
	old, err := statAll(before)
	if err != nil {
		return pathError("read", at, err)
	}
	now, names, err := sorted(after)
	if err != nil {
		return pathError("read", at, err)
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		st, was := now[name], old[name]
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = w.within(before, after, path.Join(at, name), was, w.collect)
		case st.Nlink > 1:
			err = w.member(before, after, name, was, st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// within calls fn with a directory in another, before and after.
func (w *writer) within(before, after *os.File, at string, was *unix.Stat_t, fn func(before, after *os.File, at string) error) error {
	if err := checkPath(at); err != nil {
		return err
	}
	name := path.Base(at)
	sub, err := openDir(int(after.Fd()), name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if was == nil || was.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fn(nil, sub, at)
	}
	old, err := openDir(int(before.Fd()), name)
	if err != nil {
		return err
	}
	defer old.Close()
	return fn(old, sub, at)
}

func (w *writer) member(before, after *os.File, name string, was, st *unix.Stat_t) error {
	id := inode{st.Dev, st.Ino}
	g := w.groups[id]
	if g == nil {
		g = &linkGroup{}
		w.groups[id] = g
		if was != nil {
			g.was = inode{was.Dev, was.Ino}
		}
	}
	g.names++
	if g.changed {
		return nil
	}
	if was == nil || g.was != (inode{was.Dev, was.Ino}) || was.Nlink != st.Nlink {
		g.changed = true
		return nil
	}
	if g.names > 1 {
		return nil
	}
	same, err := unchanged(before, after, name, was, st)
	g.changed = !same
	return err
}

// unchanged is alike that believes only the ctime of the same inode.
func unchanged(before, after *os.File, name string, was, st *unix.Stat_t) (bool, error) {
	if was.Mode != st.Mode {
		return false, nil
	}
	same, err := alike(before, after, name, was, st)
	if err != nil || !same || was.Ino == st.Ino {
		return same, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return was.Mtim == st.Mtim, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return true, nil
	}
	return sameContents(before, after, name)
}

// dir writes what is in a directory, and reports whether that was anything.
func (w *writer) dir(before, after *os.File, at string) (wrote bool, err error) {
	old, gone, err := sorted(before)
	if err != nil {
		return false, pathError("read", at, err)
	}
	now, names, err := sorted(after)
	if err != nil {
		return false, pathError("read", at, err)
	}
	for _, name := range gone {
		if _, ok := now[name]; !ok {
			w.enc.begin(recordRemove, path.Join(at, name))
			wrote = true
		}
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return false, err
		}
		some, err := w.entry(before, after, path.Join(at, name), old[name], now[name])
		if err != nil {
			return false, pathError("send", path.Join(at, name), err)
		}
		wrote = wrote || some
		if err := w.flush(flushAt); err != nil {
			return false, err
		}
	}
	return wrote, nil
}

func (w *writer) entry(before, after *os.File, at string, was, st *unix.Stat_t) (wrote bool, err error) {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return w.sub(before, after, at, was, st)
	}
	name := path.Base(at)
	changed := true
	if g := w.groups[inode{st.Dev, st.Ino}]; g != nil && st.Nlink > 1 {
		changed = g.changed || g.names != st.Nlink
	} else if was != nil {
		same, err := unchanged(before, after, name, was, st)
		if err != nil {
			return false, err
		}
		changed = !same || was.Nlink != st.Nlink
	}
	if !changed {
		return false, nil
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := w.links[id]; ok {
			w.enc.begin(recordHard, at)
			w.enc.text(first)
			return true, nil
		}
		w.links[id] = at
	}
	return true, w.leaf(after, at, st)
}

// sub writes a directory with all in it.
func (w *writer) sub(before, after *os.File, at string, was, st *unix.Stat_t) (wrote bool, err error) {
	isNew := was == nil || was.Mode&unix.S_IFMT != unix.S_IFDIR
	if isNew {
		w.enc.begin(recordDir, at)
	}
	err = w.within(before, after, at, was, func(before, after *os.File, at string) (err error) {
		wrote, err = w.dir(before, after, at)
		return err
	})
	if err != nil {
		return false, err
	}
	name := path.Base(at)
	if !isNew && !wrote {
		same, err := alike(before, after, name, was, st)
		if err != nil || same && was.Mtim == st.Mtim {
			return false, err
		}
	}
	return true, w.attrs(after, name, at, st)
}

// attrs writes the attributes of a directory.
func (w *writer) attrs(dir *os.File, name, at string, st *unix.Stat_t) error {
	xattrs, err := w.xattrs(dir, name, at)
	if err != nil {
		return err
	}
	w.enc.begin(recordAttrs, at)
	w.enc.attributes(attributesOf(st, xattrs))
	return nil
}

func (w *writer) xattrs(dir *os.File, name, at string) (map[string]string, error) {
	all, err := Xattrs(procPath(dir, name))
	if w.xattr != nil {
		for name := range all {
			if !w.xattr(at, name) {
				delete(all, name)
			}
		}
	}
	return all, err
}

// leaf writes what is no directory.
func (w *writer) leaf(dir *os.File, at string, st *unix.Stat_t) error {
	name := path.Base(at)
	xattrs, err := w.xattrs(dir, name, at)
	if err != nil {
		return err
	}
	a := attributesOf(st, xattrs)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		w.enc.begin(recordFile, at)
		w.enc.attributes(a)
		w.enc.number(uint64(st.Size)) //nolint:gosec // It is not negative.
		return w.file(dir, name, st.Size)
	case unix.S_IFLNK:
		target, err := readlink(dir, name)
		if err != nil {
			return err
		}
		w.enc.begin(recordLink, at)
		w.enc.attributes(a)
		w.enc.text(target)
	default:
		w.enc.begin(recordOther, at)
		w.enc.attributes(a)
		w.enc.number(st.Rdev)
	}
	return nil
}

// file writes the data of a file, without its holes.
func (w *writer) file(dir *os.File, name string, size int64) error {
	if size == 0 {
		w.enc.number(0)
		return nil
	}
	f, err := openAt(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for at := int64(0); at < size; {
		start, end, err := nextData(f, at, size)
		if err != nil {
			return err
		}
		for at = start; at < end; {
			n, err := w.extent(f, at, min(end-at, chunk))
			if err != nil {
				return err
			}
			at += n
		}
		at = end
	}
	w.enc.number(0)
	return nil
}

// nextData returns where the next data in a file is; both are size if there is
// none.
func nextData(f *os.File, at, size int64) (start, end int64, err error) {
	start, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	end, err = unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	return min(start, size), min(end, size), err
}

func (w *writer) extent(f *os.File, at, size int64) (int64, error) {
	if w.data == nil {
		w.data = make([]byte, chunk)
	}
	n, err := f.ReadAt(w.data[:size], at)
	if n == 0 && errors.Is(err, io.EOF) {
		return 0, errs.Conflictf("it became shorter while it was read")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	w.enc.number(uint64(n))
	w.enc.number(uint64(at)) //nolint:gosec // It is not negative.
	if n <= smallExtent {
		w.enc.buf = append(w.enc.buf, w.data[:n]...)
		return int64(n), w.flush(flushAt)
	}
	if err := w.flush(0); err != nil {
		return 0, err
	}
	_, err = w.w.Write(w.data[:n])
	return int64(n), err
}

// smallExtent is how much data is written together with other records.
const smallExtent = 16 << 10
