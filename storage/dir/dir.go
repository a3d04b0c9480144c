// Package dir keeps volumes as plain directories. It works on every file
// system with idmapped mounts. A clone is a copy, which shares its blocks
// with the source where the file system can do that (xfs, btrfs).
package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/projquota"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Type is the kind of pool.
func Type() storage.Type {
	return storage.Type{
		Check:   func(context.Context) error { return nil },
		Make:    makePool,
		Open:    open,
		Remove:  remove,
		Options: map[string]string{},
		Version: func(context.Context) string { return "1" },
	}
}

// root returns the directory that holds the data.
func root(cfg storage.Config) string {
	if cfg.Source != "" {
		return cfg.Source
	}
	return filepath.Join(cfg.Dir, "data")
}

func points(cfg storage.Config) layout.Points {
	return layout.Points{Dir: filepath.Join(cfg.Dir, "mnt")}
}

// probeIDs are those of no instance.
var probeIDs = idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1000000, Size: 65536}}

func makePool(ctx context.Context, cfg storage.Config) (_ storage.Config, err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	dir := root(cfg)
	if cfg.Options["size"] != "" {
		return cfg, errs.Invalidf("key \"size\": a dir pool takes the room of the file system that it is on")
	}
	if err := layout.CheckEmpty(dir); err != nil {
		return cfg, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return cfg, err
	}
	u.Push("empty the pool's directory", func(ctx context.Context) error { return remove(ctx, cfg) })

	if err := layout.Make(dir); err != nil {
		return cfg, fmt.Errorf("make the pool's directories: %w", err)
	}
	f, err := mounts.Tree(dir, mounts.Options{IDs: probeIDs})
	if err != nil {
		return cfg, err
	}
	return cfg, f.Close()
}

func open(ctx context.Context, cfg storage.Config) (storage.Driver, error) {
	d := &driver{pool: layout.Pool{Root: root(cfg)}, points: points(cfg)}
	if err := layout.Check(d.pool.Root); err != nil {
		return nil, err
	}
	if err := d.pool.Sweep(ctx); err != nil {
		return nil, fmt.Errorf("remove what was left half-made: %w", err)
	}
	return d, nil
}

func remove(_ context.Context, cfg storage.Config) error {
	dir := root(cfg)
	if err := layout.Unmake(dir); err != nil {
		return err
	}
	if cfg.Source == "" {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return points(cfg).Remove()
}

type driver struct {
	pool   layout.Pool
	points layout.Points
}

func (d *driver) Create(_ context.Context, v storage.Volume) error {
	err := d.make(v, func(dir string) error { return os.Mkdir(dir, 0o700) })
	if err != nil {
		return fmt.Errorf("create volume %s: %w", v, err)
	}
	return nil
}

// make makes v of the directory that fill makes.
func (d *driver) make(v storage.Volume, fill func(dir string) error) (err error) {
	if err := d.pool.MustNotExist(v); err != nil {
		return err
	}
	staged, err := d.pool.Stage()
	if err != nil {
		return err
	}
	contents := layout.Cur(staged)
	if err := fill(contents); err != nil {
		return errors.Join(err, d.pool.Discard(staged))
	}
	if v.Snapshot == "" {
		err = d.pool.Publish(staged, v)
	} else {
		err = d.pool.Publish(contents, v)
	}
	if err != nil || v.Snapshot != "" {
		err = errors.Join(err, d.pool.Discard(staged))
	}
	return err
}

func (d *driver) Clone(ctx context.Context, dst, src storage.Volume) error {
	if err := d.copy(ctx, dst, src); err != nil {
		return fmt.Errorf("clone volume %s to %s: %w", src, dst, err)
	}
	return nil
}

func (d *driver) Snapshot(ctx context.Context, v storage.Volume) error {
	if err := d.copy(ctx, v, v.Parent()); err != nil {
		return fmt.Errorf("snapshot volume %s: %w", v, err)
	}
	return nil
}

func (d *driver) copy(ctx context.Context, dst, src storage.Volume) error {
	if err := d.pool.MustExist(src); err != nil {
		return err
	}
	return d.make(dst, func(dir string) error { return tree.Copy(ctx, dir, d.pool.Path(src)) })
}

func (d *driver) Restore(ctx context.Context, v storage.Volume) (err error) {
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
	dir, current := layout.Cur(staged), d.pool.Path(v.Parent())
	if err := d.restore(ctx, dir, current, d.pool.Path(v)); err != nil {
		return errors.Join(fmt.Errorf("restore %s: %w", v, err), forget(dir), d.pool.Discard(staged))
	}
	// There is now the volume as it was. The next start removes what is left.
	_ = forget(dir)
	_ = d.pool.Discard(staged)
	return nil
}

// restore puts a copy of the snapshot, made in dir, in the place of current.
func (d *driver) restore(ctx context.Context, dir, current, snapshot string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := projquota.Renew(current, dir); err != nil {
		return err
	}
	if err := tree.CopyInto(ctx, dir, snapshot); err != nil {
		return err
	}
	return layout.Exchange(dir, current)
}

// forget removes the limit of a directory that goes away, if there is one.
func forget(dir string) error {
	if err := projquota.Forget(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
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
	if err := forget(d.pool.Path(v)); err != nil {
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

func (d *driver) Usage(ctx context.Context, v storage.Volume) (int64, error) {
	if err := d.pool.MustExist(v); err != nil {
		return 0, err
	}
	return tree.Usage(ctx, d.pool.Path(v))
}

func (d *driver) List(context.Context) ([]storage.Volume, error) { return d.pool.List() }

// Limit implements [storage.Limiter].
func (d *driver) Limit(_ context.Context, v storage.Volume, size int64) error {
	if err := d.pool.MustExist(v); err != nil {
		return err
	}
	if err := projquota.Check(d.pool.Root); err != nil {
		return err
	}
	// To count the files of a volume goes through all of it, which no guest
	// may change meanwhile.
	if has, err := projquota.Has(d.pool.Path(v)); err != nil || !has {
		if err := errors.Join(err, d.mustNotBeMounted(v)); err != nil {
			return err
		}
	}
	return projquota.Limit(size, d.pool.Path(v))
}

// Space implements [storage.Spacer].
func (d *driver) Space(context.Context) (storage.Space, error) { return layout.Space(d.pool.Root) }

var (
	_ storage.Limiter = (*driver)(nil)
	_ storage.Spacer  = (*driver)(nil)
)
