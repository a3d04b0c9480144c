package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/thread"
)

// An Overlay is a stack of directories mounted as one. Its directories are
// below Root, on one file system, and named relative to it.
type Overlay struct {
	Root  string
	Lower []string // The uppermost first; at least one, or two without an upper one.
	Upper string   // Empty for a read-only overlay.
	Work  string
	IDs   idmap.Map // Nil for the owners as they are.
}

// byPaths is set once the kernel refused layers by descriptors.
var byPaths atomic.Bool

// Mount returns the overlay as a detached mount. Layers keep their owners:
// with IDs it is their mounts that are mapped, and what the overlay itself
// makes in the upper directory belongs to the mapped root.
//
// Writers are held to the file system's quotas and reserve, whoever mounts.
func (o Overlay) Mount() (*os.File, error) {
	for _, dir := range append([]string{o.Upper, o.Work}, o.Lower...) {
		if strings.ContainsAny(dir, `:,\`) || filepath.IsAbs(dir) {
			return nil, errs.Invalidf("layer %q: it has a character of \":,\\\", or is absolute", dir)
		}
	}
	if byPaths.Load() {
		return o.mountByPath()
	}
	f, err := o.mountByFD()
	if err == nil || !tooOld(err) {
		return f, err
	}
	f, olderr := o.mountByPath()
	if olderr != nil {
		return nil, errors.Join(err, olderr)
	}
	byPaths.Store(true)
	return f, nil
}

// tooOld reports whether mountByFD may have failed because the kernel is old.
func tooOld(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}

// mountByFD is for kernels that take layers as descriptors (6.13), also of
// detached mounts (6.15).
func (o Overlay) mountByFD() (_ *os.File, err error) {
	root, err := o.openRoot()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen overlay", err)
	}
	fs := os.NewFile(uintptr(fsfd), "overlay")
	defer fs.Close()
	if err := o.configure(root, fs); err != nil {
		return nil, fmt.Errorf("configure overlay: %w", explain(fs, err))
	}
	var fd int
	err = o.asRoot(func() error {
		if err := unix.FsconfigCreate(int(fs.Fd())); err != nil {
			return explain(fs, err)
		}
		fd, err = unix.Fsmount(int(fs.Fd()), unix.FSMOUNT_CLOEXEC, o.attrs())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("mount overlay: %w", err)
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

func (o Overlay) attrs() int {
	if o.Upper == "" {
		return unix.MOUNT_ATTR_RDONLY
	}
	return 0
}

// openRoot opens the directory that the layers are in, with mapped ids.
func (o Overlay) openRoot() (*os.File, error) {
	if o.IDs != nil {
		return Tree(o.Root, Options{IDs: o.IDs})
	}
	fd, err := unix.Open(o.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: o.Root, Err: err}
	}
	return os.NewFile(uintptr(fd), o.Root), nil
}

func (o Overlay) configure(root, fs *os.File) error {
	set := func(key, dir string) error {
		fd, err := unix.Openat(int(root.Fd()), dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: filepath.Join(o.Root, dir), Err: err}
		}
		defer unix.Close(fd) //nolint:errcheck // Nothing was written.
		return unix.FsconfigSetFd(int(fs.Fd()), key, fd)
	}
	for _, dir := range o.Lower {
		if err := set("lowerdir+", dir); err != nil {
			return err
		}
	}
	if o.Upper != "" {
		if err := errors.Join(set("upperdir", o.Upper), set("workdir", o.Work)); err != nil {
			return err
		}
	}
	for _, opt := range features {
		key, value, _ := strings.Cut(opt, "=")
		if err := unix.FsconfigSetString(int(fs.Fd()), key, value); err != nil {
			return err
		}
	}
	if o.Upper == "" {
		return unix.FsconfigSetFlag(int(fs.Fd()), "ro")
	}
	return nil
}

// features are what all overlays have: directories of lower layers can be
// renamed, and the layers mean the same under whatever they are stacked with.
var features = []string{"redirect_dir=on", "index=off", "metacopy=off"}

// explain adds what the kernel says about a failed mount.
func explain(fs *os.File, err error) error {
	var buf [4096]byte
	for {
		n, rerr := unix.Read(int(fs.Fd()), buf[:])
		if rerr != nil || n <= 0 {
			return err
		}
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(buf[:n])))
	}
}

// mountByPath is for older kernels. The layers' mounts are attached in a
// mount namespace of a thread of its own, and go away with both.
func (o Overlay) mountByPath() (*os.File, error) {
	uid, gid, err := o.root()
	if err != nil {
		return nil, err
	}
	root, err := Tree(o.Root, Options{IDs: o.IDs})
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var fd int
	err = inMountNS(func() error {
		if err := Attach(root, scratch); err != nil {
			return err
		}
		if err := unix.Chdir(scratch); err != nil {
			return os.NewSyscallError("chdir", err)
		}
		err := withIDs(uid, gid, func() error {
			return unix.Mount("overlay", place, "overlay", o.flags(), o.data())
		})
		if err != nil {
			return fmt.Errorf("mount overlay (the kernel's log says more): %w", err)
		}
		fd, err = unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "overlay"), nil
}

// Directories that every host has, for private mounts.
const scratch, place = "/sys", "/proc"

func (o Overlay) flags() uintptr {
	if o.Upper == "" {
		return unix.MS_RDONLY
	}
	return 0
}

func (o Overlay) data() string {
	opts := []string{"lowerdir=" + strings.Join(o.Lower, ":")}
	if o.Upper != "" {
		opts = append(opts, "upperdir="+o.Upper, "workdir="+o.Work)
	}
	return strings.Join(append(opts, features...), ",")
}

// inMountNS runs fn in a mount namespace of its own, from which nothing
// reaches others.
func inMountNS(fn func() error) (err error) {
	thread.Do(func() {
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err == nil {
			err = fn()
		}
	})
	return err
}

// asRoot runs fn with the file system ids of the mapped root, all other
// powers of the daemon, and without the one to exceed quotas.
func (o Overlay) asRoot(fn func() error) error {
	uid, gid, err := o.root()
	if err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := withIDs(uid, gid, fn)
		if !errors.Is(err, errNotRestored) {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// root returns the host's ids of the instance's root.
func (o Overlay) root() (uid, gid int, err error) {
	if o.IDs == nil {
		return 0, 0, nil
	}
	uid, gid = -1, -1
	for _, e := range o.IDs {
		if e.Inside == 0 && e.UID {
			uid = int(e.Host)
		}
		if e.Inside == 0 && e.GID {
			gid = int(e.Host)
		}
	}
	if uid < 0 || gid < 0 {
		return 0, 0, errs.Invalidf("the id map has no root: map user and group 0")
	}
	return uid, gid, nil
}

var errNotRestored = errors.New("the thread's powers were not restored")

func withIDs(uid, gid int, fn func() error) (err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps, less [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	less = caps
	less[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	defer func() {
		if rerr := errors.Join(setIDs(0, 0), unix.Capset(&hdr, &caps[0])); rerr != nil {
			err = fmt.Errorf("%w: %w", errNotRestored, errors.Join(err, rerr))
		}
	}()
	if err := setIDs(uid, gid); err != nil {
		return err
	}
	if err := unix.Capset(&hdr, &less[0]); err != nil {
		return os.NewSyscallError("capset", err)
	}
	return fn()
}

// setIDs sets the file system ids of this thread.
func setIDs(uid, gid int) error {
	for _, set := range []struct {
		fn func(int) (int, error)
		id int
	}{{unix.SetfsgidRetGid, gid}, {unix.SetfsuidRetUid, uid}} {
		if _, err := set.fn(set.id); err != nil {
			return err
		}
		// The call reports nothing; asked with an id that is none, it tells.
		if now, err := set.fn(-1); err != nil || now != set.id {
			return errs.Newf(errs.Internal, "set the file system id %d: it is %d", set.id, now)
		}
	}
	return nil
}
