package tree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage"
)

// Diff calls fn with each change from the directory tree a to b, which may be
// in use: what goes away meanwhile is left out. A directory counts as
// modified if it is itself, not because of what is in it.
func Diff(ctx context.Context, a, b string, fn func(storage.Change) error) error {
	return openBoth(a, b, func(before, after *os.File) error {
		d := differ{ctx: ctx, fn: fn}
		if err := d.root(before, after); err != nil {
			return err
		}
		return d.dir(before, after, "")
	})
}

// openBoth calls fn with two directories.
func openBoth(a, b string, fn func(a, b *os.File) error) error {
	before, err := openDir(unix.AT_FDCWD, a)
	if err != nil {
		return err
	}
	defer before.Close()
	after, err := openDir(unix.AT_FDCWD, b)
	if err != nil {
		return err
	}
	defer after.Close()
	return fn(before, after)
}

type differ struct {
	ctx     context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	fn      func(storage.Change) error
	shallow bool // What is in directories that were there is not looked at.
}

// root compares the tree's roots themselves.
func (d differ) root(before, after *os.File) error {
	var was, st unix.Stat_t
	if err := errors.Join(unix.Fstat(int(before.Fd()), &was), unix.Fstat(int(after.Fd()), &st)); err != nil {
		return err
	}
	same, err := alike(before, after, ".", &was, &st)
	if err != nil || same {
		return err
	}
	return d.fn(storage.Change{Op: storage.Modified, Path: ".", Mode: FileMode(&st)})
}

// dir compares directories; one of them may be nil.
func (d differ) dir(before, after *os.File, at string) error {
	old, err := statAll(before)
	if err != nil {
		return pathError("read", at, err)
	}
	now, err := statAll(after)
	if err != nil {
		return pathError("read", at, err)
	}
	for name, st := range now {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		was, ok := old[name]
		if !ok {
			was = nil
		}
		if err := d.entry(before, after, path.Join(at, name), was, st); err != nil {
			return err
		}
	}
	for name, was := range old {
		if _, ok := now[name]; ok {
			continue
		}
		if err := d.entry(before, nil, path.Join(at, name), was, nil); err != nil {
			return err
		}
	}
	return nil
}

// statAll returns the entries of a directory.
func statAll(dir *os.File) (map[string]*unix.Stat_t, error) {
	if dir == nil {
		return nil, nil //nolint:nilnil // A nil map is empty.
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[string]*unix.Stat_t, len(names))
	for _, name := range names {
		st := &unix.Stat_t{}
		err := unix.Fstatat(int(dir.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[name] = st
	}
	return all, nil
}

// entry compares what has the same name; one of both may be nil.
func (d differ) entry(before, after *os.File, at string, was, st *unix.Stat_t) error {
	if was != nil && st != nil && (was.Mode^st.Mode)&unix.S_IFMT != 0 {
		if err := d.entry(before, nil, at, was, nil); err != nil {
			return err
		}
		was = nil
	}
	change, err := changeOf(before, after, at, was, st)
	if err != nil {
		return pathError("compare", at, err)
	}
	if change.Op != "" {
		if err := d.fn(change); err != nil {
			return err
		}
	}
	if !change.Mode.IsDir() || d.shallow && was != nil && st != nil {
		return nil
	}
	return d.sub(before, after, at, was, st)
}

// changeOf returns what happened to a file; a change without Op if nothing.
func changeOf(before, after *os.File, at string, was, st *unix.Stat_t) (storage.Change, error) {
	switch {
	case was == nil:
		return storage.Change{Op: storage.Added, Path: at, Mode: FileMode(st)}, nil
	case st == nil:
		return storage.Change{Op: storage.Removed, Path: at, Mode: FileMode(was)}, nil
	}
	change := storage.Change{Op: storage.Modified, Path: at, Mode: FileMode(st)}
	same, err := alike(before, after, path.Base(at), was, st)
	if same {
		change.Op = ""
	}
	if errors.Is(err, unix.ENOENT) { // It went away.
		err = nil
	}
	return change, err
}

// sub compares the contents of directories.
func (d differ) sub(before, after *os.File, at string, was, st *unix.Stat_t) error {
	if err := checkPath(at); err != nil {
		return err
	}
	name := path.Base(at)
	a, err := subOf(before, name, was)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := subOf(after, name, st)
	if err != nil {
		return err
	}
	defer b.Close()
	return d.dir(a, b, at)
}

// subOf opens a directory in another; nil if it is not there.
func subOf(dir *os.File, name string, st *unix.Stat_t) (*os.File, error) {
	if st == nil {
		return nil, nil //nolint:nilnil // A nil file is no directory.
	}
	sub, err := openDir(int(dir.Fd()), name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil //nolint:nilnil // It went away.
	}
	return sub, err
}

// alike reports whether a file is as it was. Of a directory the time does not
// count.
func alike(before, after *os.File, name string, was, st *unix.Stat_t) (bool, error) {
	kind := st.Mode & unix.S_IFMT
	if !sameOwner(was, st) {
		return false, nil
	}
	if kind != unix.S_IFDIR && kind != unix.S_IFLNK && !sameData(was, st) {
		return false, nil
	}
	sameInode := was.Ino == st.Ino // Be it of another snapshot.
	if sameInode && was.Ctim == st.Ctim {
		return true, nil
	}
	if kind == unix.S_IFLNK {
		if same, err := sameTarget(before, after, name); err != nil || !same {
			return false, err
		}
	}
	same, err := sameXattrs(procPath(before, name), procPath(after, name))
	if err == nil && same && sameInode && kind == unix.S_IFREG {
		return sameContents(before, after, name)
	}
	return same, err
}

func sameTarget(before, after *os.File, name string) (bool, error) {
	a, err := readlink(before, name)
	b, err2 := readlink(after, name)
	return a == b, errors.Join(err, err2)
}

func sameOwner(was, st *unix.Stat_t) bool {
	return was.Mode == st.Mode && was.Uid == st.Uid && was.Gid == st.Gid
}

// sameData reports whether a file's data looks as it did.
func sameData(was, st *unix.Stat_t) bool {
	return was.Size == st.Size && was.Mtim == st.Mtim && was.Rdev == st.Rdev
}

func sameXattrs(a, b string) (bool, error) {
	n, err := unix.Llistxattr(a, nil)
	m, err2 := unix.Llistxattr(b, nil)
	if n == 0 && m == 0 && err == nil && err2 == nil {
		return true, nil // As most files.
	}
	xa, err := Xattrs(a)
	if err != nil {
		return false, err
	}
	xb, err := Xattrs(b)
	return maps.Equal(xa, xb), err
}

// sameContents is for a file that somebody touched, and that looks the same.
func sameContents(before, after *os.File, name string) (bool, error) {
	a, err := openAt(before, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := openAt(after, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer b.Close()
	x, y := getChunk(), getChunk()
	defer chunks.Put(x)
	defer chunks.Put(y)
	for {
		n, err := io.ReadFull(a, x[:])
		m, err2 := io.ReadFull(b, y[:])
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err := errors.Join(err, err2); err != nil {
			return false, err
		}
	}
}

// FileMode returns a file's type and permissions.
func FileMode(st *unix.Stat_t) fs.FileMode {
	mode := fs.FileMode(st.Mode & 0o777)
	for bit, m := range map[uint32]fs.FileMode{
		unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky,
	} {
		if st.Mode&bit != 0 {
			mode |= m
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	}
	return mode
}
