package zfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Diff implements [storage.Differ]. ZFS tells what was touched; only that is
// compared.
func (d *driver) Diff(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	older, err := d.locate(ctx, from)
	if err != nil {
		return err
	}
	newer, err := d.locate(ctx, to)
	if err != nil {
		return err
	}
	return looked(older, from, func(a string) error {
		return looked(newer, to, func(b string) error {
			if from == to {
				return nil
			}
			own := d.dataset(to)
			if strings.HasPrefix(older, own+"/") || strings.HasPrefix(newer, own+"/") { // They have not one past.
				return tree.Diff(ctx, a, b, fn)
			}
			paths, err := d.touched(ctx, to.Parent(), older, newer)
			if err != nil {
				return err
			}
			return tree.DiffPaths(ctx, a, b, paths, fn)
		})
	})
}

// looked runs fn with a directory that has the files of a dataset or a
// snapshot with their owners as they are, however it is mounted.
func looked(name string, v storage.Volume, fn func(dir string) error) (err error) {
	f, err := mountDataset(name, mounts.Options{ReadOnly: v.Snapshot != ""})
	if err != nil {
		return missing(err, v)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return fn(fmt.Sprintf("/proc/self/fd/%d/.", f.Fd()))
}

// touched returns the paths that ZFS knows to have changed in a volume, which
// must be mounted for that.
func (d *driver) touched(ctx context.Context, v storage.Volume, from, to string) (paths tree.Paths, err error) {
	mounted, err := d.points.Mounted(v)
	if err != nil {
		return nil, err
	}
	dir := d.points.Path(v)
	if !mounted {
		if dir, err = d.Mount(ctx, v, nil); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, d.Unmount(context.WithoutCancel(ctx), v)) }()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(sendTo(ctx, w, "diff", "-H", from, to)) }() // It never fails.
	paths, err = parseDiff(r, dir)
	return paths, errors.Join(err, r.Close())
}

// parseDiff returns the paths in what zfs diff writes of what is mounted at
// dir. What was renamed may have had other changes: all in it is looked at.
func parseDiff(r io.Reader, dir string) (tree.Paths, error) {
	paths := tree.Paths{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) < 2 {
			return nil, errs.Newf(errs.Internal, "zfs diff: %q", lines.Text())
		}
		if f[0] == "R" && len(f) > 2 {
			paths.TouchAll(below(dir, f[1]))
			paths.TouchAll(below(dir, f[2]))
			continue
		}
		if f[0] == "+" { // Perhaps in the place of what was of another type.
			paths.TouchAll(below(dir, f[1]))
			continue
		}
		paths.Touch(below(dir, f[1]))
	}
	return paths, lines.Err()
}

// below returns a path of zfs diff relative to the directory.
func below(dir, name string) string {
	name = path.Clean(unmangle(name))
	if rel, ok := strings.CutPrefix(name, dir+"/"); ok {
		return rel
	}
	return "."
}

// unmangle undoes the escapes of zfs diff: a backslash and four octal digits.
func unmangle(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+5], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 4
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
