// Package fake is a driver for the tests of its callers. It keeps volumes as
// directories, needs no root, and fails when told to. It maps no ids.
package fake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/tree"
)

// ErrInjected is the error of a call that was told to fail.
var ErrInjected = errors.New("injected failure")

// A Driver is a [storage.Driver] in a directory. Make it with [New].
type Driver struct {
	*layout.Base // What it does not do itself.

	// Fail is called before each method that changes something, and before
	// Mount and Unmount. If it returns an error, the method returns that and
	// changes nothing.
	Fail func(method string) error

	pool *layout.Pool

	mu      sync.Mutex // Guards what follows.
	mounted map[storage.Volume]idmap.Map
	limits  map[storage.Volume]int64
	options map[storage.Volume]map[string]string
}

// form is what a pool of this driver looks like.
var form = layout.Form{Driver: "fake"}

// New returns a driver that keeps its volumes in the directory root.
func New(root string) (*Driver, error) {
	if errs.Is(form.Check(root), errs.Unavailable) {
		if err := os.MkdirAll(root, 0o700); err != nil {
			return nil, err
		}
		if err := form.Make(root); err != nil {
			return nil, err
		}
	}
	b, err := form.OpenAt(storage.Config{}, root)
	if err != nil {
		return nil, err
	}
	return &Driver{
		Base:    b,
		pool:    &b.Pool,
		mounted: map[storage.Volume]idmap.Map{},
		limits:  map[storage.Volume]int64{},
		options: map[storage.Volume]map[string]string{},
	}, nil
}

// Type is a kind of pool whose drivers are fake. Each of its functions first
// calls fail, which may be nil, with its name.
func Type(fail func(method string) error) storage.Type {
	before := func(method string) error {
		if fail == nil {
			return nil
		}
		return fail(method)
	}
	return storage.Type{
		Check: func(context.Context) error { return before("Check") },
		Make: func(ctx context.Context, cfg storage.Config) (storage.Config, error) {
			if err := before("Make"); err != nil {
				return cfg, err
			}
			mkdir := func(path string) error { return os.Mkdir(path, 0o700) }
			return cfg, form.MakePool(ctx, cfg, mkdir, func(string) error { return nil })
		},
		Adopt: func(_ context.Context, cfg storage.Config) (storage.Config, error) {
			return cfg, errors.Join(before("Adopt"), form.Adopt(layout.RootOf(cfg)))
		},
		Open: func(_ context.Context, cfg storage.Config) (storage.Driver, error) {
			if err := errors.Join(before("Open"), form.Check(layout.RootOf(cfg))); err != nil {
				return nil, err
			}
			d, err := New(layout.RootOf(cfg))
			if err != nil {
				return nil, err
			}
			d.Fail = fail
			return d, nil
		},
		Remove: func(_ context.Context, cfg storage.Config) error {
			if err := before("Remove"); err != nil {
				return err
			}
			return form.RemovePool(cfg)
		},
		Options:       map[string]string{"fake.option": "Does nothing.", "source.wipe": "Does nothing."},
		Live:          []string{"fake.option"},
		VolumeOptions: map[string]string{volumeOption: "Is kept: red or blue."},
		CheckOption:   checkOption,
		Version:       func(context.Context) string { return "1" },
	}
}

const volumeOption = "fake.colour"

func checkOption(key, value string) error {
	if key == volumeOption && value != "red" && value != "blue" {
		return errs.Invalidf("%q is no colour: use red or blue", value)
	}
	return nil
}

// before is called by each method, and returns what it is to fail with.
func (d *Driver) before(method string) error {
	if d.Fail == nil {
		return nil
	}
	return d.Fail(method)
}

// make makes v of the directory that fill makes.
func (d *Driver) make(v storage.Volume, fill func(dir string) error) error {
	if err := d.pool.MustNotExist(v); err != nil {
		return err
	}
	if err := d.pool.MakeParent(v); err != nil {
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
		return d.pool.Publish(staged, v)
	}
	return errors.Join(d.pool.Publish(contents, v), d.pool.Discard(staged))
}

// Create implements [storage.Driver].
func (d *Driver) Create(_ context.Context, v storage.Volume) error {
	if err := d.before("Create"); err != nil {
		return err
	}
	return d.make(v, func(dir string) error { return os.Mkdir(dir, 0o700) })
}

// Clone implements [storage.Driver].
func (d *Driver) Clone(ctx context.Context, dst, src storage.Volume) error {
	if err := d.before("Clone"); err != nil {
		return err
	}
	return d.copy(ctx, dst, src)
}

func (d *Driver) copy(ctx context.Context, dst, src storage.Volume) error {
	if err := d.pool.MustExist(src); err != nil {
		return err
	}
	return d.make(dst, func(dir string) error { return tree.Copy(ctx, dir, d.pool.Path(src)) })
}

// Snapshot implements [storage.Driver].
func (d *Driver) Snapshot(ctx context.Context, v storage.Volume) error {
	if err := d.before("Snapshot"); err != nil {
		return err
	}
	return d.copy(ctx, v, v.Parent())
}

