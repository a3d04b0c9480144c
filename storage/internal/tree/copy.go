// Package tree copies and measures directory trees as they are on the disk:
// holes, hard links, owners, extended attributes, devices and all.
package tree

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
)

// Copy makes dst, which does not exist, a copy of the directory src. Files
// share their blocks where the file system can do that.
func Copy(ctx context.Context, dst, src string) error {
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	return CopyInto(ctx, dst, src)
}

// CopyInto is [Copy] into the directory dst, which is empty.
func CopyInto(ctx context.Context, dst, src string) error {
	return Options{}.CopyInto(ctx, dst, src)
}

// CopyInto makes the directory dst, which is empty, a copy of src.
func (o Options) CopyInto(ctx context.Context, dst, src string) error {
	from, err := openDir(unix.AT_FDCWD, src)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openDir(unix.AT_FDCWD, dst)
	if err != nil {
		return err
	}
	defer to.Close()
	c := newCopier(to, o.Progress)
	if err := errors.Join(c.fill(ctx, to, from, ""), c.unpark()); err != nil {
		return fmt.Errorf("copy %s: %w", src, err)
	}
	return CopyAttrs(dst, src)
}

type inode struct{ dev, ino uint64 }

// A copier copies one tree, on several cores.
type copier struct {
	root     *os.File // Of the copy.
	progress func(int64)
	noClone  atomic.Bool   // Blocks cannot be shared.
	workers  chan struct{} // Has room for each goroutine that may work at once.

	mu     sync.Mutex // Guards what follows.
	firsts map[inode]*firstName
	parked []string // Names in root of files whose own are longer than a path can be.
}

// A firstName is the first name of a file with several that was come upon.
type firstName struct {
	at   string
	made chan struct{} // Closed when it is there, or never will be.
}

func newCopier(root *os.File, progress func(int64)) *copier {
	c := &copier{
		root: root, progress: progress, firsts: map[inode]*firstName{},
		workers: make(chan struct{}, max(2, runtime.GOMAXPROCS(0))),
	}
	c.workers <- struct{}{} // The caller.
	return c
}

// helpers copy directories of one directory beside whoever reads that.
type helpers struct {
	*errgroup.Group

	some bool // There are any.
}

// fill copies what is in the directory from. at is its path in the tree.
func (c *copier) fill(ctx context.Context, to, from *os.File, at string) error {
	group, ctx := errgroup.WithContext(ctx)
	h := &helpers{Group: group}
	err := c.fillBy(ctx, h, to, from, at)
	if !h.some {
		return err
	}
	<-c.workers // While it waits, another may work.
	gerr := group.Wait()
	c.workers <- struct{}{}
	if gerr != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return gerr
	}
	return err
}

// fillBy is fill that leaves directories to helpers when a core is free.
func (c *copier) fillBy(ctx context.Context, h *helpers, to, from *os.File, at string) error {
	for {
		names, err := from.Readdirnames(1024)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(names) == 0 {
			return ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, name := range names {
			if err := c.entry(ctx, h, to, from, path.Join(at, name)); err != nil {
				return err
			}
		}
	}
}

func (c *copier) entry(ctx context.Context, h *helpers, to, from *os.File, at string) error {
	crash.Within("a tree is copied")
	name := path.Base(at)
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return pathError("stat", at, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1:
		return c.linked(to, from, at, &st)
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return pathError("copy", at, c.leaf(to, from, names{name, name}, &st))
	}
	select {
	case c.workers <- struct{}{}:
		h.some = true
		h.Go(func() error {
			defer func() { <-c.workers }()
			return c.dir(ctx, to, from, at, &st)
		})
		return nil
	default:
		return c.dir(ctx, to, from, at, &st)
	}
}

// linked copies a file with several names: the first of them.
func (c *copier) linked(to, from *os.File, at string, st *unix.Stat_t) error {
	id, name := inode{st.Dev, st.Ino}, path.Base(at)
	c.mu.Lock()
	first, ok := c.firsts[id]
	if !ok {
		first = &firstName{at, make(chan struct{})}
		c.firsts[id] = first
	}
	c.mu.Unlock()
	if !ok {
		defer close(first.made)
		err := c.leaf(to, from, names{name, name}, st)
		if err == nil && len(at) >= unix.PathMax {
			first.at, err = c.park(to, name)
		}
		return pathError("copy", short(at), err)
	}
	<-first.made
	return pathError("link", short(at), unix.Linkat(int(c.root.Fd()), first.at, int(to.Fd()), name, 0))
}

// park gives a file a name in the root of the copy, by which it can be linked
// to.
func (c *copier) park(dir *os.File, name string) (string, error) {
	at := ".linked-" + rand.Text()
	if err := unix.Linkat(int(dir.Fd()), name, int(c.root.Fd()), at, 0); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parked = append(c.parked, at)
	return at, nil
}

// unpark removes these names.
func (c *copier) unpark() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var failed error
	for _, at := range c.parked {
		failed = errors.Join(failed, pathError("remove", at, unix.Unlinkat(int(c.root.Fd()), at, 0)))
	}
	return failed
}

