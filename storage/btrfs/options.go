package btrfs

import (
	"context"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// The keys of pools and volumes.
const (
	createOptions = "btrfs.create_options"
	mountOptions  = "btrfs.mount_options"
	wipeKey       = "source.wipe"

	compressionKey = "btrfs.compression"
)

// compressions are the values of the key, and what the kernel has for them.
var compressions = map[string]string{"": "", "zlib": "zlib", "lzo": "lzo", "zstd": "zstd", "none": "none", "no": "none"}

func checkOption(key, value string) error {
	if key != compressionKey {
		return nil
	}
	if _, ok := compressions[value]; !ok {
		return errs.Invalidf("%q is no compression: use zstd, lzo, zlib or none", value)
	}
	return nil
}

// splitOptions returns mount options as mount(2) takes them.
func splitOptions(s string) (flags uintptr, data string) {
	if s == "" {
		return 0, "user_subvol_rm_allowed" // As users expect of their own subvolumes.
	}
	known := map[string]uintptr{
		"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
		"strictatime": unix.MS_STRICTATIME, "lazytime": unix.MS_LAZYTIME, "sync": unix.MS_SYNCHRONOUS,
	}
	var rest []string
	for o := range strings.SplitSeq(s, ",") {
		if flag, ok := known[o]; ok {
			flags |= flag
		} else {
			rest = append(rest, o)
		}
	}
	return flags, strings.Join(rest, ",")
}

// Adjust implements [storage.Adjuster].
func (d *driver) Adjust(_ context.Context, changed map[string]string) error {
	options, ok := changed[mountOptions]
	if !ok {
		return nil
	}
	if !d.mounts {
		return errs.Invalidf("key %q: the pool is in a directory of a file system that others mount", mountOptions)
	}
	flags, data := splitOptions(options)
	err := unix.Mount("", d.Pool.Root, "", flags|unix.MS_REMOUNT, data)
	if errors.Is(err, unix.EINVAL) {
		return errs.Invalidf("key %q: the kernel refuses %q", mountOptions, options)
	}
	if err != nil {
		return &os.PathError{Op: "remount", Path: d.Pool.Root, Err: err}
	}
	return nil
}

// Tune implements [storage.Tuner]. A directory gives the compression to what
// is made in it: all of a volume have to have it.
func (d *driver) Tune(ctx context.Context, v storage.Volume, options map[string]string) error {
	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	for key, value := range options {
		if key != compressionKey {
			return errs.Invalidf("key %q is not known to the volumes of a btrfs pool", key)
		}
		if err := checkOption(key, value); err != nil {
			return err
		}
	}
	value := compressions[options[compressionKey]]
	path := d.Pool.Path(v)
	have, err := tree.Xattrs(path)
	if err != nil || have[xattrCompression] == value {
		return err
	}
	return tree.Directories(ctx, path, func(dir *os.File) error { return setCompression(dir, value) })
}

// xattrCompression is the attribute that btrfs takes as a file's compression.
const xattrCompression = "btrfs.compression"

func setCompression(dir *os.File, value string) error {
	var err error
	if value == "" {
		err = unix.Fremovexattr(int(dir.Fd()), xattrCompression)
	} else {
		err = unix.Fsetxattr(int(dir.Fd()), xattrCompression, []byte(value), 0)
	}
	// A read-only subvolume that a guest made stays as it is.
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EROFS) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "set " + xattrCompression, Path: dir.Name(), Err: err}
	}
	return nil
}
