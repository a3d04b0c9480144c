package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Usage returns the bytes on the disk that a directory tree occupies and
// shares with nothing. Where file systems share blocks between files it reads
// each file's map. The tree may change meanwhile: no link is followed.
func Usage(ctx context.Context, root string) (int64, error) {
	shares, err := canShare(root)
	if err != nil {
		return 0, err
	}
	dir, err := openDir(unix.AT_FDCWD, root)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	m := &meter{shares: shares, seen: map[inode]bool{}}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return 0, pathError("stat", root, err)
	}
	m.total = st.Blocks * blockSize
	err = m.dir(ctx, dir, 0)
	return m.total, err
}

// blockSize is the unit of a file's count of blocks.
const blockSize = 512

// A meter measures one tree.
type meter struct {
	shares bool // Files can share blocks.
	seen   map[inode]bool
	total  int64
}

// dir adds what is in a directory. What goes away meanwhile does not count.
func (m *meter) dir(ctx context.Context, d *os.File, depth int) error {
	if depth == maxLevels {
		return m.deep(ctx, d)
	}
	for {
		names, err := d.Readdirnames(1024)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if len(names) == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		for _, name := range names {
			if err := m.entry(ctx, d, name, depth); err != nil && !wentAway(err) {
				return err
			}
		}
	}
}

// wentAway reports whether an error is that something is there no more, or is
// no directory any more.
func wentAway(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// deep is dir for one that is deep in the tree. What is moved meanwhile does
// not count, nor what would have come after it.
func (m *meter) deep(ctx context.Context, d *os.File) error {
	walk := descent{dirs: []*os.File{d}, entry: func(dirs []*os.File, name string) (bool, error) {
		isDir, err := m.add(dirs[0], name)
		if err != nil && wentAway(err) {
			return false, nil
		}
		return isDir, err
	}}
	if err := walk.run(ctx); err != nil && !wentAway(err) && !errors.Is(err, errMoved) {
		return err
	}
	return nil
}

func (m *meter) entry(ctx context.Context, d *os.File, name string, depth int) error {
	isDir, err := m.add(d, name)
	if err != nil || !isDir {
		return err
	}
	sub, err := openDir(int(d.Fd()), name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return m.dir(ctx, sub, depth+1)
}

// add adds a file, or a directory without what is in it.
func (m *meter) add(d *os.File, name string) (isDir bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, pathError("stat", name, err)
	}
	kind := st.Mode & unix.S_IFMT
	if id := (inode{st.Dev, st.Ino}); st.Nlink > 1 && kind != unix.S_IFDIR {
		if m.seen[id] {
			return false, nil
		}
		m.seen[id] = true
	}
	m.total += st.Blocks * blockSize
	if kind == unix.S_IFREG && m.shares && st.Blocks > 0 {
		m.total -= shared(d, name, st.Blocks*blockSize)
	}
	return kind == unix.S_IFDIR, nil
}

func canShare(path string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return fs.Type == unix.BTRFS_SUPER_MAGIC || fs.Type == unix.XFS_SUPER_MAGIC, nil
}

const (
	iocFiemap        = 0xc020660b
	fiemapLast       = 0x1
	fiemapShared     = 0x2000
	fiemapExtentsMax = 512
)

type fiemap struct {
	start, length       uint64
	flags, mapped, room uint32
	_                   uint32
	extents             [fiemapExtentsMax]fiemapExtent
}

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// shared returns how many of a file's bytes are shared; at most limit.
func shared(dir *os.File, name string, limit int64) int64 {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var sum uint64
	m := &fiemap{length: ^uint64(0), room: fiemapExtentsMax}
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), iocFiemap, uintptr(unsafe.Pointer(m)))
		if errno != 0 || m.mapped == 0 {
			break
		}
		last := m.extents[m.mapped-1]
		for _, e := range m.extents[:m.mapped] {
			if e.flags&fiemapShared != 0 {
				sum += e.length
			}
		}
		if last.flags&fiemapLast != 0 {
			break
		}
		m.start, m.length, m.mapped = last.logical+last.length, ^uint64(0)-last.logical-last.length, 0
	}
	return min(int64(sum), limit)
}
