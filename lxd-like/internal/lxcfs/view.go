package lxcfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/mounts"
)

// What guests get must be read-only, and so that they cannot change that: who
// writes to a file of /sys that lxcfs serves, writes to the host's, as lxcfs
// does it as the host's root. So could a guest switch off processors. The
// kernel holds on to what a mount was when it was handed on to a guest, and not
// to what is asked for when it is made in one.

// shown returns what an lxcfs of ours serves, read-only. It is the zero value if
// there is none, or if it cannot be had like that.
func (k *Keeper) shown() (Served, error) {
	s := Look(k.Dir)
	if s.Dir == "" {
		return Served{}, nil
	}
	if err := setReadOnly(k.Dir); err != nil {
		return Served{}, err
	}
	return s, nil
}

// showHosts shows what the host's own lxcfs serves where one of ours would, as
// the host's own mount is for the host to change.
func (k *Keeper) showHosts() (Served, error) {
	if err := mounts.Detach(k.Dir); err != nil { // Of one that has ended.
		return Served{}, err
	}
	if err := os.MkdirAll(k.Dir, 0o755); err != nil {
		return Served{}, err
	}
	tree, err := mounts.Tree(k.Host, mounts.Options{ReadOnly: true})
	if err != nil {
		return Served{}, err
	}
	if err := mounts.Attach(tree, k.Dir); err != nil {
		return Served{}, errors.Join(err, tree.Close())
	}
	if err := tree.Close(); err != nil {
		return Served{}, err
	}
	return Look(k.Dir), nil
}

func setReadOnly(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, &attr); err != nil {
		return &os.PathError{Op: "mount_setattr", Path: dir, Err: err}
	}
	return nil
}
