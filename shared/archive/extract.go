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

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
)

// A Root is a directory that entries of a tar are unpacked into.
type Root struct {
	Dir string

	// Place says where an entry goes, relative to Dir: empty if not here. All
	// go where their names say if it is nil.
	Place func(name string) string

	// Whole says that the archive is a copy of Dir as it was: devices are
	// made too, and attributes kept that only the host's root can set.
	Whole bool

	// Update says that Dir holds an older state. What is the same stays as
	// it is, so that file systems go on sharing it, and what the archive
	// does not have goes.
	Update bool
}

// Extract unpacks the tar in r, compressed or not, with owners, modes, times,
// extended attributes, hard links and holes. Each entry goes into the first
// root that has a place for it, if there is one, and whatever the archive
// holds, nothing that is done for one root touches what is outside of that.
func Extract(ctx context.Context, r io.Reader, roots ...Root) error {
	x, err := NewExtractor(ctx, roots...)
	if err != nil {
		return err
	}
	defer x.Close()
	if _, err := Walk(ctx, r, x.Entry); err != nil {
		return err
	}
	return x.Finish()
}

// An Extractor unpacks entries of an archive as [Extract] does.
type Extractor struct {
	ctx   context.Context //nolint:containedctx // It lives no longer than the unpacking that it is made for.
	roots []*rootDir
	buf   []byte
	have  []byte // What is there already of a file.
	dirs  []dirTime
}

// A rootDir is an open root.
type rootDir struct {
	Root

	dir *os.File

	// The directory of the last entry, because the next one is often in it
	// too. If it was removed meanwhile the kernel makes nothing in it.
	parent     *os.File
	parentName string

	seen seen // What the archive has, of a root that is updated.
}

// NewExtractor returns an Extractor that ends with ctx. The caller closes it.
func NewExtractor(ctx context.Context, roots ...Root) (*Extractor, error) {
	x := &Extractor{ctx: ctx, buf: make([]byte, 1<<18)}
	for _, root := range roots {
		if err := x.add(root); err != nil {
			x.Close()
			return nil, err
		}
	}
	return x, nil
}

