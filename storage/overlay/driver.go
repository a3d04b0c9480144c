package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/locks"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/plain"
	"github.com/cuib/cuib/storage/internal/projquota"
	"github.com/cuib/cuib/storage/internal/tree"
)

type driver struct {
	*layout.Base

	plain   plain.Driver // Of the custom volumes.
	locks   locks.Keyed  // One for each state that is being sealed.
	flusher tree.Flusher

	mu   sync.Mutex // Guards uses.
	uses map[string]int
}

// make makes v of the state that fill fills.
func (d *driver) make(v storage.Volume, fill func(state string) error) (err error) {
	if err := d.Pool.MustNotExist(v); err != nil {
		return err
	}
	staged, err := d.Pool.Stage()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.discardIfThere(staged))
		}
	}()
	state := staged
	if v.Snapshot == "" {
		state = layout.Cur(staged)
		if err := os.Mkdir(state, 0o700); err != nil {
			return err
		}
	}
	if err := fill(state); err != nil {
		return err
	}
	return d.Pool.Publish(staged, v)
}

// isPlain reports whether v is a plain directory.
func isPlain(v storage.Volume) bool { return v.Kind == storage.Custom }

func (d *driver) Create(ctx context.Context, v storage.Volume) error {
	if isPlain(v) {
		return d.plain.Create(ctx, v)
	}
	err := d.make(v, func(state string) error { return d.fresh(state, "", "") })
	if err != nil {
		return fmt.Errorf("create volume %s: %w", v, err)
	}
	return nil
}

func (d *driver) Clone(ctx context.Context, dst, src storage.Volume) error {
	var err error
	switch {
	case isPlain(dst) && isPlain(src):
		return d.plain.Clone(ctx, dst, src)
	case isPlain(dst) || isPlain(src):
		err = d.convert(ctx, dst, src)
	default:
		err = d.derive(ctx, dst, src)
	}
	if err != nil {
		return fmt.Errorf("clone volume %s to %s: %w", src, dst, err)
	}
	return nil
}

// convert copies what is in a volume that is plain into one that is not, or
// the other way round.
func (d *driver) convert(ctx context.Context, dst, src storage.Volume) error {
	if err := d.Pool.MustExist(src); err != nil {
		return err
	}
	if isPlain(dst) {
		return d.plain.Make(dst, func(dir string) error {
			if err := d.merge(ctx, dir, d.Pool.Path(src)); err != nil {
				return err
			}
			return tree.Sync(dir)
		})
	}
	return d.make(dst, func(state string) error {
		if err := tree.Copy(ctx, filepath.Join(state, upper), d.Pool.Path(src)); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(state, work), 0o700); err != nil {
			return err
		}
		return tree.Sync(filepath.Join(state, upper))
	})
}

func (d *driver) Snapshot(ctx context.Context, v storage.Volume) error {
	if isPlain(v) {
		return d.plain.Snapshot(ctx, v)
	}
	if err := d.derive(ctx, v, v.Parent()); err != nil {
		return fmt.Errorf("snapshot volume %s: %w", v, err)
	}
	return nil
}

// derive makes dst with what is in src.
func (d *driver) derive(ctx context.Context, dst, src storage.Volume) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := d.Pool.MustExist(src); err != nil {
		return err
	}
	if err := d.Pool.MustNotExist(dst); err != nil {
		return err
	}
	mounted, err := d.Points.Mounted(src)
	if err != nil {
		return err
	}
	from := d.Pool.Path(src)
	if mounted && src.Snapshot == "" {
		return d.deriveCopy(ctx, dst, from)
	}
	most, err := d.depth(src)
	if err != nil {
		return err
	}
	id, err := d.seal(ctx, from, most)
	if err != nil {
		return err
	}
	u.Push("release the layer", func(ctx context.Context) error { return d.release(ctx, id) })

	return d.make(dst, func(state string) error {
		if dst.Snapshot != "" {
			return setTop(state, id)
		}
		return d.fresh(state, filepath.Join(d.layer(id), upper), id)
	})
}

// deriveCopy makes dst with a copy of a state that is in use.
func (d *driver) deriveCopy(ctx context.Context, dst storage.Volume, from string) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	id, err := topOf(from)
	if err != nil {
		return err
	}
	d.hold(id)
	u.Push("release the layer", func(ctx context.Context) error { return d.release(ctx, id) })

	err = d.make(dst, func(state string) error {
		if err := tree.Copy(ctx, filepath.Join(state, upper), filepath.Join(from, upper)); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(state, work), 0o700); err != nil {
			return err
		}
		return setTop(state, id)
	})
	if err == nil && !storage.Fleeting(dst.Snapshot) {
		// Nobody waits for the disk, which would take longer than all else:
		// a loss of power in the next moment can cost what was copied.
		d.flusher.Flush(d.Pool.Root)
	}
	return err
}

