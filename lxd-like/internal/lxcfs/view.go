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
	if err := k.clear(); err != nil { // Of one that has ended.
		return Served{}, err
	}
	if err := os.MkdirAll(k.Dir, 0o755); err != nil {
		return Served{}, err
	}
	if err := unix.Mount(k.Host, k.Dir, "", unix.MS_BIND, ""); err != nil {
		return Served{}, &os.PathError{Op: "bind", Path: k.Host, Err: err}
	}
	if err := setReadOnly(k.Dir); err != nil {
		return Served{}, errors.Join(err, k.clear())
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
	const kept = unix.ST_NOSUID | unix.ST_NODEV | unix.ST_NOEXEC // They are the flags of mounts, too.
	flags := uintptr(st.Flags)&kept | unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY
	if err := unix.Mount("", dir, "", flags, ""); err != nil {
		return &os.PathError{Op: "remount", Path: dir, Err: err}
	}
	return nil
}

// clear unmounts all that is mounted where one of ours serves: one that a
// daemon which was killed had just started can be below another.
func (k *Keeper) clear() error {
	for {
		mounted, err := mounts.Mounted(k.Dir)
		if err != nil || !mounted {
			return err
		}
		if err := mounts.Detach(k.Dir); err != nil {
			return err
		}
	}
}