// names are those of a file in the copy's and the source's directory.
type names struct{ to, from string }

// leaf copies what is no directory.
func (c *copier) leaf(to, from *os.File, n names, st *unix.Stat_t) (err error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(to, from, n, st)
	case unix.S_IFLNK:
		err = symlink(to, from, n)
	default:
		err = unix.Mknodat(int(to.Fd()), n.to, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	return copyAttrs(procPath(to, n.to), procPath(from, n.from), st)
}

func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: path, Err: err}
}

// short is a path as messages can have it.
func short(at string) string {
	if len(at) < unix.PathMax {
		return at
	}
	const shown = 100
	return at[:shown] + "..." + at[len(at)-shown:]
}

// checkPath refuses what would take too many open directories, and what cannot
// be named where paths are told to others.
func checkPath(at string) error {
	if len(at) >= unix.PathMax {
		return errs.Newf(errs.Unsupported, "a path in it is longer than the %d bytes that a path can have: %.200s...", unix.PathMax, at)
	}
	return nil
}

// dir copies a directory.
func (c *copier) dir(ctx context.Context, to, from *os.File, at string, st *unix.Stat_t) error {
	name := path.Base(at)
	if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil {
		return err
	}
	subFrom, err := openDir(int(from.Fd()), name)
	if err != nil {
		return err
	}
	defer subFrom.Close()
	subTo, err := openDir(int(to.Fd()), name)
	if err != nil {
		return err
	}
	defer subTo.Close()
	if strings.Count(at, "/") < maxLevels {
		err = c.fill(ctx, subTo, subFrom, at)
	} else {
		err = c.deep(ctx, subTo, subFrom, at)
	}
	if err != nil {
		return err
	}
	return pathError("copy attributes of", short(at), dressDir(subTo, subFrom, st))
}

func dressDir(to, from *os.File, st *unix.Stat_t) error {
	buf := getChunk()
	defer chunks.Put(buf)
	return dress(int(to.Fd()), int(from.Fd()), st, buf)
}

// deep is fill for a directory that is deep in the tree.
func (c *copier) deep(ctx context.Context, to, from *os.File, at string) error {
	d := &descent{dirs: []*os.File{from, to}}
	d.entry = func(dirs []*os.File, name string) (bool, error) {
		from, to := dirs[0], dirs[1]
		var st unix.Stat_t
		if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return false, pathError("stat", name, err)
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFDIR:
			return true, pathError("make", name, unix.Mkdirat(int(to.Fd()), name, 0o700))
		case st.Nlink > 1:
			return false, c.linked(to, from, at+string(d.at)+"/"+name, &st)
		}
		return false, pathError("copy", name, c.leaf(to, from, names{name, name}, &st))
	}
	d.left = func(dirs []*os.File) error {
		var st unix.Stat_t
		if err := unix.Fstat(int(dirs[0].Fd()), &st); err != nil {
			return err
		}
		return dressDir(dirs[1], dirs[0], &st)
	}
	return pathError("copy what is deep in", short(at), d.run(ctx))
}

func symlink(to, from *os.File, name names) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(from.Fd()), name.from, buf)
	if err != nil {
		return err
	}
	return unix.Symlinkat(string(buf[:n]), int(to.Fd()), name.to)
}

// file copies a regular file. It works on bare descriptors: most files are so
// small that each call counts.
func (c *copier) file(to, from *os.File, name names, st *unix.Stat_t) (err error) {
	const flags = unix.O_NOFOLLOW | unix.O_CLOEXEC
	in, err := unix.Openat(int(from.Fd()), name.from, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in) //nolint:errcheck // Nothing was written.
	out, err := unix.Openat(int(to.Fd()), name.to, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|flags, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(out)) }()
	buf := getChunk()
	defer chunks.Put(buf)
	if err := c.contents(out, in, st, buf); err != nil {
		return err
	}
	if c.progress != nil {
		c.progress(st.Size)
	}
	return dress(out, in, st, buf)
}

