package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
)

// A Root is a directory that entries of a tar are unpacked into.
type Root struct {
	Dir string

	// Place says where an entry goes, relative to Dir: empty if not here. All
	// go where their names say if it is nil.
	Place func(name string) string
}

// Extract unpacks the tar in r, compressed or not, with owners, modes, times,
// extended attributes, hard links and holes. Each entry goes into the first
// root that has a place for it, if there is one, and whatever the archive
// holds, nothing that is done for one root touches what is outside of that.
func Extract(ctx context.Context, r io.Reader, roots ...Root) error {
	x := &extractor{ctx: ctx, buf: make([]byte, 1<<18)}
	defer x.close()
	for _, root := range roots {
		if err := x.add(root); err != nil {
			return err
		}
	}
	if _, err := Walk(ctx, r, x.entry); err != nil {
		return err
	}
	return x.finish()
}

// An extractor unpacks an archive into roots.
type extractor struct {
	ctx   context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	roots []*rootDir
	buf   []byte
	dirs  []dirTime
}

// A rootDir is an open root.
type rootDir struct {
	dir   *os.File
	place func(string) string

	// The directory of the last entry, because the next one is often in it
	// too. If it was removed meanwhile the kernel makes nothing in it.
	parent     *os.File
	parentName string
}

func (x *extractor) add(r Root) error {
	dir, err := os.OpenFile(r.Dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	place := r.Place
	if place == nil {
		place = func(name string) string { return name }
	}
	x.roots = append(x.roots, &rootDir{dir: dir, place: place})
	return nil
}

func (x *extractor) close() {
	for _, r := range x.roots {
		r.leave()
		r.dir.Close()
	}
}

// A dirTime is what a directory's time is set to when all is in it.
type dirTime struct {
	root *rootDir
	name string
	time time.Time
}

// A target is where an entry is made: base in the directory dir.
type target struct {
	root *rootDir
	dir  int
	base string
	name string // For messages.
}

func (x *extractor) entry(name string, h *tar.Header, data io.Reader) error {
	if h.Typeflag == tar.TypeBlock || h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	for _, r := range x.roots {
		to := r.place(name)
		if to == "" {
			continue
		}
		t, err := r.enter(to)
		if err == nil {
			err = x.make(t, h, data)
		}
		if err != nil {
			return fmt.Errorf("unpack %q: %w", name, trap(err))
		}
		return nil
	}
	return nil
}

// trap says of an error that a path in the archive caused that it did.
func trap(err error) error {
	for _, cause := range []error{unix.ENOTDIR, unix.ELOOP, unix.EISDIR, unix.ENAMETOOLONG, unix.ENOTEMPTY, unix.EEXIST} {
		if errors.Is(err, cause) && errs.KindOf(err) == errs.Internal {
			return errs.Newf(errs.Invalid, "bad archive: %w", err)
		}
	}
	return err
}

// enter opens the directory that an entry belongs in.
func (r *rootDir) enter(name string) (target, error) {
	dir, base := path.Split(name)
	if r.parent == nil || dir != r.parentName {
		parent, err := inroot.Dir(r.dir, dir)
		if err != nil {
			return target{}, err
		}
		r.leave()
		r.parent, r.parentName = parent, dir
	}
	return target{r, int(r.parent.Fd()), base, name}, nil
}

func (r *rootDir) leave() {
	if r.parent != nil {
		r.parent.Close()
		r.parent = nil
	}
}

func (x *extractor) make(t target, h *tar.Header, data io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs = append(x.dirs, dirTime{t.root, t.name, h.ModTime})
		if err := makeDir(t); err != nil {
			return err
		}
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return x.file(t, h, data)
	case tar.TypeLink:
		return link(t, h)
	case tar.TypeSymlink:
		if err := replacing(t, func() error { return unix.Symlinkat(h.Linkname, t.dir, t.base) }); err != nil {
			return err
		}
	case tar.TypeFifo:
		if err := replacing(t, func() error { return unix.Mknodat(t.dir, t.base, unix.S_IFIFO|0o600, 0) }); err != nil {
			return err
		}
	default:
		return errs.Invalidf("bad archive: entry is of unknown type %q", h.Typeflag)
	}
	return dress(t, h)
}

