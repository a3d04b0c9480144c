// Package mounts makes and finds mounts of Linux: idmapped ones, overlays,
// loop devices.
//
// What is made is a detached mount, known by a file descriptor alone, until
// [Attach] gives it a place. Nobody else sees it before, and it goes away
// with its descriptor.
package mounts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

// Options say how a tree is mounted.
type Options struct {
	IDs      idmap.Map // Nil for the owners as they are.
	ReadOnly bool
	Config   []string // Of a new file system: words such as "dirsync" and "size=1m".
}

// Tree returns a detached mount of the directory at path.
func Tree(path string, o Options) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err := setAttr(f, o); err != nil {
		err = errors.Join(err, f.Close())
		if errors.Is(err, errForeign) {
			return treeByProgram(path, o)
		}
		return nil, err
	}
	return f, nil
}

// setAttr changes a detached mount.
func setAttr(f *os.File, o Options) error {
	var attr unix.MountAttr
	if o.ReadOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if o.IDs != nil {
		ns, err := UserNS(o.IDs)
		if err != nil {
			return err
		}
		defer ns.Close()
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(ns.Fd())
	}
	if attr.Attr_set == 0 {
		return nil
	}
	err := unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, &attr)
	if o.IDs != nil && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) && contained()) {
		return &os.PathError{Op: "mount_setattr", Path: f.Name(), Err: errForeign}
	}
	if errors.Is(err, unix.EINVAL) && o.IDs != nil {
		return errs.Newf(errs.Unsupported, "the file system of %s, or the kernel, has no idmapped mounts", f.Name())
	}
	if err != nil {
		return &os.PathError{Op: "mount_setattr", Path: f.Name(), Err: err}
	}
	return nil
}

// Attach mounts the detached mount f on the directory dst.
func Attach(f *os.File, dst string) error {
	err := unix.MoveMount(int(f.Fd()), "", unix.AT_FDCWD, dst, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", f.Name(), dst, err)
	}
	return nil
}

// Mounted reports whether something is mounted on path. There need be
// nothing at path.
func Mounted(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Unmount removes what is mounted on path, if anything is. Where it is in
// use it goes away for those who open it from now on, and for good with the
// last use.
func Unmount(path string) error {
	for {
		mounted, err := Mounted(path)
		if err != nil || !mounted {
			return err
		}
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
}

// settling counts the mounts that are being taken apart.
var settling sync.WaitGroup

// Detach is [Unmount] without the wait: that of the last mount of an overlay
// writes out all of the file system below. [Settle] waits for it.
func Detach(path string) error {
	mounted, err := Mounted(path)
	if err != nil || !mounted {
		return err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
		return &os.PathError{Op: "unmount", Path: path, Err: errors.Join(err, unix.Close(fd))}
	}
	settling.Go(func() { _ = unix.Close(fd) }) // The last use, in most cases.
	return nil
}

// Settle waits until what [Detach] unmounted is gone.
func Settle() { settling.Wait() }

// Patiently calls fn until busy no longer holds for its error, for so long at
// most: a process that is on its way into a mount namespace has copies of all
// mounts for a moment, and the kernel takes those of one that ended apart a
// little later. It returns fn's last error, or that of ctx.
func Patiently(ctx context.Context, most time.Duration, busy func(error) bool, fn func() error) error {
	err := fn()
	for wait := 20 * time.Millisecond; busy(err) && wait < most; wait *= 2 {
		Settle()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		err = fn()
	}
	return err
}
