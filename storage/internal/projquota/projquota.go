// Package projquota limits directory trees by the project quotas of ext4 and
// xfs.
package projquota

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Numbers of the kernel's interface, include/uapi/linux/{fs,quota}.h.
const (
	iocGetXattr = 0x801c581f
	iocSetXattr = 0x401c5820

	projInherit = 0x200

	projectQuota = 2
	qGetInfo     = 0x800005
	qGetQuota    = 0x800007
	qSetQuota    = 0x800008
	qifLimits    = 0x5 // Of space and of inodes.
)

type fsxattr struct {
	flags, extsize, nextents, project, cowextsize uint32
	_                                             [8]byte
}

type dqblk struct {
	bhard, bsoft, space, ihard, isoft, inodes, btime, itime uint64
	valid                                                   uint32
	_                                                       uint32
}

// blockSize is the unit of the limits.
const blockSize = 1024

// Check returns an error of kind Unsupported that says what is missing if the
// file system of path has no project quotas.
func Check(path string) error {
	fd, err := openDir(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var info [64]byte
	err = quotactl(fd, qGetInfo, 0, unsafe.Pointer(&info))
	if err == nil {
		return nil
	}
	var fs unix.Statfs_t
	hint := "its file system has none: use ext4, xfs or a btrfs pool"
	if unix.Fstatfs(fd, &fs) == nil {
		switch fs.Type {
		case unix.EXT4_SUPER_MAGIC:
			hint = "the ext4 needs \"tune2fs -O quota,project\" while it is not mounted, the mount option prjquota, and a kernel with CONFIG_QFMT_V2"
		case unix.XFS_SUPER_MAGIC:
			hint = "the xfs needs the mount option prjquota, and a kernel with CONFIG_XFS_QUOTA"
		}
	}
	return errs.Newf(errs.Unsupported, "no project quotas, which size limits need, on %s: %s (%w)", path, hint, err)
}

// Limit limits what is in the directories, all of one project, to size
// bytes; 0 for no limit. Directories without a project get one, with all that
// is in them, and so get those made in them from then on.
func Limit(size int64, dirs ...string) error {
	if err := Check(dirs[0]); err != nil {
		return err
	}
	id, err := project(dirs[0])
	if err != nil {
		return err
	}
	if id == 0 && size == 0 {
		return nil
	}
	fd, err := openDir(dirs[0])
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	fresh := id == 0
	if fresh {
		if id, err = freeProject(fd); err != nil {
			return err
		}
	}
	// A limit that is there before the files count is never exceeded by them
	// unseen: the kernel lets the owner of CAP_SYS_RESOURCE pass it.
	if err := setLimit(fd, id, size); err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) { // The first has the project when all have.
		if err := assign(dir, id); err != nil {
			if fresh {
				err = errors.Join(err, setLimit(fd, id, 0))
			}
			return err
		}
	}
	return nil
}

