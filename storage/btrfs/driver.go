package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/tree"
)

type driver struct {
	pool   layout.Pool
	points layout.Points
	image  string // The loop file, if the pool has one.
}

// remove takes away a directory of the layout, with the subvolumes in it.
func removeTree(path string) error {
	subvol, err := isSubvol(path)
	if err != nil {
		return err
	}
	if subvol {
		return destroySubvol(path)
	}
	entries, err := os.ReadDir(path)
	if errors.Is(err, unix.ENOTDIR) {
		return os.Remove(path)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeTree(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(path)
}

// make makes the volume v of the subvolume that fill makes.
func (d *driver) make(v storage.Volume, fill func(path string) error) error {
	if err := d.pool.MustNotExist(v); err != nil {
		return err
	}
	staged, err := d.pool.Stage()
	if err != nil {
		return err
	}
	err = fill(layout.Cur(staged))
	if err == nil {
		err = d.pool.Publish(staged, v)
	}
	if err != nil {
		return errors.Join(err, d.pool.Discard(staged))
	}
	return nil
}

func (d *driver) Create(_ context.Context, v storage.Volume) error {
	if err := d.make(v, createSubvol); err != nil {
		return fmt.Errorf("create volume %s: %w", v, err)
	}
	return nil
}

func (d *driver) Clone(_ context.Context, dst, src storage.Volume) error {
	if err := d.pool.MustExist(src); err != nil {
		return err
	}
	err := d.make(dst, func(path string) error { return snapshot(path, d.pool.Path(src), 0) })
	if err != nil {
		return fmt.Errorf("clone volume %s to %s: %w", src, dst, err)
	}
	return nil
}

// Snapshot implements [storage.Driver]. The snapshot is made in its place,
// at once: a read-only subvolume cannot be moved there.
func (d *driver) Snapshot(_ context.Context, v storage.Volume) error {
	if err := d.pool.MakeParent(v); err != nil {
		return err
	}
	if err := d.pool.MustNotExist(v); err != nil {
		return err
	}
	if err := snapshot(d.pool.Path(v), d.pool.Path(v.Parent()), subvolReadOnly); err != nil {
		return fmt.Errorf("snapshot volume %s: %w", v, err)
	}
	return nil
}

func (d *driver) Restore(_ context.Context, v storage.Volume) error {
	if err := d.pool.MustExist(v); err != nil {
		return err
	}
	if err := d.mustNotBeMounted(v.Parent()); err != nil {
		return err
	}
	staged, err := d.pool.Stage()
	if err != nil {
		return err
	}
	if err := restore(layout.Cur(staged), d.pool.Path(v.Parent()), d.pool.Path(v)); err != nil {
		return errors.Join(fmt.Errorf("restore %s: %w", v, err), d.pool.Discard(staged))
	}
	_ = d.pool.Discard(staged) // The volume as it was; the next start removes what is left.
	return nil
}

// restore puts a snapshot of snap, made at path, in the place of current.
func restore(path, current, snap string) error {
	if err := snapshot(path, snap, 0); err != nil {
		return err
	}
	limit, err := limitOf(current)
	if err != nil {
		return err
	}
	if limit != noLimit {
		if err := setLimit(path, limit); err != nil {
			return err
		}
	}
	return layout.Exchange(path, current)
}

func (d *driver) Rename(_ context.Context, v storage.Volume, name string) error {
	if err := d.mustNotBeMounted(v); err != nil {
		return err
	}
	return d.pool.Rename(v, name)
}

func (d *driver) mustNotBeMounted(v storage.Volume) error {
	mounted, err := d.points.Mounted(v)
	if err == nil && mounted {
		err = errs.Conflictf("volume %s is mounted", v)
	}
	return err
}

func (d *driver) Delete(_ context.Context, v storage.Volume) error {
	if err := d.mustNotBeMounted(v); err != nil {
		return err
	}
	if v.Snapshot != "" {
		err := destroySubvol(d.pool.Path(v))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	gone, err := d.pool.Trash(v)
	if err != nil || gone == "" {
		return err
	}
	return d.pool.Discard(gone)
}

func (d *driver) Mount(_ context.Context, v storage.Volume, ids idmap.Map) (string, error) {
	if err := d.pool.MustExist(v); err != nil {
		return "", err
	}
	return d.points.Mount(v, ids, func() (*os.File, error) {
		return mounts.Tree(d.pool.Path(v), mounts.Options{IDs: ids, ReadOnly: v.Snapshot != ""})
	})
}

func (d *driver) Unmount(_ context.Context, v storage.Volume) error { return d.points.Unmount(v) }

// Usage implements [storage.Driver]. With quotas enabled it is as of the last
// commit of the file system.
func (d *driver) Usage(ctx context.Context, v storage.Volume) (int64, error) {
	if err := d.pool.MustExist(v); err != nil {
		return 0, err
	}
	path := d.pool.Path(v)
	item, err := quotaItem(path, qgroupInfoKey)
	if err != nil {
		return 0, err
	}
	const exclusive = 3 // generation, referenced, compressed, exclusive, compressed
	if len(item) > exclusive {
		return int64(item[exclusive]), nil
	}
	return tree.Usage(ctx, path)
}

func (d *driver) List(context.Context) ([]storage.Volume, error) { return d.pool.List() }

// Limit implements [storage.Limiter]. It counts all that a volume refers to,
// and so what it shares too. The first limit enables the file system's
// quotas, which make it slower the more snapshots there are; without limits
// they stay off.
func (d *driver) Limit(_ context.Context, v storage.Volume, size int64) error {
	if err := d.pool.MustExist(v); err != nil {
		return err
	}
	if size > 0 {
		return setLimit(d.pool.Path(v), uint64(size))
	}
	limit, err := limitOf(d.pool.Path(v))
	if err != nil || limit == noLimit {
		return err
	}
	return setLimit(d.pool.Path(v), noLimit)
}

// Space implements [storage.Spacer].
func (d *driver) Space(context.Context) (storage.Space, error) { return layout.Space(d.pool.Root) }

// Grow implements [storage.Grower] for pools on loop files.
func (d *driver) Grow(_ context.Context, size int64) error {
	if d.image == "" {
		return errs.Invalidf("key \"size\": the pool is not on a file of its own")
	}
	st, err := os.Stat(d.image)
	if err != nil {
		return err
	}
	if st.Size() < size {
		if err := os.Truncate(d.image, size); err != nil {
			return err
		}
	}
	info, err := mounts.Find(d.pool.Root)
	if err != nil {
		return err
	}
	if err := mounts.GrowLoop(info.Source); err != nil {
		return err
	}
	return resizeMax(d.pool.Root)
}

var (
	_ storage.Limiter = (*driver)(nil)
	_ storage.Spacer  = (*driver)(nil)
	_ storage.Grower  = (*driver)(nil)
)
