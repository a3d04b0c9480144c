package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
)

// Console is a connection to a container's console, which the guest sees as
// /dev/console. The caller closes it.
type Console struct {
	Stdin, Stdout *os.File // The same terminal.

	container *container
	control   *os.File
	shim      *shimProcess
}

// Console connects to the console of a running container. There is one
// connection at a time.
func (r *Runtime) Console(ctx context.Context, name string) (*Console, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, err
	}
	control, theirs, err := socketpair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	said, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, control.Close(), theirs.Close())
	}
	defer said.Close()
	shim, err := r.runShim(w, []*os.File{theirs}, "console", r.Dir, name)
	w.Close()
	theirs.Close()
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	stop := context.AfterFunc(ctx, func() { control.Close() })
	defer stop()
	_, files, err := receive(control)
	if errors.Is(err, io.EOF) {
		text, _ := io.ReadAll(said)
		err = errs.Conflictf("console of instance %q: %s", name, text)
	}
	if err == nil && len(files) != 1 { // The daemon has no descriptor left.
		err = errs.Newf(errs.Unavailable, "console of instance %q: got %d descriptors, not 1", name, len(files))
	}
	if err != nil {
		return nil, c.orGone(errors.Join(err, closeFiles(files), control.Close()))
	}
	terminal, err := pollable(files[0])
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	return &Console{Stdin: terminal, Stdout: terminal, container: c, control: control, shim: shim}, nil
}

// Resize sets the size of the terminal that the guest sees. liblxc does not
// pass it on from the end that we have.
func (c *Console) Resize(width, height int) error {
	if err := resize(c.Stdout, width, height); err != nil {
		return err
	}
	in, err := c.container.current()
	if err != nil {
		return err
	}
	root, err := in.open("root", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return c.container.orGone(err)
	}
	defer root.Close()
	inner, err := inroot.Open(root, "/dev/console", unix.O_PATH, 0)
	if err != nil {
		return c.container.orGone(err)
	}
	defer inner.Close()
	// What is there is the guest's choice: no other device is opened.
	var st unix.Stat_t
	if err := unix.Fstat(int(inner.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || unix.Major(st.Rdev) != ptsMajor {
		return errs.Conflictf("the instance has replaced its console")
	}
	fd, err := unix.Open(filepath.Join("/proc/self/fd", strconv.Itoa(int(inner.Fd()))), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	tty := os.NewFile(uintptr(fd), "console")
	defer tty.Close()
	return resize(tty, width, height)
}

const ptsMajor = 136

// Close disconnects from the console.
func (c *Console) Close() error {
	err := errors.Join(c.Stdout.Close(), c.control.Close())
	<-c.shim.done
	return err
}
