package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/inroot"
)

// seen are the names that an archive has. It takes 8 bytes a name; that two
// have the same hash, which nobody can foresee, does not happen.
type seen struct {
	seed   maphash.Seed
	hashes map[uint64]struct{}
}

func newSeen() seen { return seen{maphash.MakeSeed(), map[uint64]struct{}{}} }

// add adds a name and the directories that it is in.
func (s seen) add(name string) {
	for name = path.Clean(name); name != "." && !s.has(name); name = path.Dir(name) {
		s.hashes[maphash.String(s.seed, name)] = struct{}{}
	}
}

func (s seen) has(name string) bool {
	_, ok := s.hashes[maphash.String(s.seed, name)]
	return ok
}

// update makes what is there into what an entry says, if it can stay, and
// otherwise removes it, and leaves the rest to the caller.
func (x *Extractor) update(t target, h *tar.Header, data io.Reader) (done bool, err error) {
	t.root.seen.add(t.name)
	var st unix.Stat_t
	err = unix.Fstatat(t.dir, t.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch was := st.Mode & unix.S_IFMT; {
	case was == unix.S_IFDIR && h.Typeflag == tar.TypeDir:
		x.dirs = append(x.dirs, newDirTime(t, h))
		return true, redress(t, h, &st)
	case was == unix.S_IFREG && regular(h) && st.Nlink == 1: // What it is linked to can be another file now.
		if err := x.rewrite(t, h, data); err != nil {
			return false, err
		}
		return true, redressed(t, h)
	case was == unix.S_IFLNK && h.Typeflag == tar.TypeSymlink && st.Nlink == 1 && linkTarget(t) == h.Linkname:
		return true, redress(t, h, &st)
	}
	return false, removeAll(t.dir, t.base)
}

func regular(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse || h.Typeflag == tar.TypeCont
}

// linkTarget returns where a symbolic link leads, which is never nowhere.
func linkTarget(t target) string {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(t.dir, t.base, buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// A rewriter writes a file only from where it differs from what it was: a
// file that is opened to be written is not shared with its snapshots any more
// in an overlay.
type rewriter struct {
	t    target
	size int64 // That it had.
	in   *os.File
	out  *os.File // Nil as long as nothing differs.
}

func (w *rewriter) close() {
	w.in.Close()
	if w.out != nil {
		w.out.Close()
	}
}

// writable opens the file to be written.
func (w *rewriter) writable() (*os.File, error) {
	if w.out != nil {
		return w.out, nil
	}
	fd, err := unix.Openat(w.t.dir, w.t.base, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		w.out = os.NewFile(uintptr(fd), w.t.name)
	}
	return w.out, err
}

// rewrite gives the file t the contents of data.
func (x *Extractor) rewrite(t target, h *tar.Header, data io.Reader) error {
	fd, err := unix.Openat(t.dir, t.base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w := &rewriter{t: t, in: os.NewFile(uintptr(fd), t.name)}
	defer w.close()
	if w.size, err = w.in.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	from := badData{x.ctx, data}
	var at int64
	for at < h.Size {
		n, err := io.ReadFull(from, x.buf[:min(int64(len(x.buf)), h.Size-at)])
		if err != nil {
			return asInvalid(err)
		}
		if err := x.rewriteAt(w, x.buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	if at == w.size {
		return nil
	}
	out, err := w.writable()
	if err != nil {
		return err
	}
	return out.Truncate(at)
}

// rewriteAt writes a part of a file if it differs. Zeros beyond the end
// become a hole.
func (x *Extractor) rewriteAt(w *rewriter, part []byte, at int64) error {
	have, err := w.in.ReadAt(x.have[:len(part)], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	clear(x.have[have:len(part)])
	for i := 0; i < len(part); i += page {
		end := min(i+page, len(part))
		if bytes.Equal(part[i:end], x.have[i:end]) {
			continue
		}
		out, err := w.writable()
		if err != nil {
			return err
		}
		if _, err := out.WriteAt(part[i:end], at+int64(i)); err != nil {
			return err
		}
	}
	return nil
}

// redressed is [redress] of what was changed.
func redressed(t target, h *tar.Header) error {
	var st unix.Stat_t
	if err := unix.Fstatat(t.dir, t.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return redress(t, h, &st)
}

// redress gives what is there the owner, mode, attributes and time that an
// entry has, and does nothing if it has them.
func redress(t target, h *tar.Header, st *unix.Stat_t) error {
	ts, err := unix.TimeToTimespec(h.ModTime)
	sameAt := h.Typeflag == tar.TypeDir || err != nil || st.Mtim == ts
	same := sameAt && int(st.Uid) == h.Uid && int(st.Gid) == h.Gid &&
		(h.Typeflag == tar.TypeSymlink || int64(st.Mode&0o7777) == h.Mode&0o7777)
	stripped, err := stripAttrs(t, h)
	if err != nil || same && stripped {
		return err
	}
	return dress(t, h)
}

// stripAttrs removes the attributes that an entry does not have, and reports
// whether those that it has are set. What [Extractor.Finish] sets is not.
func stripAttrs(t target, h *tar.Header) (same bool, err error) {
	names, err := attr(func(buf []byte) (int, error) { return unix.Llistxattr(t.path(), buf) })
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return false, os.NewSyscallError("listxattr", err)
	}
	want := wanted(t, h)
	missing := len(want)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if name == "" || !t.root.attr(name) {
			continue
		}
		value, ok := want[name]
		if !ok {
			if err := unix.Lremovexattr(t.path(), name); err != nil && !errors.Is(err, unix.ENODATA) {
				return false, os.NewSyscallError("removexattr", err)
			}
			continue
		}
		have, err := attr(func(buf []byte) (int, error) { return unix.Lgetxattr(t.path(), name, buf) })
		if err != nil {
			return false, os.NewSyscallError("getxattr", err)
		}
		if string(have) == value {
			missing--
		}
	}
	return missing == 0, nil
}

// wanted are the attributes that an entry has.
func wanted(t target, h *tar.Header) map[string]string {
	out := map[string]string{}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, attrRecord); ok && t.root.attr(name) && name != defaultACL {
			out[name] = value
		}
	}
	return out
}

func sameTime(t target, ts unix.Timespec) bool {
	var st unix.Stat_t
	err := unix.Fstatat(t.dir, t.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mtim == ts
}

// removeAll removes what base is in a directory, with all that is in it.
func removeAll(dir int, base string) error {
	err := unix.Unlinkat(dir, base, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	root, err := os.OpenRoot(reopenedFD(dir))
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // It was opened to be looked at.
	return root.RemoveAll(base)
}

// prune removes what the archive does not have from a directory, and from
// those in it.
func (r *rootDir) prune(ctx context.Context, at string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	dirs, err := r.pruneDir(at)
	if err != nil {
		return err
	}
	for _, name := range dirs {
		if err := r.prune(ctx, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

// pruneDir is prune for one directory. It returns the directories that stay.
func (r *rootDir) pruneDir(at string) (dirs []string, err error) {
	d, err := inroot.Open(r.dir, at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var st unix.Stat_t
		switch err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); {
		case err != nil:
			return nil, err
		case !r.seen.has(path.Join(at, name)):
			if err := removeAll(int(d.Fd()), name); err != nil {
				return nil, err
			}
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			dirs = append(dirs, name)
		}
	}
	return dirs, nil
}
