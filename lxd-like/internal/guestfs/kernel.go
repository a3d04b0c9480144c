package guestfs

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/idmap"
)

// The daemon may do everything, and links of the guest lead it wherever the
// guest's mounts do. So it asks here what the guest's root might do itself.

// errKernels is why files of the kernel are not changed.
var errKernels = errors.New("it is a file of the kernel, not of the instance: use a program in the instance")

// binfmtMagic is that of binfmt_misc.
const binfmtMagic = 0x42494e4d

// kernels are the file systems whose files are the kernel's own. What is in
// them is in part the host's, which the kernel keeps from the guest's root but
// not from the daemon: a link of the guest to a setting below /proc/sys would
// make the daemon change the host's.
var kernels = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC,
	unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, unix.EFIVARFS_MAGIC, unix.PSTOREFS_MAGIC,
	unix.SELINUX_MAGIC, unix.SMACK_MAGIC, unix.NSFS_MAGIC, binfmtMagic,
}

// notKernels refuses what is on a file system of the kernel's own.
func notKernels(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if slices.Contains(kernels, st.Type) {
		return errKernels
	}
	return nil
}

// errHosts is why files of the host that the instance sees are not opened.
var errHosts = errors.New("it belongs to none of the instance's users")

// The permissions of those who are neither owner nor of the group.
const (
	readBit   = 0o4
	writeBit  = 0o2
	searchBit = 0o1
	never     = 0o10 // What only an owner may.
)

// permits refuses a file whose owner or group is none of the guest's, as in a
// directory of the host, unless it gives the rights to everybody: so the
// kernel would do for the guest's root.
func (f *FS) permits(st *unix.Stat_t, bits uint32) error {
	_, user := f.ids.ToGuest(idmap.User, int64(st.Uid))
	_, group := f.ids.ToGuest(idmap.Group, int64(st.Gid))
	if user && group || st.Mode&0o7&bits == bits {
		return nil
	}
	return errHosts
}

// mayOpen says whether a file may be opened. Of the kernel's those are read
// that everybody may read.
func (f *FS) mayOpen(fd int, st *unix.Stat_t, flags int) error {
	bits, writes := uint32(readBit), flags&unix.O_TRUNC != 0
	switch flags & unix.O_ACCMODE {
	case unix.O_WRONLY:
		bits, writes = writeBit, true
	case unix.O_RDWR:
		bits, writes = readBit|writeBit, true
	}
	if writes || st.Mode&readBit == 0 {
		if err := notKernels(fd); err != nil {
			return err
		}
	}
	return f.permits(st, bits)
}

// mayChange says whether a directory, with the bits that are needed, or a
// file's attributes may be changed.
func (f *FS) mayChange(fd int, bits uint32) error {
	if err := notKernels(fd); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return f.permits(&st, bits)
}