// Restore implements [storage.Driver].
func (d *Driver) Restore(ctx context.Context, v storage.Volume) error {
	if err := d.before("Restore"); err != nil {
		return err
	}
	if err := errors.Join(d.pool.MustExist(v), d.mustNotBeMounted(v.Parent())); err != nil {
		return err
	}
	staged, err := d.pool.Stage()
	if err != nil {
		return err
	}
	dir := layout.Cur(staged)
	err = tree.Copy(ctx, dir, d.pool.Path(v))
	if err == nil {
		err = layout.Exchange(dir, d.pool.Path(v.Parent()))
	}
	return errors.Join(err, d.pool.Discard(staged))
}

func (d *Driver) mustNotBeMounted(v storage.Volume) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.mounted[v]; ok {
		return errs.Conflictf("volume %s is mounted", v)
	}
	return nil
}

// Rename implements [storage.Driver].
func (d *Driver) Rename(_ context.Context, v storage.Volume, name string) error {
	if err := d.before("Rename"); err != nil {
		return err
	}
	if err := d.mustNotBeMounted(v); err != nil {
		return err
	}
	if err := d.pool.Rename(v, name); err != nil || v.Snapshot != "" {
		return err
	}
	to := storage.Volume{Kind: v.Kind, Name: name}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limits[to], d.options[to] = d.limits[v], d.options[v]
	delete(d.limits, v)
	delete(d.options, v)
	return nil
}

// Delete implements [storage.Driver].
func (d *Driver) Delete(_ context.Context, v storage.Volume) error {
	if err := d.before("Delete"); err != nil {
		return err
	}
	if err := d.mustNotBeMounted(v); err != nil {
		return err
	}
	return d.pool.Delete(v)
}

// Mount implements [storage.Driver]. The directory is the volume's own,
// whatever the ids are.
func (d *Driver) Mount(_ context.Context, v storage.Volume, ids idmap.Map) (string, error) {
	if err := d.before("Mount"); err != nil {
		return "", err
	}
	if err := d.pool.MustExist(v); err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if have, ok := d.mounted[v]; ok && fmt.Sprint(have) != fmt.Sprint(ids) {
		return "", errs.Conflictf("volume %s is mounted with other ids", v)
	}
	d.mounted[v] = ids
	return d.pool.Path(v), nil
}

// Unmount implements [storage.Driver].
func (d *Driver) Unmount(_ context.Context, v storage.Volume) error {
	if err := d.before("Unmount"); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.mounted, v)
	return nil
}

// Mounted returns the volumes that are mounted.
func (d *Driver) Mounted() []storage.Volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []storage.Volume
	for v := range d.mounted {
		all = append(all, v)
	}
	return all
}

// Usage implements [storage.Driver].
func (d *Driver) Usage(ctx context.Context, v storage.Volume) (int64, error) {
	if err := d.pool.MustExist(v); err != nil {
		return 0, err
	}
	return tree.Usage(ctx, d.pool.Path(v))
}

// Limit implements [storage.Limiter]. It keeps the number and limits nothing.
func (d *Driver) Limit(_ context.Context, v storage.Volume, size int64) error {
	if err := d.before("Limit"); err != nil {
		return err
	}
	if err := d.pool.MustExist(v); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limits[v] = size
	return nil
}

// Limited returns the size that Limit was last given for v; 0 if none.
func (d *Driver) Limited(v storage.Volume) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.limits[v]
}

// Tune implements [storage.Tuner]. It keeps the options.
func (d *Driver) Tune(_ context.Context, v storage.Volume, options map[string]string) error {
	if err := d.before("Tune"); err != nil {
		return err
	}
	if err := d.pool.MustExist(v); err != nil {
		return err
	}
	for key, value := range options {
		if key != volumeOption {
			return errs.Invalidf("key %q is not known to the volumes of a fake pool", key)
		}
		if err := checkOption(key, value); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.options[v] = maps.Clone(options)
	return nil
}

// Tuned returns the options that Tune was last given for v.
func (d *Driver) Tuned(v storage.Volume) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.options[v])
}

// Adjust implements [storage.Adjuster] for the key "fake.option".
func (d *Driver) Adjust(context.Context, map[string]string) error { return d.before("Adjust") }

// SetRecord implements [storage.Recorder].
func (d *Driver) SetRecord(ctx context.Context, v storage.Volume, doc []byte) error {
	if err := d.before("SetRecord"); err != nil {
		return err
	}
	return d.Base.SetRecord(ctx, v, doc)
}

// Empty reports whether the pool's directory holds no trace of any volume.
func (d *Driver) Empty() (bool, error) {
	for _, dir := range []string{"staging", "trash"} {
		entries, err := os.ReadDir(filepath.Join(d.pool.Root, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if len(entries) > 0 {
			return false, nil
		}
	}
	vols, err := d.pool.List()
	return len(vols) == 0, err
}

// FailNth returns a Fail that fails the n-th call, counted from 1.
func FailNth(n int) func(string) error {
	var mu sync.Mutex
	return func(method string) error {
		mu.Lock()
		defer mu.Unlock()
		if n--; n == 0 {
			return fmt.Errorf("%s: %w", method, ErrInjected)
		}
		return nil
	}
}

var (
	_ storage.Limiter  = (*Driver)(nil)
	_ storage.Spacer   = (*Driver)(nil)
	_ storage.Recorder = (*Driver)(nil)
	_ storage.Sweeper  = (*Driver)(nil)
	_ storage.Tuner    = (*Driver)(nil)
	_ storage.Adjuster = (*Driver)(nil)
)
