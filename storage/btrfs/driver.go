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
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/tree"
)

type driver struct {
	*layout.Base

	image  string // The loop file, if the pool has one.
	mounts bool   // The pool has a file system of its own.
}

// removeTree takes away a directory of the layout, with the subvolumes in it.
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
	if err := d.Pool.MustNotExist(v); err != nil {
		return err
	}
	staged, err := d.Pool.Stage()
	if err != nil {
		return err
	}
	err = fill(layout.Cur(staged))
	if err == nil {
		err = d.Pool.Publish(staged, v)
	}
	if err != nil {
		return errors.Join(err, d.Pool.Discard(staged))
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
	if err := d.derive(dst, src); err != nil {
		return fmt.Errorf("clone volume %s to %s: %w", src, dst, err)
	}
	return nil
}

func (d *driver) Snapshot(_ context.Context, v storage.Volume) error {
	if err := d.derive(v, v.Parent()); err != nil {
		return fmt.Errorf("snapshot volume %s: %w", v, err)
	}
	return nil
}

// derive makes dst with what is in src. A snapshot is made in its place, at
// once: a read-only subvolume cannot be moved there.
func (d *driver) derive(dst, src storage.Volume) error {
	if err := d.Pool.MustExist(src); err != nil {
		return err
	}
	if dst.Snapshot == "" {
		return d.make(dst, func(path string) error { return snapshot(path, d.Pool.Path(src), 0) })
	}
	if err := d.Pool.MakeParent(dst); err != nil {
		return err
	}
	if err := d.Pool.MustNotExist(dst); err != nil {
		return err
	}
	return snapshot(d.Pool.Path(dst), d.Pool.Path(src), subvolReadOnly)
}

func (d *driver) Restore(_ context.Context, v storage.Volume) error {
	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	if err := d.MustNotBeMounted(v.Parent()); err != nil {
		return err
	}
	if err := mustHaveNoSubvols(d.Pool.Path(v.Parent()), v); err != nil {
		return err
	}
	staged, err := d.Pool.Stage()
	if err != nil {
		return err
	}
	if err := restore(layout.Cur(staged), d.Pool.Path(v.Parent()), d.Pool.Path(v)); err != nil {
		return errors.Join(fmt.Errorf("restore %s: %w", v, err), d.Pool.Discard(staged))
	}
	_ = d.Pool.Discard(staged) // The volume as it was; the next start removes what is left.
	return nil
}

// mustHaveNoSubvols returns an error if there are subvolumes in that at path,
// which is the volume of the snapshot: it does not have what is in them, and
// they would be gone.
func mustHaveNoSubvols(path string, snap storage.Volume) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	inside, _, err := subvolsIn(f)
	if err == nil && len(inside) > 0 {
		err = errs.Conflictf("volume %s has subvolumes of its own, such as %q, of which snapshots have nothing: delete them first", snap.Parent(), inside[0])
	}
	return err
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

func (d *driver) Delete(_ context.Context, v storage.Volume) error {
	if err := d.MustNotBeMounted(v); err != nil {
		return err
	}
	if v.Snapshot != "" {
		err := destroySubvol(d.Pool.Path(v))
		if errors.Is(err, fs.ErrNotExist) {
			return d.Pool.MustBeThere()
		}
		return err
	}
	return d.Pool.Delete(v)
}

// Usage implements [storage.Driver]. With quotas enabled it is as of the last
// commit of the file system. A limit counts what is shared, too.
func (d *driver) Usage(ctx context.Context, v storage.Volume) (int64, error) {
	if err := d.Pool.MustExist(v); err != nil {
		return 0, err
	}
	path := d.Pool.Path(v)
	item, err := quotaItem(path, qgroupInfoKey)
	if err != nil {
		return 0, err
	}
	limit, err := limitOf(path)
	if err != nil {
		return 0, err
	}
	if bytes, ok := item.bytes(limit); ok {
		return bytes, nil
	}
	return tree.Usage(ctx, path)
}

// Counted implements [storage.Counter]: all that the volume refers to. Where
// nothing is limited yet, and so nothing counted, its files are looked at.
func (d *driver) Counted(ctx context.Context, v storage.Volume) (int64, error) {
	if err := d.Pool.MustExist(v); err != nil {
		return 0, err
	}
	path := d.Pool.Path(v)
	if err := tree.Sync(path); err != nil {
		return 0, err
	}
	item, err := quotaItem(path, qgroupInfoKey)
	if err != nil {
		return 0, err
	}
	if bytes, ok := item.bytes(0); ok {
		return bytes, nil
	}
	return tree.Usage(ctx, path)
}

// Limit implements [storage.Limiter]. It counts all that a volume refers to,
// and so what it shares too. The first limit enables the file system's
// quotas, which make it slower the more snapshots there are; without limits
// they stay off.
func (d *driver) Limit(_ context.Context, v storage.Volume, size int64) error {
	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	if size > 0 {
		return setLimit(d.Pool.Path(v), uint64(size))
	}
	limit, err := limitOf(d.Pool.Path(v))
	if err != nil || limit == noLimit {
		return err
	}
	return setLimit(d.Pool.Path(v), noLimit)
}

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
	info, err := mounts.Find(d.Pool.Root)
	if err != nil {
		return err
	}
	if err := mounts.GrowLoop(info.Source); err != nil {
		return err
	}
	return resizeMax(d.Pool.Root)
}

var (
	_ storage.Limiter  = (*driver)(nil)
	_ storage.Counter  = (*driver)(nil)
	_ storage.Spacer   = (*driver)(nil)
	_ storage.Grower   = (*driver)(nil)
	_ storage.Recorder = (*driver)(nil)
	_ storage.Sweeper  = (*driver)(nil)
	_ storage.Adjuster = (*driver)(nil)
	_ storage.Tuner    = (*driver)(nil)
)
