//go:build !amd64 && !arm64

package mounts

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const sharing = 0

// cloneIdle makes a child process of the process parent that waits to be
// killed, with all signals blocked. It returns its id, or an error number
// below 0. The child makes system calls only, on its copy of the stack.
//
//go:norace
//go:nosplit
func cloneIdle(flags, parent uintptr) (pid uintptr) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, flags, 0, 0, 0, 0, 0)
	if errno != 0 {
		return -uintptr(errno)
	}
	if pid != 0 {
		return pid
	}
	_, _, _ = unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	var none unix.Timespec
	none.Sec = 60
	for {
		if ppid, _, _ := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); ppid != parent {
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&none)), 0, 0, 0)
	}
}
