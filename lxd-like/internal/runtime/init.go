package runtime

import (
	"os"

	"golang.org/x/sys/unix"
)

// Init returns the init that a container has now, and a pidfd of it which the
// caller closes. While the guest reboots it waits for the next one. It returns
// an error of kind NotFound if the container does not run.
func (r *Runtime) Init(name string) (pid int, pidfd *os.File, err error) {
	c, in, err := r.findInit(name)
	if err != nil {
		return 0, nil, err
	}
	fd := -1
	conn, err := in.fd.SyscallConn()
	if err != nil {
		return 0, nil, c.orGone(err)
	}
	if cerr := conn.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return 0, nil, c.orGone(err)
	}
	return in.pid, os.NewFile(uintptr(fd), "pidfd"), nil
}