// replacing runs fn, which makes t, again without what is in its place.
func replacing(t target, fn func() error) error {
	err := fn()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := unix.Unlinkat(t.dir, t.base, 0); err != nil {
		return err
	}
	return fn()
}

func makeDir(t target) error {
	if t.base == "." {
		return nil
	}
	err := unix.Mkdirat(t.dir, t.base, 0o700)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(t.dir, t.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return err
	}
	return replacing(t, func() error { return unix.Mkdirat(t.dir, t.base, 0o700) })
}

func (x *extractor) file(t target, h *tar.Header, data io.Reader) error {
	var f *os.File
	err := replacing(t, func() error {
		fd, err := unix.Openat(t.dir, t.base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			f = os.NewFile(uintptr(fd), t.name)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer f.Close()

	write := x.write
	if sparse(h) {
		write = x.writeHoles
	}
	if err := write(f, badData{x.ctx, data}); err != nil {
		return err
	}
	if err := dress(t, h); err != nil {
		return err
	}
	return f.Close()
}

// sparse reports whether a file was archived with its holes known.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (x *extractor) write(f *os.File, data io.Reader) error {
	for {
		n, err := data.Read(x.buf)
		if n > 0 {
			if _, err := f.Write(x.buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// writeHoles is write that seeks over pages of zeros.
func (x *extractor) writeHoles(f *os.File, data io.Reader) error {
	const page = 4096
	zeros := make([]byte, page)
	var size int64
	for {
		n, err := io.ReadFull(data, x.buf)
		for chunk := range slices.Chunk(x.buf[:n], page) {
			if !bytes.Equal(chunk, zeros[:len(chunk)]) {
				if _, err := f.WriteAt(chunk, size); err != nil {
					return err
				}
			}
			size += int64(len(chunk))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n < len(x.buf) && !errs.Is(err, errs.Invalid) {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

// link makes a hard link. The file that it is a link of was unpacked before,
// below the root, and a symbolic link in its place is not followed.
func link(t target, h *tar.Header) error {
	old := t.root.place(h.Linkname)
	if old == "" {
		return errs.Invalidf("bad archive: it is a hard link to %q, which is not unpacked", h.Linkname)
	}
	dir, base, err := inroot.Parent(t.root.dir, old)
	if err != nil {
		return err
	}
	defer dir.Close()

	err = replacing(t, func() error { return unix.Linkat(int(dir.Fd()), base, t.dir, t.base, 0) })
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM) {
		return errs.Newf(errs.Invalid, "bad archive: hard link to %q: %w", h.Linkname, err)
	}
	return err
}

// attrRecord begins the names of the records that hold extended attributes.
const attrRecord = "SCHILY.xattr."

// dress gives what was made its owner, mode, attributes and time, in the
// order in which none of them undoes another.
func dress(t target, h *tar.Header) error {
	if err := unix.Fchownat(t.dir, t.base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Fchmodat(t.dir, t.base, uint32(h.Mode)&0o7777, 0); err != nil { //nolint:gosec // Masked.
			return fmt.Errorf("set mode: %w", err)
		}
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, attrRecord)
		if !ok || !guestAttr(name) {
			continue
		}
		if err := unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", t.dir, t.base), name, []byte(value), 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	if h.Typeflag == tar.TypeDir {
		return nil // What is unpacked into it would change its time.
	}
	return setTime(t, h.ModTime)
}

// guestAttr reports whether an extended attribute means something to the
// guest only. Those of overlayfs, for one, are orders to the host's kernel.
func guestAttr(name string) bool {
	switch {
	case name == "security.capability", strings.HasPrefix(name, "system.posix_acl_"):
		return true
	case strings.HasPrefix(name, "user."):
		return !strings.HasPrefix(name, "user.overlay.")
	}
	return false
}

func setTime(t target, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil {
		return nil //nolint:nilerr // A time that the kernel cannot have, such as in the year 9999, is no reason to fail.
	}
	return unix.UtimesNanoAt(t.dir, t.base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// finish sets the times of directories.
func (x *extractor) finish() error {
	for _, d := range slices.Backward(x.dirs) {
		t, err := d.root.enter(d.name)
		if err == nil {
			err = setTime(t, d.time)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("set time of %q: %w", d.name, err)
		}
	}
	return nil
}
