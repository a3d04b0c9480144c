// Package overlay keeps volumes as stacks of directories, which overlayfs
// makes one of. What was cloned or snapshotted is shared by all that came
// from it, and the page cache with it.
//
// A volume is a state: the directory "upper", which takes what is written,
// and the link "top", which names the layer below. A layer is the state of a
// volume that was sealed: nothing is written to it again, and it lives as
// long as a state is above it. Sealing exchanges the volume's state for a new
// one, empty and on top of the old, in one step; nothing is copied. A volume
// that is mounted cannot be sealed: its upper directory is copied.
//
//	ROOT/layers/ID/{upper,work,top}
//
// and the rest as in package layout. Custom volumes are plain directories,
// since several guests mount them at once, which is not for overlayfs.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/plain"
)

// form is what a pool of this driver looks like.
var form = layout.Form{Driver: "overlay", Others: []string{layers}}

// Type is the kind of pool.
func Type() storage.Type {
	return storage.Type{
		Check:   check,
		Make:    makePool,
		Adopt:   adopt,
		Open:    open,
		Remove:  remove,
		Options: map[string]string{},
		Version: version,
	}
}

func check(context.Context) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return errs.Newf(errs.Unsupported, "the kernel has no overlayfs (CONFIG_OVERLAY_FS): %w", err)
	}
	return unix.Close(fd)
}

func version(context.Context) string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func makePool(ctx context.Context, cfg storage.Config) (storage.Config, error) {
	if cfg.Options["size"] != "" {
		return cfg, errs.Invalidf("key \"size\": an overlay pool takes the room of the file system that it is on")
	}
	return cfg, form.MakePool(ctx, cfg, mkdir, probe)
}

func mkdir(path string) error { return os.Mkdir(path, 0o700) }

func adopt(_ context.Context, cfg storage.Config) (storage.Config, error) {
	return cfg, form.Adopt(layout.RootOf(cfg))
}

func open(_ context.Context, cfg storage.Config) (storage.Driver, error) {
	b, err := form.Open(cfg)
	if err != nil {
		return nil, err
	}
	d := &driver{Base: b, plain: plain.Driver{Base: b}, uses: map[string]int{}}
	if err := d.count(); err != nil {
		return nil, fmt.Errorf("count the uses of layers: %w", err)
	}
	return d, nil
}

func remove(_ context.Context, cfg storage.Config) error { return form.RemovePool(cfg) }

// probe returns an error of kind Unsupported if dir cannot hold layers.
func probe(dir string) (err error) {
	if err := probeFS(dir); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Join(dir, "staging"), "probe")
	if err != nil {
		return err
	}
	defer func() {
		mounts.Settle()
		err = errors.Join(err, os.RemoveAll(work))
	}()
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(work, name), 0o700); err != nil {
			return err
		}
	}
	f, err := mounts.Overlay{Root: work, Lower: []string{"lower"}, Upper: "upper", Work: "work", IDs: layout.ProbeIDs()}.Mount()
	if err != nil {
		return errs.Newf(errs.Unsupported, "%s cannot hold an overlay pool: %w", dir, err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return errs.Newf(errs.Unsupported, "%s cannot hold an overlay pool: its file system takes no upper directory with mapped ids", dir)
	}
	return nil
}

// probeFS refuses what overlayfs would mount and not keep.
func probeFS(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return errs.Newf(errs.Unsupported, "%s is on an overlayfs itself, which cannot hold an overlay pool: give a source on another file system", dir)
	}
	err := unix.Lsetxattr(dir, "trusted.overlay.cuib", []byte("y"), 0)
	if err == nil {
		err = unix.Lremovexattr(dir, "trusted.overlay.cuib")
	}
	if err != nil {
		return errs.Newf(errs.Unsupported, "%s cannot hold an overlay pool: its file system keeps no trusted extended attributes (%w)", dir, err)
	}
	return nil
}
