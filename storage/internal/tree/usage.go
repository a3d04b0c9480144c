package tree

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Usage returns the bytes on the disk that a directory tree occupies and
// shares with nothing. Where file systems share blocks between files it reads
// each file's map.
func Usage(ctx context.Context, root string) (int64, error) {
	shares, err := canShare(root)
	if err != nil {
		return 0, err
	}
	var total int64
	seen := map[inode]bool{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return ctx.Err() // It went away: guests run.
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return ctx.Err()
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if id := (inode{st.Dev, st.Ino}); st.Nlink > 1 && !d.IsDir() {
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		total += st.Blocks * 512
		if shares && d.Type().IsRegular() && st.Blocks > 0 {
			total -= shared(path, st.Blocks*512)
		}
		return ctx.Err()
	})
	return total, err
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
func shared(path string, limit int64) int64 {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
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
