package guestfs

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

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
