// Package landlock takes rights to the file system from a thread, and so from
// the programs that it starts, by the kernel's security module of that name.
package landlock

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writes are the rights to change something, by the version of the module
// that knows them, less one.
var writes = []uint64{
	unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM,
	unix.LANDLOCK_ACCESS_FS_REFER,
	unix.LANDLOCK_ACCESS_FS_TRUNCATE,
}

// WriteBelow lets the calling thread change nothing but what is below dir.
// The thread is one that its goroutine is locked to and that ends with it. On
// a kernel without landlock it does nothing.
func WriteBelow(dir string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return nil
	}
	if errno != 0 {
		return os.NewSyscallError("landlock_create_ruleset", errno)
	}
	var rights uint64
	for _, r := range writes[:min(int(version), len(writes))] {
		rights |= r
	}
	rules, err := ruleset(dir, rights)
	if err != nil {
		return err
	}
	defer rules.Close()

	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, rules.Fd(), 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}

// ruleset makes the rules that grant rights below dir and nowhere else.
func ruleset(dir string, rights uint64) (_ *os.File, err error) {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	// Later fields are for other things than files, and older kernels do not
	// know them.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("landlock_create_ruleset", errno)
	}
	rules := os.NewFile(fd, "landlock")
	defer func() {
		if err != nil {
			err = errors.Join(err, rules.Close())
		}
	}()

	below, err := os.OpenFile(dir, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer below.Close()

	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(below.Fd())} //nolint:gosec // A descriptor is small.
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return nil, os.NewSyscallError("landlock_add_rule", errno)
	}
	return rules, nil
}