// Inherit puts the empty directories into the project of the directory from,
// if that has one.
func Inherit(from string, dirs ...string) error {
	id, err := project(from)
	if err != nil || id == 0 {
		return err
	}
	for _, dir := range dirs {
		if err := setProject(dir, id); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether the directory is in a project, so that [Limit] has only
// a number to change.
func Has(dir string) (bool, error) {
	id, err := project(dir)
	return id != 0, err
}

// Usage returns the bytes of all that is in the directory's project; ok is
// false if it is in none, or they are not counted.
func Usage(dir string) (bytes int64, ok bool, err error) {
	id, err := project(dir)
	if err != nil || id == 0 {
		return 0, false, err
	}
	fd, err := openDir(dir)
	if err != nil {
		return 0, false, err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var q dqblk
	err = quotactl(fd, qGetQuota, id, unsafe.Pointer(&q))
	return int64(q.space), err == nil, nil // An error: there are no quotas by now.
}

// Renew puts the empty directory into a new project, with the limit that the
// project of the directory from has, if it has one.
func Renew(from, dir string) error {
	id, err := project(from)
	if err != nil || id == 0 {
		return err
	}
	fd, err := openDir(from)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var q dqblk
	if err := quotactl(fd, qGetQuota, id, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("get the quota of project %d: %w", id, err)
	}
	fresh, err := freeProject(fd)
	if err != nil {
		return err
	}
	if err := setLimit(fd, fresh, int64(q.bhard)*blockSize); err != nil {
		return err
	}
	return setProject(dir, fresh)
}

// slack is what [WithSlack] adds to a limit, in bytes.
const slack = 64 << 10

// WithSlack calls fn. If the project of the directory is full, or nearly, its
// limit is a little higher meanwhile.
func WithSlack(dir string, fn func() error) (err error) {
	id, err := project(dir)
	if err != nil {
		return err
	}
	if id == 0 {
		return fn()
	}
	fd, err := openDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var q dqblk
	err = quotactl(fd, qGetQuota, id, unsafe.Pointer(&q))
	limit := int64(q.bhard) * blockSize
	if err != nil || limit == 0 || int64(q.space)+slack < limit {
		return fn() // An error: there are no quotas by now.
	}
	if err := setLimit(fd, id, max(limit, int64(q.space))+slack); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, setLimit(fd, id, limit)) }()
	return fn()
}

// Forget removes the limit of the directory's project, which goes away.
func Forget(dir string) error {
	id, err := project(dir)
	if err != nil || id == 0 {
		return err
	}
	fd, err := openDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	if err := setLimit(fd, id, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err // ESRCH: quotas were turned off.
	}
	return nil
}

// Of returns the project of a directory; 0 if it has none, or there is no such
// directory.
func Of(dir string) (uint32, error) {
	id, err := project(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return 0, nil
	}
	return id, err
}

// Reap removes the limit of a project in which there is nothing any more. path
// is anywhere on the file system.
func Reap(path string, id uint32) error {
	fd, err := openDir(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var q dqblk
	err = quotactl(fd, qGetQuota, id, unsafe.Pointer(&q))
	if err != nil || q.bhard == 0 || q.inodes > 0 {
		return nil // An error: there are no quotas by now.
	}
	return setLimit(fd, id, 0)
}

func openDir(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

func quotactl(fd int, cmd uintptr, id uint32, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), cmd<<8|projectQuota, uintptr(id), uintptr(arg), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func setLimit(fd int, id uint32, size int64) error {
	q := dqblk{bhard: uint64(size+blockSize-1) / blockSize, valid: qifLimits}
	if err := quotactl(fd, qSetQuota, id, unsafe.Pointer(&q)); err != nil {
		return fmt.Errorf("set the quota of project %d: %w", id, err)
	}
	return nil
}

// freeProject returns the id of a project that has no files and no limit.
func freeProject(fd int) (uint32, error) {
	for range 100 {
		var b [4]byte
		_, _ = rand.Read(b[:]) // It never fails.
		id := binary.NativeEndian.Uint32(b[:])&0x3fffffff | 0x40000000
		var q dqblk
		err := quotactl(fd, qGetQuota, id, unsafe.Pointer(&q))
		if errors.Is(err, unix.ENOENT) || err == nil && q.space == 0 && q.inodes == 0 && q.bhard == 0 {
			return id, nil
		}
		if err != nil {
			return 0, fmt.Errorf("find a free project: %w", err)
		}
	}
	return 0, errs.Newf(errs.Unavailable, "no free quota project found")
}

func ioctl(fd int, req uintptr, x *fsxattr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(x)))
	if errno != 0 {
		return errno
	}
	return nil
}

// project returns the project of a directory; 0 if it has none, as on a file
// system without projects.
func project(dir string) (uint32, error) {
	fd, err := openDir(dir)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var x fsxattr
	err = ioctl(fd, iocGetXattr, &x)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return 0, nil
	}
	if err != nil {
		return 0, &os.PathError{Op: "get the project of", Path: dir, Err: err}
	}
	return x.project, nil
}

func setProject(path string, id uint32) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // Nothing was written.
	var x fsxattr
	if err := ioctl(fd, iocGetXattr, &x); err != nil {
		return &os.PathError{Op: "get the project of", Path: path, Err: err}
	}
	if x.project == id {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	x.project = id
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		x.flags |= projInherit
	}
	if err := ioctl(fd, iocSetXattr, &x); err != nil {
		return &os.PathError{Op: "set the project of", Path: path, Err: err}
	}
	return nil
}

// assign puts a directory with all that is in it into a project. The directory
// itself is the last: where this is cut short it is done again, and until then
// what is in the project can have a name in it.
func assign(dir string, id uint32) error {
	if have, err := project(dir); err != nil || have == id {
		return err
	}
	scratch, err := os.MkdirTemp(dir, ".cuib-project-")
	if err != nil {
		return err
	}
	err = setProject(scratch, id)
	if err == nil {
		err = assignWithin(dir, scratch, id)
	}
	if err = errors.Join(err, tree.Remove(scratch)); err != nil {
		return err
	}
	return setProject(dir, id)
}

func assignWithin(dir, scratch string, id uint32) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || path == dir:
			return err
		case path == scratch:
			return fs.SkipDir
		case d.IsDir() || d.Type().IsRegular():
			return setProject(path, id)
		}
		return remake(path, filepath.Join(scratch, "new"))
	})
}

// remake replaces a link or special file, which no call puts into a project,
// by one that was made in a directory that is in it. A file that is in another
// project than its directory cannot be renamed.
func remake(path, fresh string) error {
	if err := tree.CopyFile(fresh, path); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
