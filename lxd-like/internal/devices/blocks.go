package devices

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
)

// Blocks returns the numbers of the whole disks that a directory, a file or a
// block device of the host is on, such as "8:0", in order. The kernel limits
// what goes through these, and not through their parts.
func Blocks(path string) ([]string, error) {
	at, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(at, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: at, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		return wholeDisk(at)
	}
	m, err := mountOf(at)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(m.Device, "0:") {
		number, err := whole(m.Device)
		return []string{number}, err
	}
	if m.Type == "btrfs" {
		return btrfsDisks(m.Source)
	}
	return nil, errs.Newf(errs.Unsupported, "%s is on a file system of type %s, whose disks the kernel does not tell", path, m.Type)
}

func wholeDisk(path string) ([]string, error) {
	number, err := mounts.DeviceOf(path)
	if err != nil {
		return nil, err
	}
	number, err = whole(number)
	return []string{number}, err
}

// mountOf returns the mount that a path is on.
func mountOf(path string) (mounts.Info, error) {
	var found mounts.Info
	_, err := mounts.List(func(i mounts.Info) bool {
		within := i.Point == "/" || path == i.Point || strings.HasPrefix(path, i.Point+"/")
		if within && len(i.Point) >= len(found.Point) {
			found = i
		}
		return false
	})
	if err == nil && found.Point == "" {
		err = errs.NotFoundf("nothing is mounted where %s is", path)
	}
	return found, err
}

// whole returns the disk that a block device is a part of, or itself.
func whole(number string) (string, error) {
	dir := filepath.Join("/sys/dev/block", number)
	if _, err := os.Stat(filepath.Join(dir, "partition")); errors.Is(err, os.ErrNotExist) {
		_, err := os.Stat(dir)
		return number, err
	}
	at, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(filepath.Dir(at), "dev"))
	return strings.TrimSpace(string(data)), err
}

// btrfsDisks returns all disks of the file system that one of them names.
func btrfsDisks(source string) ([]string, error) {
	number, err := mounts.DeviceOf(source)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob("/sys/fs/btrfs/*/devices/*/dev")
	if err != nil {
		return nil, err
	}
	var all []string
	ours := ""
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(data)) == number {
			ours = filepath.Dir(filepath.Dir(file))
		}
	}
	for _, file := range files {
		if filepath.Dir(filepath.Dir(file)) != ours {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		disk, err := whole(strings.TrimSpace(string(data)))
		if err != nil {
			return nil, err
		}
		all = append(all, disk)
	}
	if len(all) == 0 {
		return wholeDisk(source)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
