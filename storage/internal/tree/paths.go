package tree

import (
	"context"
	"errors"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage"
)

// Paths are those of a tree that may have changed: true for a directory if
// anything below it may have too.
type Paths map[string]bool

// Touch adds a path.
func (p Paths) Touch(name string) {
	if _, ok := p[name]; !ok {
		p[name] = false
	}
}

// TouchAll adds a path with all below it.
func (p Paths) TouchAll(name string) { p[name] = true }

// DiffPaths is [Diff] that looks at some paths only. What is below a directory
// that was added or removed is told of too.
func DiffPaths(ctx context.Context, a, b string, paths Paths, fn func(storage.Change) error) error {
	if paths["."] {
		return Diff(ctx, a, b, fn)
	}
	return openBoth(a, b, func(before, after *os.File) error {
		d := differ{ctx: ctx, fn: fn}
		if _, ok := paths["."]; ok {
			if err := d.root(before, after); err != nil {
				return err
			}
		}
		x := somePaths{differ: d, before: before, after: after, paths: paths, done: map[string]bool{}}
		for _, at := range slices.Sorted(maps.Keys(paths)) { // Directories before what is in them.
			if at == "." || x.isDone(at) {
				continue
			}
			if err := x.one(at); err != nil {
				return err
			}
		}
		return nil
	})
}

// somePaths compares some paths of two trees.
type somePaths struct {
	differ

	before, after *os.File
	paths         Paths
	done          map[string]bool // The directories below which all was compared.
}

func (x somePaths) isDone(at string) bool {
	for i := strings.IndexByte(at, '/'); i >= 0; {
		if x.done[at[:i]] {
			return true
		}
		next := strings.IndexByte(at[i+1:], '/')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return false
}

func (x somePaths) one(at string) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	before, was, err := statBelow(x.before, at)
	if err != nil {
		return err
	}
	defer before.Close()
	after, st, err := statBelow(x.after, at)
	if err != nil {
		return err
	}
	defer after.Close()
	if was == nil && st == nil {
		return nil
	}
	x.shallow = !x.paths[at]
	x.done[at] = !x.shallow || was == nil || st == nil
	return x.entry(before, after, at, was, st)
}

// statBelow opens the directory of a path of a tree; nil if it is not there.
func statBelow(root *os.File, at string) (*os.File, *unix.Stat_t, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := unix.Openat2(int(root.Fd()), path.Dir(at), how)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, pathError("open", path.Dir(at), err)
	}
	dir := os.NewFile(uintptr(fd), path.Dir(at))
	st := &unix.Stat_t{}
	err = unix.Fstatat(fd, path.Base(at), st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return dir, nil, nil
	}
	if err != nil {
		dir.Close()
		return nil, nil, pathError("stat", at, err)
	}
	return dir, st, nil
}
