package tree

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyAttrs gives the directory dst the owner, mode, times and extended
// attributes of src.
func CopyAttrs(dst, src string) error {
	var st unix.Stat_t
	if err := unix.Lstat(src, &st); err != nil {
		return pathError("stat", src, err)
	}
	return pathError("copy attributes to", dst, copyAttrs(dst, src, &st))
}

func copyAttrs(dst, src string, st *unix.Stat_t) error {
	if err := unix.Lchown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	attrs, err := Xattrs(src)
	if err != nil {
		return err
	}
	for name, value := range attrs { // After the owner: its change drops capabilities.
		if err := setXattr(dst, name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(unix.AT_FDCWD, dst, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dst, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func setXattr(path, name, value string) error {
	err := unix.Lsetxattr(path, name, []byte(value), 0)
	if errors.Is(err, unix.EOPNOTSUPP) && ofPlace(name) {
		return nil
	}
	return err
}

// ofPlace reports whether an attribute says something of where a file is, so
// that a copy somewhere else can be without: a label that the host does not
// have now, or how btrfs is to store it.
func ofPlace(name string) bool {
	return name == "security.selinux" || strings.HasPrefix(name, "btrfs.")
}

// Xattrs returns the extended attributes of a file, which is not followed if
// it is a link.
func Xattrs(path string) (map[string]string, error) {
	list, err := grow(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && len(list) == 0 {
		return nil, nil //nolint:nilnil // A nil map is empty.
	}
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := grow(func(buf []byte) (int, error) { return unix.Lgetxattr(path, name, buf) })
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", name, err)
		}
		all[name] = string(value)
	}
	return all, nil
}

// grow calls read with larger buffers until the result fits.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	for size := 1024; ; size *= 4 {
		buf := make([]byte, size)
		n, err := read(buf)
		if errors.Is(err, unix.ERANGE) && size < 1<<22 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