func (x *Extractor) add(r Root) error {
	dir, err := os.OpenFile(r.Dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if r.Place == nil {
		r.Place = func(name string) string { return name }
	}
	root := &rootDir{Root: r, dir: dir}
	if r.Update {
		root.seen = newSeen()
		x.have = make([]byte, len(x.buf))
	}
	x.roots = append(x.roots, root)
	return nil
}

// Close closes the roots.
func (x *Extractor) Close() {
	for _, r := range x.roots {
		r.leave()
		r.dir.Close()
	}
}

// A dirTime is what a directory gets when all is in it: its time, and the ACL
// that what is made in it would get.
type dirTime struct {
	root *rootDir
	name string
	time time.Time
	acl  string
}

func newDirTime(t target, h *tar.Header) dirTime {
	return dirTime{t.root, t.name, h.ModTime, h.PAXRecords[attrRecord+defaultACL]}
}

const defaultACL = "system.posix_acl_default"

// A target is where an entry is made: base in the directory dir.
type target struct {
	root *rootDir
	dir  int
	base string
	name string // For messages.
}

// Entry unpacks an entry, whose name and link are as those of [Reader.Next].
func (x *Extractor) Entry(name string, h *tar.Header, data io.Reader) error {
	crash.Within("an archive is unpacked")
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	for _, r := range x.roots {
		to := r.Place(name)
		if to == "" {
			continue
		}
		if isDevice(h) && !r.Whole {
			return nil
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

func isDevice(h *tar.Header) bool { return h.Typeflag == tar.TypeBlock || h.Typeflag == tar.TypeChar }

// trap says of an error that a path in the archive caused that it did.
func trap(err error) error {
	for _, cause := range []error{unix.ENOTDIR, unix.ELOOP, unix.EISDIR, unix.ENAMETOOLONG, unix.ENOTEMPTY, unix.EEXIST, unix.EINVAL, unix.EFBIG} {
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

func (x *Extractor) make(t target, h *tar.Header, data io.Reader) error {
	if t.root.Update {
		if done, err := x.update(t, h, data); done || err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs = append(x.dirs, newDirTime(t, h))
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
	case tar.TypeFifo, tar.TypeBlock, tar.TypeChar:
		if err := replacing(t, func() error { return mknod(t, h) }); err != nil {
			return err
		}
	default:
		return errs.Invalidf("bad archive: entry is of unknown type %q", h.Typeflag)
	}
	return dress(t, h)
}

func mknod(t target, h *tar.Header) error {
	mode, dev := uint32(unix.S_IFIFO), uint64(0)
	if isDevice(h) {
		if h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor {
			return errs.Invalidf("bad archive: it is device %d:%d, which cannot be", h.Devmajor, h.Devminor)
		}
		mode, dev = unix.S_IFCHR, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
		if h.Typeflag == tar.TypeBlock {
			mode = unix.S_IFBLK
		}
	}
	return unix.Mknodat(t.dir, t.base, mode|0o600, int(dev)) //nolint:gosec // It has 32 bits.
}

// The highest numbers that a device can have, of linux/kdev_t.h.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

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

func (x *Extractor) file(t target, h *tar.Header, data io.Reader) error {
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

	from := badData{x.ctx, data}
	if sparse(h) {
		err = x.writeHoles(f, from)
	} else {
		err = x.write(f, from)
	}
	if err != nil {
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

func (x *Extractor) write(f *os.File, data io.Reader) error {
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

// holeChunk is how many zeros of a hole are taken at once: so few that they
// stay in the processor's nearest cache.
const holeChunk = 16 << 10

// writeHoles is write that seeks over pages of zeros. What comes while nothing
// of the archive is read is a hole, and is not looked at.
func (x *Extractor) writeHoles(f *os.File, data badData) error {
	var size int64
	buf := x.buf
	for {
		before := data.consumed()
		n, err := io.ReadFull(data, buf)
		hole := before >= 0 && before == data.consumed()
		if !hole {
			if err := writePages(f, buf[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && n < len(buf) && !errs.Is(err, errs.Invalid) {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
		buf = x.buf
		if hole {
			buf = x.buf[:holeChunk]
		}
	}
}

// page is what is looked at for whether it is of zeros.
const page = 4096

var zeros [page]byte

// writePages writes those pages of data that are not of zeros.
func writePages(f *os.File, data []byte, at int64) error {
	for chunk := range slices.Chunk(data, page) {
		if !bytes.Equal(chunk, zeros[:len(chunk)]) {
			if _, err := f.WriteAt(chunk, at); err != nil {
				return err
			}
		}
		at += int64(len(chunk))
	}
	return nil
}

// link makes a hard link. The file that it is a link of was unpacked before,
// below the root, and a symbolic link in its place is not followed.
func link(t target, h *tar.Header) error {
	old := t.root.Place(h.Linkname)
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
	for name, value := range wanted(t, h) {
		if err := unix.Lsetxattr(t.path(), name, []byte(value), 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	if h.Typeflag == tar.TypeDir {
		return nil // What is unpacked into it would change its time.
	}
	return setTime(t, h.ModTime)
}

// path is the path of what is made, for calls that take no directory.
func (t target) path() string { return fmt.Sprintf("/proc/self/fd/%d/%s", t.dir, t.base) }

// attr reports whether an extended attribute is unpacked.
func (r *rootDir) attr(name string) bool { return guestAttr(name) || r.Whole && hostAttr(name) }

// hostAttr reports whether an extended attribute is one that a guest's root
// could have set if it is the host's too, and no order to overlayfs.
func hostAttr(name string) bool {
	return strings.HasPrefix(name, "trusted.") && !strings.HasPrefix(name, "trusted.overlay.")
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
	if err != nil || t.root.Update && sameTime(t, ts) {
		return nil //nolint:nilerr // A time that the kernel cannot have, such as in the year 9999, is no reason to fail.
	}
	return unix.UtimesNanoAt(t.dir, t.base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// Finish is called after the last entry. It sets what directories get last,
// and removes from what is updated what the archive does not have.
func (x *Extractor) Finish() error {
	for _, r := range x.roots {
		if !r.Update {
			continue
		}
		if err := r.prune(x.ctx, "."); err != nil {
			return fmt.Errorf("remove what is not there any more: %w", err)
		}
	}
	for _, d := range slices.Backward(x.dirs) {
		t, err := d.root.enter(d.name)
		if err == nil {
			err = d.dress(t)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return fmt.Errorf("set time of %q: %w", d.name, err)
		}
	}
	return nil
}

// dress sets what a directory gets last, if it is still one.
func (d dirTime) dress(t target) error {
	var st unix.Stat_t
	if err := unix.Fstatat(t.dir, t.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if d.acl != "" {
		if err := unix.Lsetxattr(t.path(), defaultACL, []byte(d.acl), 0); err != nil {
			return err
		}
	}
	return setTime(t, d.time)
}
