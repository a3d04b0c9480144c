// Package plain keeps volumes as plain directories, for the drivers that have
// such volumes. A clone is a copy, which shares its blocks with the source
// where the file system can do that.
package plain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/projquota"
	"github.com/cuib/cuib/storage/internal/tree"
)

// A Driver is a [storage.Driver] for such volumes. Drivers embed it, or give
// it the volumes that are plain.
type Driver struct{ *layout.Base }

// Create implements [storage.Driver].
func (d Driver) Create(_ context.Context, v storage.Volume) error {
	err := d.Make(v, func(dir string) error { return os.Mkdir(dir, 0o700) })
	if err != nil {
		return fmt.Errorf("create volume %s: %w", v, err)
	}
	return nil
}

// Make makes v of the directory that fill makes.
func (d Driver) Make(v storage.Volume, fill func(dir string) error) (err error) {
	if err := d.Pool.MustNotExist(v); err != nil {
		return err
	}
	staged, err := d.Pool.Stage()
	if err != nil {
		return err
	}
	contents := layout.Cur(staged)
	if err := fill(contents); err != nil {
		return errors.Join(err, d.Pool.Discard(staged))
	}
	if v.Snapshot == "" {
		err = d.Pool.Publish(staged, v)
	} else {
		err = d.Pool.Publish(contents, v)
	}
	if err != nil || v.Snapshot != "" {
		err = errors.Join(err, d.Pool.Discard(staged))
	}
	return err
}

// Clone implements [storage.Driver].
func (d Driver) Clone(ctx context.Context, dst, src storage.Volume) error {
	if err := d.copy(ctx, dst, src); err != nil {
		return fmt.Errorf("clone volume %s to %s: %w", src, dst, err)
	}
	return nil
}

// Snapshot implements [storage.Driver].
func (d Driver) Snapshot(ctx context.Context, v storage.Volume) error {
	if err := d.copy(ctx, v, v.Parent()); err != nil {
		return fmt.Errorf("snapshot volume %s: %w", v, err)
	}
	return nil
}

func (d Driver) copy(ctx context.Context, dst, src storage.Volume) error {
	if err := d.Pool.MustExist(src); err != nil {
		return err
	}
	return d.Make(dst, func(dir string) error {
		if err := tree.Copy(ctx, dir, d.Pool.Path(src)); err != nil {
			return err
		}
		if storage.Fleeting(dst.Snapshot) {
			return nil
		}
		return tree.Sync(dir)
	})
}

// Restore implements [storage.Driver].
func (d Driver) Restore(ctx context.Context, v storage.Volume) (err error) {
	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	if err := d.MustNotBeMounted(v.Parent()); err != nil {
		return err
	}
	staged, err := d.Pool.Stage()
	if err != nil {
		return err
	}
	dir, current := layout.Cur(staged), d.Pool.Path(v.Parent())
	if err := d.restore(ctx, dir, current, d.Pool.Path(v)); err != nil {
		return errors.Join(fmt.Errorf("restore %s: %w", v, err), forget(dir), d.Pool.Discard(staged))
	}
	// There is now the volume as it was. The next start removes what is left.
	_ = forget(dir)
	_ = d.Pool.Discard(staged)
	return nil
}

// restore puts a copy of the snapshot, made in dir, in the place of current.
func (d Driver) restore(ctx context.Context, dir, current, snapshot string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := projquota.Renew(current, dir); err != nil {
		return err
	}
	if err := tree.CopyInto(ctx, dir, snapshot); err != nil {
		return err
	}
	// What it takes the place of goes away, so it has to stay.
	if err := tree.Sync(dir); err != nil {
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

// Delete implements [storage.Driver].
func (d Driver) Delete(_ context.Context, v storage.Volume) error {
	if err := d.MustNotBeMounted(v); err != nil {
		return err
	}
	if err := forget(d.Pool.Path(v)); err != nil {
		return err
	}
	return d.Pool.Delete(v)
}

// Usage implements [storage.Driver].
func (d Driver) Usage(ctx context.Context, v storage.Volume) (int64, error) {
	if err := d.Pool.MustExist(v); err != nil {
		return 0, err
	}
	if known, err := d.Measure(ctx, []storage.Volume{v}); err != nil || len(known) > 0 {
		return known[v], err
	}
	return tree.Usage(ctx, d.Pool.Path(v))
}

// Limit implements [storage.Limiter].
func (d Driver) Limit(_ context.Context, v storage.Volume, size int64) error {
	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	if err := projquota.Check(d.Pool.Root); err != nil {
		return err
	}
	// To count the files of a volume goes through all of it, which no guest
	// may change meanwhile.
	if has, err := projquota.Has(d.Pool.Path(v)); err != nil || !has {
		if err := errors.Join(err, d.MustNotBeMounted(v)); err != nil {
			return err
		}
	}
	return projquota.Limit(size, d.Pool.Path(v))
}

var (
	_ storage.Driver   = Driver{}
	_ storage.Limiter  = Driver{}
	_ storage.Spacer   = Driver{}
	_ storage.Recorder = Driver{}
	_ storage.Sweeper  = Driver{}
)
