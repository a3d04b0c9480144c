package btrfs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// leastFree is how much room the disk of a pool's file must have for the pool
// to be mounted again, when it had to grow and could not.
const leastFree = 16 << 20

// Space implements [storage.Spacer]. After an error, such as that its file
// cannot grow because the disk with it is full, the kernel has a file system
// be read-only until it is mounted anew.
func (d *driver) Space(ctx context.Context) (storage.Space, error) {
	space, err := d.Base.Space(ctx)
	if err != nil || !d.mounts {
		return space, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(d.Pool.Root, &st); err != nil {
		return space, &os.PathError{Op: "statfs", Path: d.Pool.Root, Err: err}
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return storage.Space{}, broken(place{root: d.Pool.Root, image: d.image}, "stop the instances that use it")
	}
	return space, nil
}

// broken says that a pool is read-only, and what is to be done.
func broken(p place, cure string) error {
	why := "see the kernel's log"
	if free, err := freeFor(p.image); err == nil && free < leastFree {
		why = "the disk with its file " + p.image + " is full (" + units.FormatBytes(free) + " are free): make room there"
	}
	return errs.Newf(errs.Unavailable, "the file system in %s is read-only after an error: %s, and %s; then it is mounted again", p.root, why, cure)
}

// freeFor returns how much a pool's file can grow by.
func freeFor(image string) (int64, error) {
	var st unix.Statfs_t
	if image == "" {
		return leastFree, nil
	}
	if err := unix.Statfs(image, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: image, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// revive unmounts a pool's file system that the kernel has made read-only, for
// it to be mounted anew, and reports whether it is mounted. What runs on it has
// to end before.
func revive(cfg storage.Config, p place) (mounted bool, err error) {
	info, err := mounts.Find(p.root)
	if errs.Is(err, errs.NotFound) || err == nil && !slices.Contains(info.Options, "ro") {
		return err == nil, nil
	}
	if err != nil {
		return false, err
	}
	ours := func(i mounts.Info) bool { return i.Type == "btrfs" && i.Device == info.Device }
	holders, err := mounts.Holders(ours)
	if err != nil {
		return false, err
	}
	if len(holders) > 0 {
		return false, broken(p, "stop what uses it ("+mounts.Names(holders)+")")
	}
	if free, err := freeFor(p.image); err != nil || free < leastFree {
		return false, broken(p, "wait some seconds")
	}
	all, err := mounts.List(ours)
	if err != nil {
		return false, err
	}
	state := filepath.Dir(filepath.Dir(cfg.Dir)) + "/" // What others have mounted is theirs.
	for _, i := range slices.Backward(all) {
		if !strings.HasPrefix(i.Point, state) {
			continue
		}
		if err := mounts.Unmount(i.Point); err != nil {
			return false, err
		}
	}
	return false, nil
}
