package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Diff implements [storage.Differ]. What changed is in the layers that only
// one of the states has.
func (d *driver) Diff(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	err := errors.Join(d.Pool.MustExist(from), d.Pool.MustExist(to))
	switch {
	case err != nil:
	case from == to:
	case isPlain(from):
		err = tree.Diff(ctx, d.Pool.Path(from), d.Pool.Path(to), fn)
	default:
		err = d.diff(ctx, from, to, fn)
	}
	if err != nil {
		return fmt.Errorf("compare volumes %s and %s: %w", from, to, err)
	}
	return nil
}

func (d *driver) diff(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	a, err := d.stack(d.Pool.Path(from))
	if err != nil {
		return err
	}
	b, err := d.stack(d.Pool.Path(to))
	if err != nil {
		return err
	}
	common := 0
	for common < min(len(a), len(b)) && a[len(a)-1-common] == b[len(b)-1-common] {
		common++
	}
	paths := tree.Paths{}
	if common == 0 {
		paths.TouchAll(".")
	}
	for _, dir := range slices.Concat(a[:len(a)-common], b[:len(b)-common]) {
		if paths["."] {
			break
		}
		if err := layerPaths(ctx, filepath.Join(d.Pool.Root, dir), paths); err != nil {
			return err
		}
	}
	if len(paths) == 0 {
		return nil
	}
	return d.merged(a, func(before string) error {
		return d.merged(b, func(after string) error { return tree.DiffPaths(ctx, before, after, paths, fn) })
	})
}

// merged runs fn with a directory that has what layers make together.
func (d *driver) merged(dirs []string, fn func(dir string) error) error {
	if len(dirs) == 1 {
		return fn(filepath.Join(d.Pool.Root, dirs[0]))
	}
	f, err := mounts.Overlay{Root: d.Pool.Root, Lower: dirs}.Mount()
	if err != nil {
		return err
	}
	defer f.Close()
	return fn(fmt.Sprintf("/proc/self/fd/%d/.", f.Fd()))
}

// layerPaths adds the paths that a layer has something for. It may be written
// to meanwhile.
func layerPaths(ctx context.Context, dir string, paths tree.Paths) error {
	return filepath.WalkDir(dir, func(at string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && at != dir {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Clean(strings.TrimPrefix(at[len(dir):], "/"))
		if !e.IsDir() {
			paths.Touch(name)
			return nil
		}
		alone, err := hidesLower(at)
		if err != nil {
			return err
		}
		if alone {
			paths.TouchAll(name)
			return fs.SkipDir
		}
		paths.Touch(name)
		return nil
	})
}

// hidesLower reports whether a directory has nothing to do with what the
// layers below have under its name: it is new, or was renamed.
func hidesLower(dir string) (bool, error) {
	for _, name := range []string{opaqueAttr, redirectAttr} {
		_, err := unix.Lgetxattr(dir, name, nil)
		switch {
		case err == nil:
			return true, nil
		case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOENT):
			return false, &os.PathError{Op: "get " + name, Path: dir, Err: err}
		}
	}
	return false, nil
}

// The attributes by which overlayfs keeps what became of a directory.
const (
	opaqueAttr   = "trusted.overlay.opaque"
	redirectAttr = "trusted.overlay.redirect"
)

var _ storage.Differ = (*driver)(nil)
