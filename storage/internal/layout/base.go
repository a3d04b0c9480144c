package layout

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// A Base is what all drivers of this layout do alike. They embed it, and put
// methods of their own in the place of those that do not fit.
type Base struct {
	Pool   Pool
	Points Points
}

// BaseOf returns the base of a pool that is in the directory that is its
// source or, without one, in one of its own.
func BaseOf(cfg storage.Config) Base {
	root := cfg.Source
	if root == "" {
		root = filepath.Join(cfg.Dir, "data")
	}
	return Base{Pool: Pool{Root: root}, Points: PointsOf(cfg)}
}

// MakePool makes the directories of such a pool, and others in it, unless
// check says that the directory cannot hold one.
func MakePool(ctx context.Context, cfg storage.Config, check func(root string) error, others ...string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	root := BaseOf(cfg).Pool.Root
	if err := CheckEmpty(root); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return err
	}
	u.Push("empty the pool's directory", func(context.Context) error { return RemovePool(cfg, others...) })

	if err := Make(root); err != nil {
		return fmt.Errorf("make the pool's directories: %w", err)
	}
	for _, dir := range others {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			return err
		}
	}
	return check(root)
}

// RemovePool removes what [MakePool] made, if the pool is empty.
func RemovePool(cfg storage.Config, others ...string) error {
	b := BaseOf(cfg)
	if err := Unmake(b.Pool.Root, others...); err != nil {
		return err
	}
	if cfg.Source == "" {
		if err := os.RemoveAll(b.Pool.Root); err != nil {
			return err
		}
	}
	return b.Points.Remove()
}

// Open checks that there is a pool, and removes what a crash left in it.
func (b *Base) Open(ctx context.Context) error {
	if err := Check(b.Pool.Root); err != nil {
		return err
	}
	if err := b.Pool.Sweep(ctx); err != nil {
		return fmt.Errorf("remove what was left half-made: %w", err)
	}
	return nil
}

// MustNotBeMounted returns an error of kind Conflict if v is mounted.
func (b *Base) MustNotBeMounted(v storage.Volume) error {
	mounted, err := b.Points.Mounted(v)
	if err == nil && mounted {
		err = errs.Conflictf("volume %s is mounted", v)
	}
	return err
}

// Rename implements [storage.Driver].
func (b *Base) Rename(_ context.Context, v storage.Volume, name string) error {
	if err := b.MustNotBeMounted(v); err != nil {
		return err
	}
	return b.Pool.Rename(v, name)
}

// Mount implements [storage.Driver], for a v that is a plain directory.
func (b *Base) Mount(_ context.Context, v storage.Volume, ids idmap.Map) (string, error) {
	if err := b.Pool.MustExist(v); err != nil {
		return "", err
	}
	return b.Points.Mount(v, ids, func() (*os.File, error) {
		return mounts.Tree(b.Pool.Path(v), mounts.Options{IDs: ids, ReadOnly: v.Snapshot != ""})
	})
}

// Unmount implements [storage.Driver].
func (b *Base) Unmount(_ context.Context, v storage.Volume) error { return b.Points.Unmount(v) }

// List implements [storage.Driver].
func (b *Base) List(context.Context) ([]storage.Volume, error) { return b.Pool.List() }

// Space implements [storage.Spacer].
func (b *Base) Space(context.Context) (storage.Space, error) { return Space(b.Pool.Root) }

// ProbeIDs are those of no instance, to see whether they can be mapped.
func ProbeIDs() idmap.Map {
	return idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1000000, Size: 65536}}
}
