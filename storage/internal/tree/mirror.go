package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/crash"
)

// Options are how a tree is copied. The zero value is ready to use.
type Options struct {
	// Progress is called with the number of bytes each time that some were
	// copied, if it is not nil; also by several goroutines at once.
	Progress func(bytes int64)

	// Checksum has [Options.Mirror] compare the contents of files of the same
	// size and time too.
	Checksum bool

	// Before is an earlier state of the source, which the copy is equal to,
	// if it is not empty. Files that look alike are compared then, unless
	// it is known that nobody touched them.
	Before string
}

// Mirror makes the directory dst what src is. It touches what differs only;
// of large files the parts that do.
func (o Options) Mirror(ctx context.Context, dst, src string) error {
	to, err := openDir(unix.AT_FDCWD, dst)
	if err != nil {
		return err
	}
	defer to.Close()
	from, err := openDir(unix.AT_FDCWD, src)
	if err != nil {
		return err
	}
	defer from.Close()
	var before *os.File
	if o.Before != "" {
		if before, err = openDir(unix.AT_FDCWD, o.Before); err != nil {
			return err
		}
		defer before.Close()
	}
	m := &mirror{
		copier: newCopier(to, o.Progress), o: o,
		links: map[inode]string{}, taken: map[inode]inode{}, groups: map[inode][]string{},
	}
	if err := m.dir(ctx, places{to, from, before}, ""); err != nil {
		return fmt.Errorf("mirror %s: %w", src, err)
	}
	if err := m.relink(); err != nil {
		return fmt.Errorf("mirror %s: %w", src, err)
	}
	return m.attrs(dst, src)
}

// A mirror makes one tree like another.
type mirror struct {
	*copier

	o      Options
	links  map[inode]string   // The first name of a file with several.
	taken  map[inode]inode    // Which file of the source a file of the copy with several names is.
	groups map[inode][]string // The names of the source's files that have several.
}

// places are the same directory in the copy, in the source and, if it is
// there, in the earlier state of that.
type places struct{ to, from, before *os.File }

