package btrfs

import (
	"errors"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// Numbers of the kernel's interface, include/uapi/linux/btrfs{,_tree}.h.
const (
	iocResize        = 0x50009403
	iocTreeSearch    = 0xd0009411
	iocInoLookup     = 0xd0009412
	iocSnapCreate    = 0x50009417
	iocSubvolCreate  = 0x50009418
	iocQuotaCtl      = 0xc0109428
	iocQgroupCreate  = 0x4010942a
	iocQgroupLimit   = 0x8030942b
	iocRescanWait    = 0x942e
	iocSubvolRootref = 0xd000943d
	iocInoLookupUser = 0xd000943e
	iocSnapDestroy   = 0x5000943f

	subvolReadOnly  = 0x2
	quotaEnable     = 1
	limitReferenced = 0x1
	noLimit         = ^uint64(0)

	rootInode = 256 // Of each subvolume.
)

// volArgs is struct btrfs_ioctl_vol_args_v2.
type volArgs struct {
	fd    int64
	_     uint64
	flags uint64
	_     [4]uint64
	name  [4040]byte
}

func ioctl(f *os.File, req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), req, uintptr(arg))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		return nil
	}
}

// inDir calls an ioctl that names a subvolume in its directory.
func inDir(path string, req uintptr, args *volArgs) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	if len(name) > unix.NAME_MAX {
		return errs.Invalidf("the name %q is too long", name)
	}
	copy(args.name[:], name)
	return ioctl(dir, req, unsafe.Pointer(args))
}

// createSubvol makes an empty subvolume.
func createSubvol(path string) error {
	if err := inDir(path, iocSubvolCreate, &volArgs{}); err != nil {
		return &os.PathError{Op: "create subvolume", Path: path, Err: err}
	}
	return os.Chmod(path, 0o700)
}

// snapshot makes dst a snapshot of the subvolume src.
func snapshot(dst, src string, flags uint64) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := inDir(dst, iocSnapCreate, &volArgs{fd: int64(from.Fd()), flags: flags}); err != nil {
		return &os.PathError{Op: "create snapshot", Path: dst, Err: err}
	}
	return nil
}

// isSubvol reports whether a directory is the root of a subvolume.
func isSubvol(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino == rootInode, nil
}

// destroySubvol deletes a subvolume and those within it, and their quota
// groups.
func destroySubvol(path string) error {
	id, err := subvolID(path)
	if err != nil {
		return err
	}
	err = inDir(path, iocSnapDestroy, &volArgs{})
	if errors.Is(err, unix.ENOTEMPTY) {
		if err := destroyChildren(path); err != nil {
			return err
		}
		err = inDir(path, iocSnapDestroy, &volArgs{})
	}
	if err != nil {
		return &os.PathError{Op: "delete subvolume", Path: path, Err: err}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	// Newer kernels do it by themselves, later; without quotas there is none.
	_ = ioctl(dir, iocQgroupCreate, unsafe.Pointer(&struct{ create, id uint64 }{0, id}))
	return nil
}

func subvolID(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	args := struct {
		tree, object uint64
		_            [4080]byte
	}{object: rootInode}
	if err := ioctl(f, iocInoLookup, unsafe.Pointer(&args)); err != nil {
		return 0, &os.PathError{Op: "look up subvolume", Path: path, Err: err}
	}
	return args.tree, nil
}

// destroyChildren deletes the subvolumes that guests made in a subvolume.
func destroyChildren(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		inside, more, err := subvolsIn(f)
		if err != nil {
			return err
		}
		for _, child := range inside {
			if err := destroySubvol(filepath.Join(path, child)); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// subvolsIn returns the paths of the subvolumes in that which f is the root of;
// not those within these, and not all if there are more.
func subvolsIn(f *os.File) (paths []string, more bool, err error) {
	var refs struct {
		min   uint64
		refs  [255]struct{ tree, dir uint64 }
		items uint8
		_     [7]byte
	}
	err = ioctl(f, iocSubvolRootref, unsafe.Pointer(&refs))
	more = errors.Is(err, unix.EOVERFLOW)
	if err != nil && !more {
		return nil, false, &os.PathError{Op: "list subvolumes in", Path: f.Name(), Err: err}
	}
	for _, r := range refs.refs[:refs.items] {
		child, err := childPath(f, r.tree, r.dir)
		if err != nil {
			return nil, false, err
		}
		paths = append(paths, child)
	}
	return paths, more, nil
}

// childPath returns the path of a subvolume in the one that f is the root of.
func childPath(f *os.File, tree, dir uint64) (string, error) {
	args := struct {
		dir, tree uint64
		name      [256]byte
		path      [3824]byte
	}{dir: dir, tree: tree}
	if err := ioctl(f, iocInoLookupUser, unsafe.Pointer(&args)); err != nil {
		return "", &os.PathError{Op: "find a subvolume in", Path: f.Name(), Err: err}
	}
	return filepath.Join(unix.ByteSliceToString(args.path[:]), unix.ByteSliceToString(args.name[:])), nil
}

// setLimit limits the bytes that a subvolume refers to; [noLimit] for none.
func setLimit(path string, size uint64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	args := struct{ qgroup, flags, referenced, exclusive, _, _ uint64 }{flags: limitReferenced, referenced: size}
	err = ioctl(f, iocQgroupLimit, unsafe.Pointer(&args))
	if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.EINVAL) && size != noLimit {
		if err := enableQuotas(f); err != nil {
			return err
		}
		err = ioctl(f, iocQgroupLimit, unsafe.Pointer(&args))
	}
	if err != nil {
		return &os.PathError{Op: "limit the quota group of", Path: path, Err: err}
	}
	return nil
}

// enableQuotas has the file system count what each subvolume refers to, from
// what is there on.
func enableQuotas(f *os.File) error {
	args := struct{ cmd, status uint64 }{cmd: quotaEnable}
	if err := ioctl(f, iocQuotaCtl, unsafe.Pointer(&args)); err != nil {
		return errs.Newf(errs.Unsupported, "size limits need quotas of the btrfs, which cannot be enabled on %s: %w", f.Name(), err)
	}
	if err := ioctl(f, iocRescanWait, nil); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return &os.PathError{Op: "count the quotas of", Path: f.Name(), Err: err}
	}
	return nil
}

// resizeMax makes the file system as large as its device.
func resizeMax(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var args struct {
		fd   int64
		name [4088]byte
	}
	copy(args.name[:], "max")
	if err := ioctl(f, iocResize, unsafe.Pointer(&args)); err != nil {
		return &os.PathError{Op: "resize", Path: path, Err: err}
	}
	return nil
}
