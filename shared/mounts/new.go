package mounts

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// New returns a detached mount of a whole file system, such as a dataset of
// the type "zfs". One that is mounted elsewhere, too, is the same.
func New(fstype, source string, o Options) (*os.File, error) {
	fsfd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen "+fstype, err)
	}
	fs := os.NewFile(uintptr(fsfd), source)
	defer fs.Close()
	err = unix.FsconfigSetString(fsfd, "source", source)
	if err == nil && o.ReadOnly {
		err = unix.FsconfigSetFlag(fsfd, "ro")
	}
	for _, word := range o.Config {
		if err != nil {
			break
		}
		if key, value, ok := strings.Cut(word, "="); ok {
			err = unix.FsconfigSetString(fsfd, key, value)
		} else {
			err = unix.FsconfigSetFlag(fsfd, word)
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fsfd)
	}
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", source, explain(fs, err))
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	f := os.NewFile(uintptr(fd), source)
	if err := setAttr(f, o); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
