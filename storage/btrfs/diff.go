package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Diff implements [storage.Differ]. The kernel tells in a stream without data
// what was touched, in the time that this takes; only that is compared.
func (d *driver) Diff(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	err := d.readOnly(from, func(a string) error {
		return d.readOnly(to, func(b string) error {
			if from == to {
				return nil
			}
			paths, err := touched(ctx, a, b)
			if err != nil {
				return err
			}
			return tree.DiffPaths(ctx, a, b, paths, fn)
		})
	})
	if err != nil {
		return fmt.Errorf("compare volumes %s and %s: %w", from, to, err)
	}
	return nil
}

// touched returns the paths that a stream from one subvolume to another is
// about.
func touched(ctx context.Context, from, to string) (tree.Paths, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := send(ctx, pw, "--no-data", "-p", from, to)
		_ = pw.CloseWithError(err) // It never fails.
		sent <- err
	}()
	paths, err := pathsIn(pr)
	_ = pr.CloseWithError(errPassed) // It never fails.
	if serr := <-sent; serr != nil && !errors.Is(serr, errPassed) {
		return nil, serr
	}
	return paths, err
}

// pathsIn returns the paths that a stream is about. What was renamed may have
// had changes under a name that was for a moment only: all in it is looked at.
func pathsIn(r io.Reader) (tree.Paths, error) {
	commands, _, err := newCommandReader(r)
	if err != nil {
		return nil, err
	}
	paths := tree.Paths{}
	for {
		c, err := commands.next()
		if err != nil {
			return nil, err
		}
		switch c.cmd {
		case cmdEnd:
			return paths, nil
		case cmdSubvol, cmdSnapshot:
		case cmdRename:
			paths.TouchAll(path.Clean(c.path()))
			paths.TouchAll(path.Clean(string(c.attrs[attrPathTo])))
		case cmdLink:
			paths.Touch(path.Clean(c.path()))
			paths.Touch(path.Clean(string(c.attrs[attrPathLink])))
		default:
			paths.Touch(path.Clean(c.path()))
		}
	}
}

var _ storage.Differ = (*driver)(nil)
