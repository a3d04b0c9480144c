// Package btrfs keeps volumes as subvolumes of a btrfs, on a file of its own,
// on a block device, or in a directory of a btrfs that is there.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
)

const mountOptions = "btrfs.mount_options"

// Type is the kind of pool.
func Type() storage.Type {
	return storage.Type{
		Check:   check,
		Make:    makePool,
		Open:    open,
		Remove:  remove,
		Options: map[string]string{mountOptions: "Mount options of a pool on a file or device; user_subvol_rm_allowed if not set."},
		Version: versionOnce(),
	}
}

func check(ctx context.Context) error {
	fd, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return errs.Newf(errs.Unsupported, "the kernel has no btrfs (CONFIG_BTRFS_FS): %w", err)
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	return errors.Join(ctx.Err(), run.Look("mkfs.btrfs", "btrfs-progs"))
}

// versionOnce returns a function that returns the version of the tools, and
// runs them until it has it: clients ask often.
func versionOnce() func(context.Context) string {
	var known atomic.Pointer[string]
	return func(ctx context.Context) string {
		if v := known.Load(); v != nil {
			return *v
		}
		out, err := run.Cmd(ctx, "mkfs.btrfs", "--version")
		fields := strings.Fields(out) // mkfs.btrfs, part of btrfs-progs v6.2
		if err != nil || len(fields) == 0 {
			return ""
		}
		v := strings.TrimPrefix(fields[len(fields)-1], "v")
		known.Store(&v)
		return v
	}
}

// A place is where a pool's data is.
type place struct {
	root   string // The directory.
	image  string // The file with the file system, if it is on one of the pool's own.
	device string // The block device with it, if it is on one.
}

// placeOf returns where a pool's data is, or is to be.
func placeOf(cfg storage.Config) (place, error) {
	data := filepath.Join(cfg.Dir, "data")
	if cfg.Source == "" {
		return place{root: data, image: filepath.Join(cfg.Dir, "btrfs.img")}, nil
	}
	if !filepath.IsAbs(cfg.Source) {
		return place{}, errs.Invalidf("source %q: give an absolute path, of a block device or a directory on a btrfs", cfg.Source)
	}
	st, err := os.Stat(cfg.Source)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(cfg.Source, "/dev/") {
		return place{}, errs.Newf(errs.Unavailable, "the device %s is not there", cfg.Source)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return place{}, err
	}
	if err == nil && st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice {
		return place{root: data, device: cfg.Source}, nil
	}
	return place{root: cfg.Source}, nil
}

// made is the file that says that the directory of the source was made for
// the pool.
func made(cfg storage.Config) string { return filepath.Join(cfg.Dir, "made") }

func makePool(ctx context.Context, cfg storage.Config) (_ storage.Config, err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	p, err := placeOf(cfg)
	if errs.Is(err, errs.Unavailable) {
		err = errs.Invalidf("source: %w", err)
	}
	if err != nil {
		return cfg, err
	}
	if p.image == "" && cfg.Options["size"] != "" {
		return cfg, errs.Invalidf("key \"size\": only a pool without a source takes one")
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return cfg, err
	}
	switch {
	case p.image != "":
		u.Push("remove the pool", func(ctx context.Context) error { return remove(ctx, cfg) })
		err = makeImage(ctx, &cfg, p)
	case p.device != "":
		if err = format(ctx, p.device); err == nil {
			u.Push("remove the pool", func(ctx context.Context) error { return remove(ctx, cfg) })
		}
	default:
		if err = checkDir(p.root); err == nil {
			u.Push("remove the pool", func(ctx context.Context) error { return remove(ctx, cfg) })
			err = makeDir(cfg, p.root)
		}
	}
	if err != nil {
		return cfg, err
	}
	if err := mountPlace(cfg, p); err != nil {
		return cfg, err
	}
	return cfg, layout.Make(p.root)
}

// The size of a pool's file if none is given.
const (
	minDefault = 5 << 30
	maxDefault = 30 << 30
	minSize    = 256 << 20
)

