package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
)

// A Packer writes a tar that [Extract] unpacks to what was packed: owners,
// modes, times, extended attributes, hard links and holes. Sockets, which
// nobody can use without who made them, are left out.
type Packer struct {
	// Whole keeps the attributes, too, that only the host's root can set.
	Whole bool

	out   *output
	tar   *tar.Writer
	buf   []byte
	links map[inode]string // The first name of files that have several.
}

// An inode identifies a file.
type inode struct{ dev, ino uint64 }

// NewPacker returns a Packer that writes to w until ctx ends.
func NewPacker(ctx context.Context, w io.Writer) *Packer {
	out := &output{ctx: ctx, w: w}
	return &Packer{out: out, tar: tar.NewWriter(out), buf: make([]byte, 1<<18), links: map[inode]string{}}
}

// An output is what the tar is written to. It fails when ctx has ended.
type output struct {
	ctx  context.Context //nolint:containedctx // It lives no longer than the call that it is made for.
	w    io.Writer
	held *bytes.Buffer // Takes what is written, if not nil.
}

func (o *output) Write(p []byte) (int, error) {
	if o.held != nil {
		return o.held.Write(p)
	}
	if o.ctx.Err() != nil {
		return 0, errs.Newf(errs.Canceled, "%w", context.Cause(o.ctx))
	}
	return o.w.Write(p)
}

// Close ends the tar.
func (p *Packer) Close() error { return p.tar.Close() }

// File adds a file of root's with some text.
func (p *Packer) File(name string, data []byte, at time.Time) error {
	h := &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: at}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := p.tar.Write(data)
	return err
}

// Dir adds a directory of root's, without what is in it.
func (p *Packer) Dir(name string, mode fs.FileMode, at time.Time) error {
	h := &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(mode.Perm()), ModTime: at}
	return p.tar.WriteHeader(h)
}

// Stream adds a file of root's for which write is called to write its data,
// which is of the given size.
func (p *Packer) Stream(name string, size int64, write func(w io.Writer) error) error {
	h := &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: size, ModTime: time.Now()}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	if err := write(p.tar); err != nil {
		return err
	}
	return p.tar.Flush() // It fails if there was less.
}

// Tree adds a directory with all that is in it as name. Nothing outside of it
// is read, whatever links there are and whoever changes them meanwhile.
func (p *Packer) Tree(dir, name string) error {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer root.Close()

	t := tree{p, root, name}
	return t.dir(".")
}

// A tree is a directory that is being packed.
type tree struct {
	*Packer

	root *os.File
	name string // That it has in the tar.
}