// dir makes a directory's contents alike. at is its path in the tree.
func (m *mirror) dir(ctx context.Context, p places, at string) error {
	names, err := p.from.Readdirnames(-1)
	if err != nil {
		return err
	}
	if err := m.prune(p.to, names); err != nil {
		return pathError("remove from", at, err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.entry(ctx, p, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

// prune removes what the source does not have from a directory.
func (m *mirror) prune(to *os.File, keep []string) error {
	have, err := to.Readdirnames(-1)
	if err != nil {
		return err
	}
	wanted := make(map[string]struct{}, len(keep))
	for _, name := range keep {
		wanted[name] = struct{}{}
	}
	for _, name := range have {
		if _, ok := wanted[name]; ok {
			continue
		}
		if err := Remove(procPath(to, name)); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirror) entry(ctx context.Context, p places, at string) error {
	crash.Within("a tree is made like another")
	name := path.Base(at)
	var st, have unix.Stat_t
	if err := unix.Fstatat(int(p.from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("stat", at, err)
	}
	err := unix.Fstatat(int(p.to.Fd()), name, &have, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return pathError("stat", at, err)
	}
	if err == nil && !sameKind(&st, &have) {
		err = unix.ENOENT
		if err := Remove(procPath(p.to, name)); err != nil {
			return pathError("remove", at, err)
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err != nil {
			if err := unix.Mkdirat(int(p.to.Fd()), name, 0o700); err != nil {
				return pathError("make", at, err)
			}
		}
		return m.sub(ctx, p, at)
	}
	if err != nil {
		return m.add(p, at, &st)
	}
	return m.update(p, at, &st, &have)
}

// sameKind reports whether one file can become the other without a new inode.
func sameKind(a, b *unix.Stat_t) bool {
	kind := a.Mode & unix.S_IFMT
	if kind != b.Mode&unix.S_IFMT {
		return false
	}
	return kind != unix.S_IFCHR && kind != unix.S_IFBLK || a.Rdev == b.Rdev
}

// sub makes a directory in the directory p alike.
func (m *mirror) sub(ctx context.Context, p places, at string) error {
	name := path.Base(at)
	if err := checkPath(at); err != nil {
		return err
	}
	from, err := openDir(int(p.from.Fd()), name)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openDir(int(p.to.Fd()), name)
	if err != nil {
		return err
	}
	defer to.Close()
	var before *os.File
	if p.before != nil {
		if before, err = openDir(int(p.before.Fd()), name); err == nil {
			defer before.Close()
		}
	}
	if err := m.dir(ctx, places{to, from, before}, at); err != nil {
		return err
	}
	return pathError("copy attributes of", at, m.attrs(procPath(p.to, name), procPath(p.from, name)))
}

// add copies what the copy does not have, which is no directory.
func (m *mirror) add(p places, at string, st *unix.Stat_t) error {
	first, linked := m.group(at, st)
	if linked {
		return pathError("link", at, unix.Linkat(int(m.root.Fd()), first, int(p.to.Fd()), path.Base(at), 0))
	}
	name := path.Base(at)
	return pathError("copy", at, m.leaf(p.to, p.from, names{name, name}, st))
}

// group notes a name of a file with several. If it is not the first of them
// that one is returned.
func (m *mirror) group(at string, st *unix.Stat_t) (first string, ok bool) {
	if st.Nlink == 1 {
		return "", false
	}
	id := inode{st.Dev, st.Ino}
	m.groups[id] = append(m.groups[id], at)
	if first, ok = m.links[id]; !ok {
		m.links[id] = at
	}
	return first, ok
}

// update makes what the copy has like what the source has, neither of which
// is a directory.
func (m *mirror) update(p places, at string, st, have *unix.Stat_t) error {
	name := path.Base(at)
	if first, linked := m.group(at, st); linked {
		var other unix.Stat_t
		if err := unix.Fstatat(int(m.root.Fd()), first, &other, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return pathError("stat", first, err)
		}
		if other.Dev == have.Dev && other.Ino == have.Ino {
			return nil
		}
		return pathError("link", at, replaceByLink(m.root, first, at))
	}
	same := m.mine(st, have)
	if same {
		var err error
		if same, err = m.contents(p, name, st, have); err != nil {
			return pathError("copy", at, err)
		}
	}
	if same {
		return pathError("copy attributes of", at, m.attrs(procPath(p.to, name), procPath(p.from, name)))
	}
	if err := unix.Unlinkat(int(p.to.Fd()), name, 0); err != nil {
		return pathError("remove", at, err)
	}
	return pathError("copy", at, m.leaf(p.to, p.from, names{name, name}, st))
}

// mine reports whether a file of the copy is nobody else's than that of the
// source with the same name.
func (m *mirror) mine(st, have *unix.Stat_t) bool {
	if have.Nlink == 1 {
		return true
	}
	if st.Nlink == 1 {
		return false
	}
	id, other := inode{have.Dev, have.Ino}, inode{st.Dev, st.Ino}
	if owner, ok := m.taken[id]; ok {
		return owner == other
	}
	m.taken[id] = other
	return true
}

// contents makes the contents of a file alike. It reports whether they are:
// otherwise a new file is to be made.
func (m *mirror) contents(p places, name string, st, have *unix.Stat_t) (bool, error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		a, err := readlink(p.from, name)
		if err != nil {
			return false, err
		}
		b, err := readlink(p.to, name)
		return a == b, err
	case unix.S_IFREG:
		alike := st.Size == have.Size && st.Mtim == have.Mtim
		if alike && !m.o.Checksum && (p.before == nil && m.o.Before == "" || untouched(p.before, name, st)) {
			return true, nil
		}
		if st.Size < inPlace {
			if !alike {
				return false, nil
			}
		}
		return m.patch(p, name, st.Size)
	}
	return true, nil
}

// inPlace is how large a file is at least of which only the blocks that differ
// are written, so that the others stay shared with snapshots.
const inPlace = 1 << 20

// untouched reports whether a file of the source is as it was in the earlier
// state: whatever changes it, changes its ctime.
func untouched(before *os.File, name string, st *unix.Stat_t) bool {
	var old unix.Stat_t
	if before == nil || unix.Fstatat(int(before.Fd()), name, &old, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return false
	}
	return old.Ino == st.Ino && old.Ctim == st.Ctim && old.Size == st.Size
}

func readlink(dir *os.File, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
	return string(buf[:max(n, 0)]), err
}

// patch writes the blocks of a file that differ.
func (m *mirror) patch(p places, name string, size int64) (same bool, err error) {
	in, err := openAt(p.from, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer in.Close()
	out, err := openAt(p.to, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer out.Close()
	w := &patcher{dir: p.to, name: name, progress: m.progress}
	if err := w.run(out, in, size); err != nil {
		return false, errors.Join(err, w.close())
	}
	return true, w.close()
}

// A patcher opens a file to write to it when something has to be written:
// that alone makes overlayfs copy it.
type patcher struct {
	dir      *os.File
	name     string
	f        *os.File
	progress func(int64)
}

func (w *patcher) open() (*os.File, error) {
	if w.f != nil {
		return w.f, nil
	}
	f, err := openAt(w.dir, w.name, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	w.f = f
	return f, err
}

func (w *patcher) close() error {
	if w.f == nil {
		return nil
	}
	return w.f.Close()
}

func (w *patcher) run(out, in *os.File, size int64) error {
	st, err := out.Stat()
	if err != nil {
		return err
	}
	if st.Size() != size {
		f, err := w.open()
		if err != nil {
			return err
		}
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	a, b := getChunk(), getChunk()
	defer chunks.Put(a)
	defer chunks.Put(b)
	for at := int64(0); at < size; {
		next, err := skipHoles(out, in, at, size)
		if err != nil {
			return err
		}
		if next > at {
			at = next
			continue
		}
		n, err := in.ReadAt(a[:min(chunk, size-at)], at)
		if n == 0 && errors.Is(err, io.EOF) {
			return nil // It became shorter.
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := w.blocks(out, a[:n], b[:], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// skipHoles returns where the next data of either file is.
func skipHoles(out, in *os.File, at, size int64) (int64, error) {
	next := size
	for _, f := range []*os.File{out, in} {
		pos, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return 0, err
		}
		next = min(next, pos)
	}
	return next, nil
}

// blocks writes those blocks of data that differ from what is there.
func (w *patcher) blocks(out *os.File, data, buf []byte, at int64) error {
	n, err := out.ReadAt(buf[:len(data)], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(buf[n:len(data)])
	if bytes.Equal(data, buf[:len(data)]) {
		return nil
	}
	f, err := w.open()
	if err != nil {
		return err
	}
	for from := 0; from < len(data); from += block {
		to := min(from+block, len(data))
		if bytes.Equal(data[from:to], buf[from:to]) {
			continue
		}
		if err := w.block(f, data[from:to], at+int64(from)); err != nil {
			return err
		}
	}
	return nil
}

// block writes a block, or makes a hole where it is empty.
func (w *patcher) block(f *os.File, data []byte, at int64) error {
	if isEmpty(data) {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, int64(len(data)))
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	if w.progress != nil {
		w.progress(int64(len(data)))
	}
	_, err := f.WriteAt(data, at)
	return err
}

// attrs makes the attributes of a file alike, if they are not.
func (m *mirror) attrs(dst, src string) error {
	var want, have unix.Stat_t
	if err := errors.Join(unix.Lstat(src, &want), unix.Lstat(dst, &have)); err != nil {
		return err
	}
	xattrs, err := Xattrs(src)
	if err != nil {
		return err
	}
	old, err := Xattrs(dst)
	if err != nil {
		return err
	}
	if want.Mode == have.Mode && want.Uid == have.Uid && want.Gid == have.Gid && want.Mtim == have.Mtim && maps.Equal(xattrs, old) {
		return nil
	}
	for name := range old {
		if _, ok := xattrs[name]; ok || ofPlace(name) {
			continue
		}
		if err := unix.Lremovexattr(dst, name); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return copyAttrs(dst, src, &want)
}

// relink sees to it that files with several names still are one file: some
// file systems part the names when one is written to.
func (m *mirror) relink() error {
	for _, all := range m.groups {
		var first, other unix.Stat_t
		if err := unix.Fstatat(int(m.root.Fd()), all[0], &first, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return pathError("stat", all[0], err)
		}
		for _, name := range all[1:] {
			if err := unix.Fstatat(int(m.root.Fd()), name, &other, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return pathError("stat", name, err)
			}
			if other.Ino == first.Ino && other.Dev == first.Dev {
				continue
			}
			if err := m.relinkOne(all[0], name); err != nil {
				return pathError("link", name, err)
			}
		}
	}
	return nil
}

// relinkOne keeps the time of the directory, which was set already.
func (m *mirror) relinkOne(first, name string) error {
	dir := path.Dir(name)
	var st unix.Stat_t
	if err := unix.Fstatat(int(m.root.Fd()), dir, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := replaceByLink(m.root, first, name); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(m.root.Fd()), dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// replaceByLink makes a name one more of the file first.
func replaceByLink(root *os.File, first, name string) error {
	if err := unix.Unlinkat(int(root.Fd()), name, 0); err != nil {
		return err
	}
	return unix.Linkat(int(root.Fd()), first, int(root.Fd()), name, 0)
}
