package mounts

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/units"
)

// Room returns how much of the file system of path is free for others than
// root, and how large it is, in bytes.
func Room(path string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil //nolint:gosec // They fit.
}

// DescribeRoom says what [Room] returns, for an error of a full disk; nothing
// if that cannot be known.
func DescribeRoom(path string) string {
	free, total, err := Room(path)
	if err != nil {
		return ""
	}
	return " (" + path + " has " + units.FormatBytes(free) + " free of " + units.FormatBytes(total) + ")"
}
