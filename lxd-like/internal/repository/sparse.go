package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// hole is how much of a file must not be on the disk before it is worth the
// name of sparse. Small holes cost less than to look for them.
const hole = 1 << 20

// A tree is what a look at all files of a volume tells.
type tree struct {
	size   int64
	sparse []byte // Paths of files with large holes, each ended by a NUL.
}

// survey looks at all files below dir.
func survey(ctx context.Context, dir string) (tree, error) {
	var t tree
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		t.size += info.Size()
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && info.Size()-st.Blocks*512 >= hole {
			t.sparse = append(append(t.sparse, strings.TrimPrefix(path, dir+"/")...), 0)
		}
		return nil
	})
	return t, err
}

// dig makes holes of the zeros in the files that had some: restic writes all
// of a file.
func dig(ctx context.Context, dir string, sparse []byte) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // It is only read.
	for path := range strings.SplitSeq(strings.TrimSuffix(string(sparse), "\x00"), "\x00") {
		err := digFile(ctx, root, path)
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("make %s sparse: %w", path, err)
		}
	}
	return nil
}

func digFile(ctx context.Context, root *os.Root, path string) error {
	f, err := root.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if err := digZeros(ctx, f, info.Size()); err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	times := []unix.Timespec{unix.Timespec(st.Atim), unix.Timespec(st.Mtim)}
	return unix.UtimesNanoAt(int(f.Fd()), "", times, unix.AT_EMPTY_PATH)
}

// digZeros punches holes where whole blocks are zero.
func digZeros(ctx context.Context, f *os.File, size int64) error {
	const block = 64 << 10
	buf, zeros := make([]byte, block), make([]byte, block)
	start := int64(-1) // Where the zeros began.
	for at := int64(0); ; at += block {
		n := 0
		if at < size {
			var err error
			if n, err = f.ReadAt(buf, at); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		isZero := n > 0 && bytes.Equal(buf[:n], zeros[:n])
		switch {
		case isZero && start < 0:
			start = at
		case !isZero && start >= 0:
			err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, start, min(at, size)-start)
			if err != nil {
				return err
			}
			start = -1
		}
		if at >= size {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
