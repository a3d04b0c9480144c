package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/landlock"
	"github.com/cuib/cuib/shared/run"
)

// Unsquash unpacks the squashfs file into dir, which exists.
func Unsquash(ctx context.Context, file, dir string) error {
	if err := run.Look("unsquashfs", "squashfs-tools"); err != nil {
		return err
	}
	err := run.Program{
		Args: []string{"unsquashfs", "-force", "-no-progress", "-strict-errors", "-dest", dir, file},
		Cage: func() error { return landlock.WriteBelow(dir) },
	}.Run(ctx)
	if err != nil {
		return unsquashError(err)
	}
	return clean(dir)
}

// unsquashError tells a bad archive from a full disk.
func unsquashError(err error) error {
	failed, ok := errors.AsType[*run.Error](err)
	switch {
	case !ok, errs.KindOf(err) != errs.Internal:
		return err
	case strings.Contains(strings.ToLower(failed.Stderr), "no space left"):
		return fmt.Errorf("%w: %w", unix.ENOSPC, err)
	}
	return asInvalid(err)
}

// clean removes what [Extract] would not have unpacked. Nobody else has the
// directory yet, so there is nothing to race with.
func clean(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeDevice != 0 {
			return os.Remove(path)
		}
		return cleanAttrs(path)
	})
}

func cleanAttrs(path string) error {
	n, err := unix.Llistxattr(path, nil)
	if err != nil || n == 0 {
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		return err
	}
	names := make([]byte, n)
	if n, err = unix.Llistxattr(path, names); err != nil {
		return err
	}
	for name := range bytes.SplitSeq(names[:n], []byte{0}) {
		if len(name) == 0 || guestAttr(string(name)) || bytes.HasPrefix(name, []byte("security.")) {
			continue
		}
		if err := unix.Lremovexattr(path, string(name)); err != nil && !errors.Is(err, unix.ENODATA) {
			return fmt.Errorf("remove attribute %s of %q: %w", name, path, err)
		}
	}
	return nil
}

// CheckSquashfs reports whether the file of the given size, which begins a
// squashfs, is all there.
func CheckSquashfs(r io.ReaderAt, size int64) error {
	var super struct {
		Magic, Inodes, Time, BlockSize, Fragments uint32
		Compression, BlockLog, Flags, IDs         uint16
		Major, Minor                              uint16
		Root, Used                                uint64
	}
	if err := binary.Read(io.NewSectionReader(r, 0, size), binary.LittleEndian, &super); err != nil {
		return errs.Newf(errs.Invalid, "bad archive: %w", err)
	}
	if super.Major != 4 || super.BlockLog < 12 || super.BlockLog > 20 || super.BlockSize != 1<<super.BlockLog {
		return errs.Invalidf("bad archive: not a squashfs of version 4")
	}
	if super.Used > uint64(size) { //nolint:gosec // A size is not negative.
		return errs.Invalidf("bad archive: the squashfs is cut off: %d bytes of %d are there", size, super.Used)
	}
	return nil
}
