// Package inroot works on files below a directory that strangers fill, such
// as the root of an instance. The kernel resolves every path as if the
// directory were the root of the file system: neither "..", nor an absolute
// or a relative symbolic link leads out of it.
package inroot

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const resolve = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// Open opens the file that name leads to below root, following symbolic
// links, with flags as of open(2).
func Open(root *os.File, name string, flags int, mode uint32) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Mode: uint64(mode), Resolve: resolve} //nolint:gosec // Flags are positive.
	for tries := 1; ; tries++ {
		fd, err := unix.Openat2(int(root.Fd()), clean(name), how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case tries < maxTries && (errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN)): // EAGAIN: something was renamed meanwhile.
		default:
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// maxTries bounds how long a guest that renames all the time can keep us.
const maxTries = 1000

// Dir opens a directory below root, making those on the way to it that do
// not exist.
func Dir(root *os.File, name string) (*os.File, error) {
	dir, err := Open(root, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, unix.ENOENT) {
		return dir, err
	}
	parent, base, err := Parent(root, name)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), base, 0o755); err != nil {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return Open(root, name, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// Parent opens the directory that name is in, made as by [Dir], and returns
// it with name's last element, which is "." for the root itself.
func Parent(root *os.File, name string) (*os.File, string, error) {
	name = clean(name)
	dir, err := Dir(root, path.Dir(name))
	return dir, path.Base(name), err
}

func clean(name string) string {
	return path.Clean(strings.TrimLeft("./"+name, "/"))
}