// dir packs a directory: first itself, then the files in it, then the
// directories. Each is opened by its path from the root, so that no depth
// needs more than one open at a time.
func (t tree) dir(at string) error {
	names, err := t.list(at)
	if err != nil {
		return fmt.Errorf("pack %q: %w", at, tooDeep(err))
	}
	for _, name := range names {
		if err := t.dir(path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

func tooDeep(err error) error {
	if errors.Is(err, unix.ENAMETOOLONG) {
		return errs.Newf(errs.Unsupported, "its path is longer than the %d bytes that a path can have: %w", unix.PathMax, err)
	}
	return err
}

// list packs a directory and all in it but the directories, whose names it
// returns.
func (t tree) list(at string) (dirs []string, err error) {
	d, err := inroot.Open(t.root, at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()

	if err := t.entry(d, ".", at); err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names) // The same tree makes the same tar.
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			dirs = append(dirs, name)
			continue
		}
		if err := t.entry(d, name, path.Join(at, name)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return dirs, nil
}

// entry packs what base is in the directory d, whose path below the root is
// at.
func (t tree) entry(d *os.File, base, at string) error {
	crash.Within("an archive is written")
	fd, err := unix.Openat(int(d.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()

	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	h := &tar.Header{
		Format: tar.FormatPAX, Name: path.Join(t.name, at), Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	if ok, err := t.kind(f, &st, h); err != nil || !ok {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return t.tar.WriteHeader(h)
	}
	if h.PAXRecords, err = t.attrs(f); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return t.tar.WriteHeader(h)
	}
	return t.data(f, h, st.Blocks*blockSize < st.Size)
}

// kind sets what kind of entry a file becomes; none if it is not ok.
func (t tree) kind(f *os.File, st *unix.Stat_t, h *tar.Header) (ok bool, err error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return true, nil
	case unix.S_IFCHR, unix.S_IFBLK: // No links of each other: who unpacks it may leave them out.
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		return true, nil
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", target)
		if err != nil {
			return false, os.NewSyscallError("readlink", err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(target[:n])
	default:
		return false, nil
	}
	if st.Nlink == 1 {
		return true, nil
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := t.links[id]; ok {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return true, nil
	}
	t.links[id] = h.Name
	return true, nil
}

// reopened is the path of a file that is open to be looked at only.
func reopened(f *os.File) string { return reopenedFD(int(f.Fd())) }

func reopenedFD(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// attrs reads the extended attributes that [Extract] sets.
func (p *Packer) attrs(f *os.File) (map[string]string, error) {
	out := map[string]string{}
	names, err := attr(func(buf []byte) (int, error) { return unix.Listxattr(reopened(f), buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return out, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !guestAttr(name) && (!p.Whole || !hostAttr(name)) {
			continue
		}
		if strings.Contains(name, "=") {
			return nil, errs.Newf(errs.Unsupported, `its extended attribute %q has a "=" in its name, which no archive can hold`, name)
		}
		value, err := attr(func(buf []byte) (int, error) { return unix.Getxattr(reopened(f), name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue // It was removed meanwhile.
		}
		if err != nil {
			return nil, fmt.Errorf("read attribute %s: %w", name, err)
		}
		out[attrRecord+name] = string(value)
	}
	return out, nil
}

// attr calls get with a buffer that is large enough.
func attr(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if n == 0 || err != nil {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = get(buf)
		if !errors.Is(err, unix.ERANGE) { // It grew meanwhile.
			return buf[:max(0, n)], err
		}
	}
}

// data packs a regular file.
func (t tree) data(f *os.File, h *tar.Header, holes bool) error { //nolint:revive // Not exported.
	in, err := os.Open(reopened(f))
	if err != nil {
		return err
	}
	defer in.Close()

	if holes {
		parts, err := extents(in, h.Size)
		if err != nil {
			return err
		}
		if len(parts) != 1 || parts[0].size != h.Size {
			return t.sparse(in, h, parts)
		}
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	return t.copy(in, extent{0, h.Size})
}

// An extent is a part of a file that has data in it.
type extent struct{ at, size int64 }

// extents finds where a file has data. The last extent ends where the file
// does, even if there is none.
func extents(f *os.File, size int64) (all []extent, err error) {
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && from >= size {
			break
		}
		if err != nil {
			return nil, os.NewSyscallError("lseek", err)
		}
		if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			return nil, os.NewSyscallError("lseek", err)
		}
		at = min(at, size)
		all = append(all, extent{from, at - from})
	}
	if n := len(all); n == 0 || all[n-1].at+all[n-1].size < size {
		all = append(all, extent{size, 0})
	}
	return all, nil
}

// copy writes a part of a file.
func (t tree) copy(f *os.File, part extent) error {
	r := struct{ io.Reader }{io.NewSectionReader(f, part.at, part.size)}
	n, err := io.CopyBuffer(struct{ io.Writer }{t.tar}, r, t.buf)
	if err == nil && n < part.size {
		err = errs.Conflictf("it became shorter while it was read")
	}
	return err
}

// The records of a file with holes. The package archive/tar reads such files
// but does not write them: records that it knows the meaning of it leaves out.
// So it is given others that are as long. They are sorted before all else, and
// the one whose value the guest has chosen is the last of them.
var sparseRecords = []struct{ given, meant string }{
	{"0NU.sparse.major", "GNU.sparse.major"},
	{"0NU.sparse.minor", "GNU.sparse.minor"},
	{"0NU.sparse.realsize", "GNU.sparse.realsize"},
	{"1NU.sparse.name", "GNU.sparse.name"},
}

// sparse packs a file with holes, in version 1.0 of the format that GNU tar
// made for it: before the data comes a list of where it belongs.
func (t tree) sparse(f *os.File, h *tar.Header, parts []extent) error {
	var where bytes.Buffer
	fmt.Fprintln(&where, len(parts))
	size := int64(0)
	for _, part := range parts {
		fmt.Fprintf(&where, "%d\n%d\n", part.at, part.size)
		size += part.size
	}
	where.Write(make([]byte, -where.Len()&(blockSize-1)))

	for i, value := range []string{"1", "0", strconv.FormatInt(h.Size, 10), h.Name} {
		h.PAXRecords[sparseRecords[i].given] = value
	}
	h.Size = int64(where.Len()) + size
	if err := t.sparseHeader(h); err != nil {
		return err
	}
	if _, err := t.tar.Write(where.Bytes()); err != nil {
		return err
	}
	for _, part := range parts {
		if err := t.copy(f, part); err != nil {
			return err
		}
	}
	return nil
}

// sparseHeader writes the header of a file with holes.
func (t tree) sparseHeader(h *tar.Header) error {
	if err := t.tar.Flush(); err != nil {
		return err
	}
	var held bytes.Buffer
	t.out.held = &held
	err := t.tar.WriteHeader(h)
	t.out.held = nil
	if err != nil {
		return err
	}
	first, records := held.Bytes()[:blockSize], held.Bytes()[blockSize:]
	for _, r := range sparseRecords {
		records = bytes.Replace(records, []byte(r.given), []byte(r.meant), 1)
	}
	_, err = t.out.Write(slices.Concat(first, records))
	return err
}
