package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
)

// ReadOptions are how a tree is read. The zero value is ready to use.
type ReadOptions struct {
	// Xattr returns an error if a file must not have an extended attribute
	// of that value.
	Xattr func(path, name, value string) error
}

// Read makes of the directory dst, which is empty or the state before, what
// [WriteOptions.Write] wrote. Whatever comes, nothing outside of dst is
// touched.
func (o ReadOptions) Read(ctx context.Context, r Reader, dst string) error {
	root, err := openDir(unix.AT_FDCWD, dst)
	if err != nil {
		return err
	}
	defer root.Close()
	x := &reader{decoder: decoder{r: r}, root: root, xattr: o.Xattr}
	defer x.leave()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		kind := x.byte()
		if x.err != nil || kind == recordEnd {
			return x.err
		}
		at := x.path()
		if x.err != nil {
			return x.err
		}
		if err := x.record(ctx, kind, at); err != nil {
			return fmt.Errorf("receive %q: %w", at, trap(err))
		}
	}
}

// trap says of an error that a path in the stream caused that it did.
func trap(err error) error {
	for _, cause := range []error{
		unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.EISDIR, unix.ENAMETOOLONG, unix.EEXIST, unix.EXDEV, unix.EMLINK,
		unix.EINVAL, unix.EFBIG, unix.E2BIG, unix.ERANGE, // A value that no file can have.
	} {
		if errors.Is(err, cause) && errs.KindOf(err) == errs.Internal {
			return errs.Newf(errs.Invalid, "bad stream: %w", err)
		}
	}
	return err
}

// A reader makes one tree.
type reader struct {
	decoder

	root  *os.File
	xattr func(path, name, value string) error
	buf   []byte

	// The directory of the last record, because the next one is often in it
	// too.
	parent     *os.File
	parentName string
}

func (r *reader) leave() {
	if r.parent != nil {
		r.parent.Close()
		r.parent = nil
	}
}

// beneath is how all is opened: no link is followed.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// enter opens the directory that a path is in, which must be there.
func (r *reader) enter(at string) (*os.File, error) {
	dir := path.Dir(at)
	if r.parent != nil && r.parentName == dir {
		return r.parent, nil
	}
	fd, err := unix.Openat2(int(r.root.Fd()), dir, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath})
	if err != nil {
		return nil, err
	}
	r.leave()
	r.parent, r.parentName = os.NewFile(uintptr(fd), dir), dir
	return r.parent, nil
}

func (r *reader) record(ctx context.Context, kind byte, at string) error {
	crash.Within("a tree is received")
	dir, err := r.enter(at)
	if err != nil {
		return err
	}
	if at == "." && kind != recordAttrs {
		return errs.Invalidf("bad stream: the root is a directory")
	}
	name := path.Base(at)
	switch kind {
	case recordDir:
		return r.makeDir(dir, name)
	case recordRemove:
		return r.remove(dir, name)
	case recordAttrs:
		return r.dirAttrs(dir, name, at)
	case recordHard:
		return r.link(dir, name)
	case recordFile, recordLink, recordOther:
		return r.leaf(ctx, kind, dir, at)
	}
	return errs.Invalidf("bad stream: a record of unknown kind %q", kind)
}

// remove removes what has a name, if there is anything.
func (r *reader) remove(dir *os.File, name string) error {
	return Remove(procPath(dir, name))
}

func (r *reader) makeDir(dir *os.File, name string) error {
	err := unix.Mkdirat(int(dir.Fd()), name, 0o700)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return err
	}
	if err := unix.Unlinkat(int(dir.Fd()), name, 0); err != nil {
		return err
	}
	return unix.Mkdirat(int(dir.Fd()), name, 0o700)
}

func (r *reader) dirAttrs(dir *os.File, name, at string) error {
	a := r.attributes()
	if r.err != nil {
		return r.err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || a.mode&unix.S_IFMT != unix.S_IFDIR {
		return errs.Invalidf("bad stream: it is no directory")
	}
	old, err := Xattrs(procPath(dir, name))
	if err != nil {
		return err
	}
	for attr := range old {
		if _, ok := a.xattrs[attr]; ok || ofPlace(attr) {
			continue
		}
		if err := unix.Lremovexattr(procPath(dir, name), attr); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("remove attribute %s: %w", attr, err)
		}
	}
	return r.dress(dir, at, a)
}

