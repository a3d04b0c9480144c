package tree

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Directories calls fn with each directory of a tree, which may change
// meanwhile: no link is followed, and what is deeper than 1,000 directories
// is left out.
func Directories(ctx context.Context, root string, fn func(dir *os.File) error) error {
	dir, err := openDir(unix.AT_FDCWD, root)
	if err != nil {
		return err
	}
	defer dir.Close()
	return directories(ctx, dir, 0, fn)
}

const maxDepth = 1000

func directories(ctx context.Context, dir *os.File, depth int, fn func(dir *os.File) error) error {
	if err := errors.Join(ctx.Err(), fn(dir)); err != nil || depth == maxDepth {
		return err
	}
	for {
		entries, err := dir.ReadDir(1024)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			if err := subdirectory(ctx, dir, e.Name(), depth, fn); err != nil {
				return err
			}
		}
	}
}

func subdirectory(ctx context.Context, dir *os.File, name string, depth int, fn func(dir *os.File) error) error {
	sub, err := openDir(int(dir.Fd()), name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(directories(ctx, sub, depth+1, fn), sub.Close())
}
