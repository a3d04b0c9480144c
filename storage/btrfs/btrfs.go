// Package btrfs keeps volumes as subvolumes of a btrfs, on a file of its own or
// one that is there, on a block device, or in a directory of a btrfs.
package btrfs

import (
	"context"
	"errors"
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
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
)

// form is what a pool of this driver looks like.
var form = layout.Form{Driver: "btrfs", Remove: removeTree, Move: moveSubvol}

const sizeKey = "size"

// Type is the kind of pool.
func Type() storage.Type {
	return storage.Type{
		Check:  check,
		Make:   makePool,
		Adopt:  adopt,
		Open:   open,
		Remove: remove,
		Options: map[string]string{
			createOptions: "Options for mkfs.btrfs, separated by spaces.",
			mountOptions:  "Mount options of a pool on a file or device; user_subvol_rm_allowed if not set.",
			wipeKey:       "Whether what is on the source, a device or file, may be lost.",
			uuidKey:       "The id of the file system on the source, by which it is found again.",
		},
		Live: []string{mountOptions},
		VolumeOptions: map[string]string{
			compressionKey: "How what is written from now on is compressed: zstd, lzo, zlib or none; as the pool is mounted if not set.",
		},
		CheckOption: checkOption,
		Version:     versionOnce(),
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
	image  string // The file with the file system, if it is on one.
	device string // The block device with it, if it is on one.
}

// mounts reports whether the pool has a file system of its own to mount.
func (p place) mounts() bool { return p.image != "" || p.device != "" }

// placeOf returns where a pool's data is, or is to be.
func placeOf(cfg storage.Config) (place, error) {
	data := dataIn(cfg)
	if cfg.Source == "" {
		return place{root: data, image: imageIn(cfg)}, nil
	}
	if !filepath.IsAbs(cfg.Source) {
		return place{}, errs.Invalidf("source %q: give an absolute path, of a block device, a file or a directory on a btrfs", cfg.Source)
	}
	st, err := os.Stat(cfg.Source)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return place{}, err
	}
	switch {
	case cfg.Options[uuidKey] != "", err != nil && strings.HasPrefix(cfg.Source, "/dev/"), err == nil && isBlock(st.Mode()):
		device, err := deviceOf(cfg)
		return place{root: data, device: device}, err
	case err == nil && st.Mode().IsRegular():
		return place{root: data, image: cfg.Source}, nil
	}
	return place{root: filepath.Clean(cfg.Source)}, nil
}

func isBlock(mode fs.FileMode) bool { return mode&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice }

// dataIn returns where a pool's file system is mounted.
func dataIn(cfg storage.Config) string { return filepath.Join(cfg.Dir, "data") }

// imageIn returns the file of a pool without a source.
func imageIn(cfg storage.Config) string { return filepath.Join(cfg.Dir, "btrfs.img") }

// mountPlace mounts the file or device of a pool, if it has one, unless it is.
func mountPlace(cfg storage.Config, p place, more uintptr) error {
	if !p.mounts() {
		return nil
	}
	mounted, err := mounts.Mounted(p.root)
	if mounted && more == 0 && err == nil {
		mounted, err = revive(cfg, p)
	}
	if err != nil || mounted {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil { // There is none yet if the state directory is lost.
		return err
	}
	if err := os.Mkdir(p.root, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if p.image == "" {
		return mountDevice(cfg, p.device, p.root, more)
	}
	loop, err := mounts.Loop(p.image)
	if errors.Is(err, fs.ErrNotExist) {
		return errs.Newf(errs.Unavailable, "the pool's file %s is not there", p.image)
	}
	if err != nil {
		return err
	}
	defer loop.Close() // The mount keeps it.
	return mountDevice(cfg, loop.Name(), p.root, more)
}

// mountDevice mounts the file system on device at root, with the pool's mount
// options and the flags more.
func mountDevice(cfg storage.Config, device, root string, more uintptr) error {
	flags, data := splitOptions(cfg.Options[mountOptions])
	err := unix.Mount(device, root, "btrfs", flags|more, data)
	if errors.Is(err, unix.EINVAL) && cfg.Options[mountOptions] != "" {
		return errs.Newf(errs.Unavailable, "mount %s on %s: the kernel refuses it: look at key %q, which is %q", device, root, mountOptions, cfg.Options[mountOptions])
	}
	if err != nil {
		return errs.Newf(errs.Unavailable, "mount %s on %s: %w", device, root, err)
	}
	return nil
}

func open(_ context.Context, cfg storage.Config) (storage.Driver, error) {
	p, err := placeOf(cfg)
	if err != nil {
		return nil, err
	}
	if err := mountPlace(cfg, p, 0); err != nil {
		return nil, err
	}
	b, err := form.OpenAt(cfg, p.root)
	if err != nil && p.mounts() && form.Owned(cfg, p.root) != nil {
		err = errors.Join(err, mounts.Unmount(p.root), removeIfThere(p.root)) // It is another daemon's.
		_ = os.Remove(cfg.Dir)                                                // If there is nothing else in it.
	}
	if err != nil {
		return nil, err
	}
	return &driver{Base: b, image: p.image, mounts: p.mounts()}, nil
}

// adopt looks into the file system of a pool, for which it mounts it unless
// it is.
func adopt(_ context.Context, cfg storage.Config) (_ storage.Config, err error) {
	p, err := placeOf(cfg)
	if err != nil {
		return cfg, err
	}
	if !p.mounts() {
		return cfg, form.Adopt(p.root)
	}
	device := p.image + p.device // One of them.
	id, err := idOf(device)
	if err == nil && id == "" || errors.Is(err, fs.ErrNotExist) {
		return cfg, errs.NotFoundf("%s holds no btrfs", device)
	}
	if err != nil {
		return cfg, err
	}
	cfg.Options = maps.Clone(cfg.Options)
	if cfg.Options == nil {
		cfg.Options = map[string]string{}
	}
	if p.device != "" {
		cfg.Options[uuidKey] = id
	} else {
		st, err := os.Stat(p.image)
		if err != nil {
			return cfg, err
		}
		cfg.Options[sizeKey] = strconv.FormatInt(st.Size(), 10)
	}
	return cfg, lookInto(cfg, p)
}

// lookInto returns an error of kind NotFound if the file system holds no pool.
func lookInto(cfg storage.Config, p place) (err error) {
	mounted, err := mounts.Mounted(p.root)
	if err != nil || mounted {
		return errors.Join(err, form.Adopt(p.root))
	}
	_, err = os.Lstat(cfg.Dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, mounts.Unmount(p.root), removeIfThere(p.root))
		if isNew {
			err = errors.Join(err, removeIfThere(cfg.Dir))
		}
	}()
	err = mountPlace(cfg, p, unix.MS_RDONLY)
	if errors.Is(err, unix.EBUSY) { // Somebody has it mounted for writing.
		err = mountPlace(cfg, p, 0)
	}
	if err != nil {
		return err
	}
	return form.Adopt(p.root)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