// dress gives a file its attributes, in the order in which none of them undoes
// another.
func (r *reader) dress(dir *os.File, at string, a attributes) error {
	fd, name := int(dir.Fd()), path.Base(at)
	if err := unix.Fchownat(fd, name, int(a.uid), int(a.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	for attr, value := range a.xattrs {
		if r.xattr != nil {
			if err := r.xattr(at, attr, value); err != nil {
				return err
			}
		}
		if err := setXattr(procPath(dir, name), attr, value); err != nil {
			return xattrError(attr, err)
		}
	}
	if a.mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(fd, name, a.mode&0o7777, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	return unix.UtimesNanoAt(fd, name, []unix.Timespec{a.mtime, a.mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// xattrError says what is wrong with an attribute: that a file of that type
// has none of that name, or that the pool's file system does not.
func xattrError(attr string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return errs.Newf(errs.Invalid, "bad stream: attribute %q: %w", attr, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return errs.Newf(errs.Unsupported, "the pool's file system has no attribute %q: %w", attr, err)
	}
	return fmt.Errorf("set attribute %q: %w", attr, err)
}

// clear removes what has the name of what is to be made.
func (r *reader) clear(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.EPERM):
		return r.remove(dir, name)
	}
	return err
}

// link makes one more name of a file that came before.
func (r *reader) link(dir *os.File, name string) error {
	first := r.path()
	if r.err != nil {
		return r.err
	}
	in, err := unix.Openat2(int(r.root.Fd()), path.Dir(first), &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: beneath})
	if err != nil {
		return err
	}
	defer unix.Close(in) //nolint:errcheck // Nothing was written.
	if err := r.clear(dir, name); err != nil {
		return err
	}
	err = unix.Linkat(in, path.Base(first), int(dir.Fd()), name, 0)
	if errors.Is(err, unix.EPERM) {
		return errs.Newf(errs.Invalid, "bad stream: link to %q: %w", first, err)
	}
	return err
}

func (r *reader) leaf(ctx context.Context, kind byte, dir *os.File, at string) error {
	a := r.attributes()
	if r.err != nil {
		return r.err
	}
	name := path.Base(at)
	if err := r.clear(dir, name); err != nil {
		return err
	}
	var err error
	switch kind {
	case recordFile:
		a.mode = a.mode&^unix.S_IFMT | unix.S_IFREG
		err = r.file(ctx, dir, name)
	case recordLink:
		a.mode = a.mode&^unix.S_IFMT | unix.S_IFLNK
		if target := r.text(maxTarget); r.err == nil {
			err = unix.Symlinkat(target, int(dir.Fd()), name)
		}
	default:
		err = r.other(dir, name, a.mode)
	}
	if err = errors.Join(r.err, err); err != nil {
		return err
	}
	return r.dress(dir, at, a)
}

func (r *reader) other(dir *os.File, name string, mode uint32) error {
	dev := r.number(1<<64 - 1)
	if r.err != nil {
		return r.err
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		return unix.Mknodat(int(dir.Fd()), name, mode&unix.S_IFMT|0o600, int(dev)) //nolint:gosec // The kernel's number.
	}
	return errs.Invalidf("bad stream: a file of unknown type %o", mode)
}

func (r *reader) file(ctx context.Context, dir *os.File, name string) (err error) {
	size := int64(r.number(1<<62 - 1)) //nolint:gosec // It is less.
	if r.err != nil {
		return r.err
	}
	f, err := openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end := int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int64(r.number(maxExtent)) //nolint:gosec // It is less.
		if r.err != nil {
			return r.err
		}
		if n == 0 {
			break
		}
		at := int64(r.number(1<<62 - 1)) //nolint:gosec // It is less.
		if r.err == nil && (at < end || at+n > size) {
			r.fail(errs.Invalidf("bad stream: data at %d of a file of %d bytes", at, size))
		}
		if r.err != nil {
			return r.err
		}
		if err := r.extent(f, at, n); err != nil {
			return err
		}
		end = at + n
	}
	if end < size {
		return f.Truncate(size)
	}
	return nil
}

func (r *reader) extent(f *os.File, at, size int64) error {
	if int64(len(r.buf)) < size {
		r.buf = make([]byte, max(size, chunk))
	}
	if _, err := io.ReadFull(r.r, r.buf[:size]); err != nil {
		r.fail(err)
		return r.err
	}
	_, err := f.WriteAt(r.buf[:size], at)
	return err
}