// contents copies what is in a file.
func (c *copier) contents(out, in int, st *unix.Stat_t, buf *[chunk]byte) error {
	if st.Size == 0 {
		return nil
	}
	if !c.noClone.Load() {
		err := unix.IoctlFileClone(out, in)
		if err == nil {
			return nil
		}
		// Others say something of this file only, such as that it is not
		// stored by copy-on-write (EINVAL).
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOTTY) {
			c.noClone.Store(true)
		}
	}
	if st.Blocks*blockSize < st.Size || st.Size > chunk {
		if err := unix.Ftruncate(out, st.Size); err != nil {
			return err
		}
	}
	if st.Blocks*blockSize < st.Size {
		return copyData(out, in, st.Size, buf)
	}
	return copyRange(out, in, extent{0, st.Size}, buf)
}

// An extent is a part of a file.
type extent struct{ start, end int64 }

// copyData copies what is not a hole.
func copyData(out, in int, size int64, buf *[chunk]byte) error {
	for off := int64(0); off < size; {
		start, err := unix.Seek(in, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(in, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(out, in, extent{start, end}, buf); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// How much is read at once, and what is looked at for whether it is empty.
const (
	chunk = 256 << 10
	block = 4 << 10
	hole  = 64 << 10 // That is worth it to be left out.
)

var (
	chunks = sync.Pool{New: func() any { return new([chunk]byte) }}
	empty  [block]byte
)

// getChunk returns a buffer, to be put back into chunks.
func getChunk() *[chunk]byte {
	buf, ok := chunks.Get().(*[chunk]byte)
	if !ok {
		return new([chunk]byte)
	}
	return buf
}

// copyRange copies what is not zero, to where out has a hole. Files that were
// allocated ahead, such as journals, are mostly zeros, which some file systems
// take for data once they were read.
func copyRange(out, in int, part extent, buf *[chunk]byte) error {
	for at := part.start; at < part.end; {
		n, err := unix.Pread(in, buf[:min(chunk, part.end-at)], at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 { // The file became shorter.
			return nil
		}
		if err := writeBlocks(out, buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
		if at == part.end && !isEmpty(buf[(n-1)/block*block:n]) {
			return nil
		}
	}
	return extend(out, part.end)
}

// extend makes a file that ends in a hole as large as it is to be.
func extend(out int, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(out, &st); err != nil || st.Size >= size {
		return err
	}
	return unix.Ftruncate(out, size)
}

// writeBlocks writes what is not empty. Few empty blocks between others are
// written with them: a call for each of many pieces takes longer, and makes a
// file of many extents.
func writeBlocks(out int, data []byte, at int64) error {
	for from := 0; from < len(data); {
		to, next := run(data, from)
		if err := writeAll(out, data[from:to], at+int64(from)); err != nil {
			return err
		}
		from = next
	}
	return nil
}

// run returns the end of what is to be written from a block on, which is there
// if that is empty, and the block after the empty ones that follow.
func run(data []byte, from int) (to, next int) {
	to = from
	for next = from; next < len(data); next += block {
		after := min(next+block, len(data))
		if !isEmpty(data[next:after]) {
			to = after
			continue
		}
		if next-to >= hole || to == from {
			return to, after
		}
	}
	return to, next
}

func writeAll(out int, data []byte, at int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(out, data, at)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		data, at = data[max(n, 0):], at+int64(max(n, 0))
	}
	return nil
}

func isEmpty(b []byte) bool { return bytes.Equal(b, empty[:len(b)]) }

func openDir(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func openAt(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// procPath names a file in an open directory for calls that take paths only.
func procPath(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// CopyFile makes dst, which does not exist, a copy of src, which is no
// directory.
func CopyFile(dst, src string) error {
	from, err := openDir(unix.AT_FDCWD, path.Dir(src))
	if err != nil {
		return err
	}
	defer from.Close()
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return pathError("stat", src, err)
	}
	to, err := openDir(unix.AT_FDCWD, path.Dir(dst))
	if err != nil {
		return err
	}
	defer to.Close()
	c := newCopier(to, nil)
	return pathError("copy", src, c.leaf(to, from, names{path.Base(dst), path.Base(src)}, &st))
}
