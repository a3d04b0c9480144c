package tree

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxOpen is how many directories of a tree are open at the same time.
const maxOpen = 64

// Remove is [os.RemoveAll] for trees that guests made, of any depth.
func Remove(path string) error { return remove(path, func() error { return nil }) }

// RemoveUntil is [Remove] until ctx ends: what is left then can be removed
// later.
func RemoveUntil(ctx context.Context, path string) error { return remove(path, ctx.Err) }

// remove is Remove until stop returns an error.
func remove(path string, stop func() error) error {
	if err := os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	root, err := openDir(unix.AT_FDCWD, path)
	if err != nil {
		return err
	}
	defer root.Close()
	r := remover{root, stop}
	for again := true; again; {
		if again, err = r.empty(root, 1); err != nil {
			return pathError("remove", path, err)
		}
	}
	return os.Remove(path)
}

// A remover removes what is below a directory. What is too deep it moves up
// into that, where it is found later.
type remover struct {
	root *os.File
	stop func() error
}

// empty removes what is in a directory at the depth. It reports whether
// something was moved up.
func (r remover) empty(dir *os.File, depth int) (moved bool, err error) {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	for {
		if err := r.stop(); err != nil {
			return moved, err
		}
		names, err := dir.Readdirnames(1024)
		if err != nil && !errors.Is(err, io.EOF) {
			return moved, err
		}
		if len(names) == 0 {
			return moved, nil
		}
		for _, name := range names {
			up, err := r.one(dir, name, depth)
			if err != nil {
				return moved, err
			}
			moved = moved || up
		}
	}
}

func (r remover) one(dir *os.File, name string, depth int) (moved bool, err error) {
	err = unix.Unlinkat(int(dir.Fd()), name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // POSIX says the latter.
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return false, nil
	case !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST):
		return false, err
	case depth >= maxOpen:
		return true, unix.Renameat(int(dir.Fd()), name, int(r.root.Fd()), ".deep-"+rand.Text())
	}
	sub, err := openDir(int(dir.Fd()), name)
	if err != nil {
		return false, err
	}
	defer sub.Close()
	if moved, err = r.empty(sub, depth+1); err != nil {
		return moved, err
	}
	return moved, unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
}
