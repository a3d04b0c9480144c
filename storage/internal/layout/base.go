package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/projquota"
	"github.com/cuib/cuib/storage/internal/tree"
)

// A Base is what all drivers of this layout do alike. They embed it, and put
// methods of their own in the place of those that do not fit.
type Base struct {
	Pool   Pool
	Points Points

	form Form
	cfg  storage.Config

	mu        sync.Mutex // Guards leftovers.
	leftovers []string
}

// Open returns the base of a pool that is there, and notes what a crash left
// in it.
func (f Form) Open(cfg storage.Config) (*Base, error) { return f.OpenAt(cfg, RootOf(cfg)) }

// OpenAt is [Form.Open] for a pool in the directory root.
func (f Form) OpenAt(cfg storage.Config, root string) (*Base, error) {
	if err := f.Check(root); err != nil {
		return nil, err
	}
	if err := f.claim(cfg, root); err != nil {
		return nil, err
	}
	b := &Base{Pool: Pool{Root: root, Remove: f.Remove, Move: f.Move}, Points: PointsOf(cfg), form: f, cfg: cfg}
	for _, dir := range []string{staging, trash} {
		path := filepath.Join(root, dir)
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("look for what was left half-made: %w", err)
		}
		for _, e := range entries {
			if err := b.Pool.finish(filepath.Join(path, e.Name())); err != nil {
				return nil, err
			}
			b.leave(filepath.Join(path, e.Name()))
		}
	}
	return b, nil
}

// leave has Sweep remove the path.
func (b *Base) leave(path string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leftovers = append(b.leftovers, path)
}

// Retire takes a directory tree of the pool out of sight, for Sweep.
func (b *Base) Retire(path string) error {
	to, err := b.Pool.Retire(path)
	if err == nil {
		b.leave(to)
	}
	return err
}

// Sweep implements [storage.Sweeper]. What it removes has names that are not
// given again, so that it meets nothing that is new.
func (b *Base) Sweep(ctx context.Context) error {
	b.mu.Lock()
	paths := b.leftovers
	b.leftovers = nil
	b.mu.Unlock()

	var failed []error
	for _, path := range paths {
		err := ctx.Err()
		if err == nil {
			err = b.sweep(ctx, path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.leave(path)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (b *Base) sweep(ctx context.Context, path string) error {
	if b.Pool.Remove != nil {
		return b.Pool.Remove(path)
	}
	// A volume's limit goes with the last of its files.
	projects := map[uint32]bool{}
	for _, dir := range []string{"", current, "upper", filepath.Join(current, "upper")} {
		id, err := projquota.Of(filepath.Join(path, dir))
		if err != nil {
			return err
		}
		projects[id] = id != 0
	}
	err := tree.RemoveUntil(ctx, path)
	for id, limited := range projects {
		if limited && err == nil {
			err = projquota.Reap(b.Pool.Root, id)
		}
	}
	return err
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

// Space implements [storage.Spacer]. A pool that is gone, or that another
// daemon has taken over, has none.
func (b *Base) Space(context.Context) (storage.Space, error) {
	if err := b.Pool.MustBeThere(); err != nil {
		return storage.Space{}, err
	}
	if err := b.form.Owned(b.cfg, b.Pool.Root); err != nil {
		return storage.Space{}, err
	}
	return Space(b.Pool.Root)
}

// ProbeIDs are those of no instance, to see whether they can be mapped.
func ProbeIDs() idmap.Map {
	return idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1000000, Size: 65536}}
}
