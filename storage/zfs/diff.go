package zfs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Diff implements [storage.Differ].
func (d *driver) Diff(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	older, err := d.locate(ctx, from)
	if err != nil {
		return err
	}
	newer, err := d.locate(ctx, to)
	if err != nil {
		return err
	}
	a, _ := cut(older)
	b, _ := cut(newer)
	if a != b || a != d.dataset(to) { // They have not the same past.
		return d.compare(ctx, from, to, fn)
	}
	return wrapf(d.diff(ctx, to.Parent(), older, newer, fn), "compare %s with %s", from, to)
}

// mounted runs fn with the directory of a volume, which is mounted for that
// unless it is.
func (d *driver) mounted(ctx context.Context, v storage.Volume, fn func(dir string) error) (err error) {
	is, err := d.points.Mounted(v)
	if err != nil {
		return err
	}
	if is {
		return fn(d.points.Path(v))
	}
	dir, err := d.Mount(ctx, v, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Unmount(context.WithoutCancel(ctx), v)) }()
	return fn(dir)
}

// compare finds the changes by a look at all files.
func (d *driver) compare(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	return d.mounted(ctx, from, func(a string) error {
		return d.mounted(ctx, to, func(b string) error { return tree.Diff(ctx, a, b, fn) })
	})
}

// diff has ZFS compare two states of a volume, which it does while that is
// mounted.
func (d *driver) diff(ctx context.Context, v storage.Volume, from, to string, fn func(storage.Change) error) error {
	return d.mounted(ctx, v, func(dir string) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		r, w := io.Pipe()
		go func() { _ = w.CloseWithError(sendTo(ctx, w, "diff", "-F", "-H", from, to)) }() // It never fails.
		err := parseDiff(r, dir, fn)
		return errors.Join(err, r.Close())
	})
}

// parseDiff calls fn with the changes that zfs diff writes for what is mounted
// at dir.
func parseDiff(r io.Reader, dir string, fn func(storage.Change) error) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) < 3 {
			return errs.Newf(errs.Internal, "zfs diff: %q", lines.Text())
		}
		for _, c := range changesOf(f, dir) {
			if err := fn(c); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

// changesOf returns the changes of a line of zfs diff.
func changesOf(f []string, dir string) []storage.Change {
	mode := fileTypes[f[1]]
	change := func(op storage.ChangeOp, name string) []storage.Change {
		rel, below := strings.CutPrefix(path.Clean(unmangle(name)), dir+"/")
		if !below || rel == "" { // The root itself.
			return nil
		}
		return []storage.Change{{Op: op, Path: rel, Mode: mode}}
	}
	switch f[0] {
	case "+":
		return change(storage.Added, f[2])
	case "-":
		return change(storage.Removed, f[2])
	case "M":
		return change(storage.Modified, f[2])
	case "R":
		if len(f) > 3 {
			return append(change(storage.Removed, f[2]), change(storage.Added, f[3])...)
		}
	}
	return nil
}

// fileTypes are those of zfs diff.
var fileTypes = map[string]fs.FileMode{
	"/": fs.ModeDir,
	"@": fs.ModeSymlink,
	"|": fs.ModeNamedPipe,
	"=": fs.ModeSocket,
	"B": fs.ModeDevice,
	"C": fs.ModeDevice | fs.ModeCharDevice,
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