func makeImage(ctx context.Context, cfg *storage.Config, p place) error {
	size, err := sizeOf(*cfg)
	if err != nil {
		return err
	}
	options := map[string]string{"size": strconv.FormatInt(size, 10)}
	maps.Copy(options, cfg.Options)
	cfg.Options = options
	f, err := os.OpenFile(p.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	return format(ctx, p.image)
}

// sizeOf returns the size of the file to make, in bytes.
func sizeOf(cfg storage.Config) (int64, error) {
	if s := cfg.Options["size"]; s != "" {
		size, err := units.ParseBytes(s)
		if err != nil {
			return 0, fmt.Errorf("key \"size\": %w", err)
		}
		if size < minSize {
			return 0, errs.Invalidf("key \"size\": %s is too small for a btrfs: give at least 256MiB", s)
		}
		return size, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(cfg.Dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: cfg.Dir, Err: err}
	}
	free := int64(st.Bavail) * st.Bsize
	return max(minDefault, min(maxDefault, free/5>>20<<20)), nil
}

// format makes a file system on a file or device that holds no data.
func format(ctx context.Context, path string) error {
	_, err := run.Cmd(ctx, "mkfs.btrfs", "-q", path)
	e, failed := errors.AsType[*run.Error](err)
	if failed && strings.Contains(e.Stderr, "existing filesystem") || failed && strings.Contains(e.Stderr, "partition table") {
		return errs.Invalidf("source %q holds data: wipe it first (wipefs -a), or give another", path)
	}
	return err
}

// checkDir refuses a source that is no empty directory, or none, on a btrfs.
func checkDir(dir string) error {
	if err := layout.CheckEmpty(dir); err != nil {
		return err
	}
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	if errors.Is(err, unix.ENOENT) {
		err = unix.Statfs(filepath.Dir(dir), &st)
	}
	if errors.Is(err, unix.ENOENT) {
		return errs.Invalidf("source %q: its directory does not exist", dir)
	}
	if err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return errs.Invalidf("source %q is not on a btrfs: give a block device or a directory on one, or no source for a file", dir)
	}
	return nil
}

// makeDir makes the source a subvolume if there is nothing.
func makeDir(cfg storage.Config, dir string) error {
	_, err := os.Lstat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(made(cfg), nil, 0o600); err != nil {
		return err
	}
	return createSubvol(dir)
}

// mountPlace mounts the file or device of a pool, if it has one, unless it is.
func mountPlace(cfg storage.Config, p place) error {
	if p.image == "" && p.device == "" {
		return nil
	}
	mounted, err := mounts.Mounted(p.root)
	if err != nil || mounted {
		return err
	}
	if err := os.Mkdir(p.root, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	device := p.device
	if p.image != "" {
		loop, err := mounts.Loop(p.image)
		if errors.Is(err, fs.ErrNotExist) {
			return errs.Newf(errs.Unavailable, "the pool's file %s is not there", p.image)
		}
		if err != nil {
			return err
		}
		defer loop.Close() // The mount keeps it.
		device = loop.Name()
	}
	flags, data := splitOptions(cfg.Options[mountOptions])
	if err := unix.Mount(device, p.root, "btrfs", flags, data); err != nil {
		return errs.Newf(errs.Unavailable, "mount %s on %s: %w", device, p.root, err)
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

func open(ctx context.Context, cfg storage.Config) (storage.Driver, error) {
	p, err := placeOf(cfg)
	if err != nil {
		return nil, err
	}
	if err := mountPlace(cfg, p); err != nil {
		return nil, err
	}
	d := &driver{
		Base:  layout.Base{Pool: layout.Pool{Root: p.root, Remove: removeTree}, Points: layout.PointsOf(cfg)},
		image: p.image,
	}
	if err := d.Open(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

func remove(_ context.Context, cfg storage.Config) error {
	p, err := placeOf(cfg)
	if err != nil {
		return err
	}
	if err := layout.Unmake(p.root); err != nil {
		return err
	}
	if err := layout.PointsOf(cfg).Remove(); err != nil {
		return err
	}
	if p.image == "" && p.device == "" {
		return removeSource(cfg, p.root)
	}
	mounted, err := mounts.Mounted(p.root)
	if err != nil {
		return err
	}
	if err := mounts.Unmount(p.root); err != nil {
		return err
	}
	if p.device != "" && mounted {
		if err := wipe(p.device); err != nil {
			return err
		}
	}
	for _, path := range []string{p.root, p.image} {
		if err := os.Remove(path); err != nil && path != "" && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeSource removes the source if it was made for the pool.
func removeSource(cfg storage.Config, dir string) error {
	if _, err := os.Lstat(made(cfg)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := removeTree(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Remove(made(cfg))
}

// wipe removes what makes a device a btrfs, so that it counts as empty again.
func wipe(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY|unix.O_EXCL, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, 4096), 64<<10)
	return errors.Join(err, f.Sync(), f.Close())
}
