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
	err := os.Remove(path)
	if errors.Is(err, unix.EPERM) {
		loosen(unix.AT_FDCWD, path)
		err = os.Remove(path)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
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
	err = unlink(dir, name)
	if errors.Is(err, unix.EPERM) {
		loosen(int(dir.Fd()), ".")
		loosen(int(dir.Fd()), name)
		err = unlink(dir, name)
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

// unlink removes a name that is no directory with anything in it.
func unlink(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // POSIX says the latter.
		if derr := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR); !errors.Is(derr, unix.ENOTDIR) {
			err = derr
		}
	}
	return err
}

// The flags of include/uapi/linux/fs.h that keep a file from being removed: a
// guest that is privileged can set them.
const stuck = 0x10 | 0x20 // FS_IMMUTABLE_FL, FS_APPEND_FL

// loosen takes such flags from a file or directory. If it cannot, the removal
// that follows fails, and says why.
func loosen(dir int, name string) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if kind := st.Mode & unix.S_IFMT; err != nil || kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&stuck != 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^stuck))
	}
}
