package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// An Image is a file that stands for the disk of a pool.
type Image struct {
	Path string
	For  string // What is on it, such as "a btrfs".
	Min  int64  // The least size for that, in bytes.
}

// The size of the file if none is given.
const (
	minDefault = 5 << 30
	maxDefault = 30 << 30
)

// Make makes the file, or takes the one that is the pool's source, and makes
// it as large as the key "size" says, if it is smaller. It returns the file's
// size. Before that it calls check, unless that is nil.
func (i Image) Make(cfg storage.Config, u *undo.Stack, check func() error) (int64, error) {
	size, err := i.wanted(cfg)
	if err != nil {
		return 0, err
	}
	flags := os.O_WRONLY
	if cfg.Source == "" {
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(i.Path, flags, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if cfg.Source == "" {
		u.Push("remove the file", func(context.Context) error { return os.Remove(i.Path) })
	}
	if check != nil {
		if err := check(); err != nil {
			return 0, err
		}
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() >= size {
		return st.Size(), nil
	}
	return size, f.Truncate(size)
}

// wanted returns the least size of the file, in bytes; 0 if it is there and no
// other is wanted.
func (i Image) wanted(cfg storage.Config) (int64, error) {
	if s := cfg.Options["size"]; s != "" {
		size, err := units.ParseBytes(s)
		if err != nil {
			return 0, fmt.Errorf("key \"size\": %w", err)
		}
		if size < i.Min {
			return 0, errs.Invalidf("key \"size\": %s is too small for %s: give at least %dMiB", s, i.For, i.Min>>20)
		}
		return size, nil
	}
	if cfg.Source != "" {
		return 0, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(cfg.Dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: cfg.Dir, Err: err}
	}
	free := int64(st.Bavail) * st.Bsize
	return max(minDefault, min(maxDefault, free/5>>20<<20)), nil
}

// Holds reports whether there is anything in the file but zeros. That it is no
// file system that is known does not make it worthless, as on a device that
// was taken out of use.
func (i Image) Holds() (bool, error) {
	f, err := os.Open(i.Path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buf, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // From here on there is a hole.
			return false, nil
		}
		if err != nil {
			return false, &os.PathError{Op: "seek", Path: i.Path, Err: err}
		}
		n, err := f.ReadAt(buf, at)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		at += int64(n)
	}
}

// Clear removes all that the file has, and keeps its size.
func Clear(f *os.File, size int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size)
	return os.NewSyscallError("fallocate", err)
}