func (d *driver) Restore(ctx context.Context, v storage.Volume) (err error) {
	if isPlain(v) {
		return d.plain.Restore(ctx, v)
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	if err := d.MustNotBeMounted(v.Parent()); err != nil {
		return err
	}
	most, err := d.depth(v)
	if err != nil {
		return err
	}
	id, err := d.seal(ctx, d.Pool.Path(v), most)
	if err != nil {
		return err
	}
	u.Push("release the layer", func(ctx context.Context) error { return d.release(ctx, id) })

	state := d.Pool.Path(v.Parent())
	staged, err := d.successor(state, filepath.Join(d.layer(id), upper), id)
	if err != nil {
		return fmt.Errorf("restore %s: %w", v, err)
	}
	if err := renew(state, staged); err != nil {
		return errors.Join(err, d.Pool.Discard(staged))
	}
	if err := layout.Exchange(staged, state); err != nil {
		return errors.Join(err, projquota.Forget(filepath.Join(staged, upper)), d.Pool.Discard(staged))
	}
	// It is done. What is left over is removed at the next start at last.
	_ = projquota.Forget(filepath.Join(staged, upper))
	if old, err := topOf(staged); err == nil {
		_ = d.Pool.Discard(staged)
		_ = d.release(ctx, old)
	}
	return nil
}

// renew gives a state that is to take another's place a limit of its own: the
// files of the other count until the last of them is gone.
func renew(state, staged string) error {
	if err := projquota.Renew(filepath.Join(state, upper), filepath.Join(staged, upper)); err != nil {
		return err
	}
	return projquota.Inherit(filepath.Join(staged, upper), filepath.Join(staged, work))
}

func (d *driver) Delete(ctx context.Context, v storage.Volume) error {
	if isPlain(v) {
		return d.plain.Delete(ctx, v)
	}
	if err := d.MustNotBeMounted(v); err != nil {
		return err
	}
	id, err := topOf(d.Pool.Path(v))
	if err != nil {
		return err
	}
	if err := projquota.Forget(filepath.Join(d.Pool.Path(v), upper)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	gone, err := d.Pool.Trash(v)
	if err != nil || gone == "" {
		return err
	}
	return errors.Join(d.Pool.Discard(gone), d.release(ctx, id))
}

func (d *driver) Mount(ctx context.Context, v storage.Volume, ids idmap.Map) (string, error) {
	if isPlain(v) {
		return d.plain.Mount(ctx, v, ids)
	}
	if err := d.Pool.MustExist(v); err != nil {
		return "", err
	}
	return d.Points.Mount(v, ids, func() (*os.File, error) { return d.assemble(v, ids) })
}

// assemble returns v as a detached mount.
func (d *driver) assemble(v storage.Volume, ids idmap.Map) (*os.File, error) {
	state := d.Pool.Path(v)
	dirs, err := d.stack(state)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 1 {
		o := mounts.Options{IDs: ids, ReadOnly: v.Snapshot != ""}
		return mounts.Tree(filepath.Join(d.Pool.Root, dirs[0]), o)
	}
	o := mounts.Overlay{Root: d.Pool.Root, Lower: dirs, IDs: ids}
	if v.Snapshot == "" {
		o.Upper, o.Lower, o.Work = dirs[0], dirs[1:], filepath.Join(d.rel(state), work)
		return mountUpper(o, filepath.Join(state, upper))
	}
	return o.Mount()
}

// mountUpper mounts a stack to write to. Overlayfs makes a directory of its
// own for that, and where it cannot, is read-only without a word: a volume
// that has reached its limit must have room for that.
func mountUpper(o mounts.Overlay, dir string) (f *os.File, err error) {
	err = projquota.WithSlack(dir, func() error {
		f, err = o.Mount()
		return err
	})
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(&os.PathError{Op: "statfs", Path: dir, Err: err}, f.Close())
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return nil, errors.Join(errs.Newf(errs.Unavailable, "the pool has no room for what overlayfs needs to write: free some"), f.Close())
	}
	return f, nil
}

// Usage implements [storage.Driver].
func (d *driver) Usage(ctx context.Context, v storage.Volume) (int64, error) {
	if isPlain(v) {
		return d.plain.Usage(ctx, v)
	}
	if err := d.Pool.MustExist(v); err != nil {
		return 0, err
	}
	if known, err := d.Measure(ctx, []storage.Volume{v}); err != nil || len(known) > 0 {
		return known[v], err
	}
	state := d.Pool.Path(v)
	total, err := usage(ctx, state)
	if err != nil {
		return 0, err
	}
	id, err := topOf(state)
	for err == nil && id != "" && d.usesOf(id) == 1 {
		var n int64
		if n, err = usage(ctx, d.layer(id)); err != nil {
			break
		}
		total += n
		id, err = topOf(d.layer(id))
	}
	return total, err
}

// usage returns the bytes in a state's upper directory, which it may lack.
func usage(ctx context.Context, state string) (int64, error) {
	dir := filepath.Join(state, upper)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return tree.Usage(ctx, dir)
}

// Limit implements [storage.Limiter]. What a volume shares with what it was
// cloned from does not count.
func (d *driver) Limit(ctx context.Context, v storage.Volume, size int64) error {
	if isPlain(v) {
		return d.plain.Limit(ctx, v, size)
	}
	if err := d.Pool.MustExist(v); err != nil {
		return err
	}
	state := d.Pool.Path(v)
	if err := projquota.Check(d.Pool.Root); err != nil {
		return err
	}
	// To count the files of a volume goes through all of it, which no guest
	// may change meanwhile.
	if has, err := projquota.Has(filepath.Join(state, upper)); err != nil || !has {
		if err := errors.Join(err, d.MustNotBeMounted(v)); err != nil {
			return err
		}
	}
	return projquota.Limit(size, filepath.Join(state, upper), filepath.Join(state, work))
}

var (
	_ storage.Limiter  = (*driver)(nil)
	_ storage.Spacer   = (*driver)(nil)
	_ storage.Recorder = (*driver)(nil)
	_ storage.Sweeper  = (*driver)(nil)
)
