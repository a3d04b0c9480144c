package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/projquota"
	"github.com/cuib/cuib/storage/internal/tree"
)

const (
	layers = "layers"
	upper  = "upper"
	work   = "work"
	top    = "top"
)

// maxDepth is how many layers may be below a volume. The kernel takes 500,
// but each costs every lookup.
const maxDepth = 64

func (d *driver) layer(id string) string { return filepath.Join(d.Pool.Root, layers, id) }

// topOf returns the layer below a state; an empty string if there is none.
func topOf(state string) (string, error) {
	id, err := os.Readlink(filepath.Join(state, top))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return id, err
}

// chain returns the layer id and those below it.
func (d *driver) chain(id string) ([]string, error) {
	var ids []string
	for id != "" {
		ids = append(ids, id)
		next, err := topOf(d.layer(id))
		if err != nil {
			return nil, err
		}
		id = next
	}
	return ids, nil
}

// count counts the uses of all layers, and takes away those that have none.
func (d *driver) count() error {
	ids, err := os.ReadDir(filepath.Join(d.Pool.Root, layers))
	if err != nil {
		return err
	}
	vols, err := d.Pool.List()
	if err != nil {
		return err
	}
	states := make([]string, 0, len(ids)+len(vols))
	for _, e := range ids {
		states = append(states, d.layer(e.Name()))
	}
	for _, v := range vols {
		if !isPlain(v) {
			states = append(states, d.Pool.Path(v))
		}
	}
	for _, state := range states {
		id, err := topOf(state)
		if err != nil {
			return err
		}
		if id != "" && state != d.layer(id) { // Its own: a crash before the exchange.
			d.uses[id]++
		}
	}
	for _, e := range ids {
		if d.uses[e.Name()] > 0 {
			continue
		}
		d.uses[e.Name()] = 1
		if err := d.releaseBy(e.Name(), d.Retire); err != nil { // To remove them takes long.
			return err
		}
	}
	return nil
}

// hold counts one more use of a layer; id may be empty.
func (d *driver) hold(id string) {
	if id == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uses[id]++
}

// release ends one use of a layer, and removes it if that was the last.
func (d *driver) release(_ context.Context, id string) error {
	return d.releaseBy(id, d.Pool.Discard)
}

// releaseBy is release with a function that removes.
func (d *driver) releaseBy(id string, remove func(path string) error) error {
	for id != "" && d.drop(id) {
		below, err := topOf(d.layer(id))
		if err != nil {
			return err
		}
		if err := remove(d.layer(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove layer %s: %w", id, err)
		}
		if below == id {
			return nil
		}
		id = below
	}
	return nil
}

// drop counts one use less and reports whether none is left.
func (d *driver) drop(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.uses[id]--; d.uses[id] > 0 {
		return false
	}
	delete(d.uses, id)
	return true
}

func (d *driver) usesOf(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.uses[id]
}

// depth returns how many layers may be below v. Those of a volume that somebody
// reads would go away if they were made one of.
func (d *driver) depth(v storage.Volume) (int, error) {
	mounted, err := d.Points.Mounted(v)
	if mounted {
		return maxLayers, err
	}
	return maxDepth, err
}

// seal makes a layer of what is in the state, if something is, and returns
// the layer that then holds all of it. It is held for the caller. If there are
// most layers below, or more, these are made one of.
func (d *driver) seal(ctx context.Context, state string, most int) (_ string, err error) {
	unlock := d.locks.Lock(state)
	defer unlock()

	below, err := topOf(state)
	if err != nil {
		return "", err
	}
	clean, err := d.pristine(state, below)
	if err != nil {
		return "", err
	}
	if clean {
		d.hold(below)
		return below, nil
	}
	ids, err := d.chain(below)
	if err != nil {
		return "", err
	}
	if len(ids) >= most {
		return d.flatten(ctx, state, ids)
	}
	id := layout.NewID()
	staged, err := d.successor(state, filepath.Join(state, upper), id)
	if err != nil {
		return "", err
	}
	// The new state takes the place that the old one is to have: if the
	// daemon ends now, it is a layer that nothing uses.
	if err := os.Rename(staged, d.layer(id)); err != nil {
		return "", errors.Join(err, d.Pool.Discard(staged))
	}
	if err := layout.Exchange(d.layer(id), state); err != nil {
		return "", errors.Join(err, d.Pool.Discard(d.layer(id)))
	}
	d.hold(id) // By the state, which held below; now the layer holds that.
	d.hold(id)
	return id, nil
}

// pristine reports whether there is nothing in the state but what the layer
// below has.
func (d *driver) pristine(state, below string) (bool, error) {
	dir := filepath.Join(state, upper)
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil || below == "" {
		f.Close()
		return false, err
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); !errors.Is(err, io.EOF) {
		return false, err
	}
	return sameAttrs(dir, filepath.Join(d.layer(below), upper))
}

func sameAttrs(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := errors.Join(unix.Lstat(a, &sa), unix.Lstat(b, &sb)); err != nil {
		return false, err
	}
	if sa.Mode != sb.Mode || sa.Uid != sb.Uid || sa.Gid != sb.Gid {
		return false, nil
	}
	xa, err := ownXattrs(a)
	if err != nil {
		return false, err
	}
	xb, err := ownXattrs(b)
	return maps.Equal(xa, xb), err
}

// ownXattrs returns a directory's attributes without those of overlayfs.
func ownXattrs(path string) (map[string]string, error) {
	attrs, err := tree.Xattrs(path)
	maps.DeleteFunc(attrs, func(name, _ string) bool { return strings.HasPrefix(name, "trusted.overlay.") })
	return attrs, err
}

// successor stages a state that takes the place of another, with the
// attributes of the directory like, on top of the layer id.
func (d *driver) successor(state, like, id string) (staged string, err error) {
	staged, err = d.Pool.Stage()
	if err != nil {
		return "", err
	}
	err = d.fresh(staged, like, id)
	if err == nil {
		err = projquota.Inherit(filepath.Join(state, upper), filepath.Join(staged, upper), filepath.Join(staged, work))
	}
	if err != nil {
		return "", errors.Join(err, d.Pool.Discard(staged))
	}
	return staged, nil
}

// fresh puts an empty upper directory with the attributes of the directory
// like, on top of the layer id, into the state.
func (d *driver) fresh(state, like, id string) error {
	dir := filepath.Join(state, upper)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(state, work), 0o700); err != nil {
		return err
	}
	if like != "" {
		if err := copyOwn(dir, like); err != nil {
			return err
		}
	}
	return setTop(state, id)
}

// copyOwn copies attributes but not those of overlayfs, which are about the
// directory's place.
func copyOwn(dst, src string) error {
	if err := tree.CopyAttrs(dst, src); err != nil {
		return err
	}
	attrs, err := tree.Xattrs(dst)
	if err != nil {
		return err
	}
	for name := range attrs {
		if !strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		if err := unix.Lremovexattr(dst, name); err != nil {
			return &os.PathError{Op: "remove " + name, Path: dst, Err: err}
		}
	}
	return nil
}

func setTop(state, id string) error {
	if id == "" {
		return nil
	}
	return os.Symlink(id, filepath.Join(state, top))
}

// flatten is [driver.seal] for a state on top of too many layers: it makes one
// of many, or of all if that is not possible.
func (d *driver) flatten(ctx context.Context, state string, ids []string) (_ string, err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	flat, err := d.Pool.Stage()
	if err != nil {
		return "", err
	}
	u.Push("remove the staged layer", func(context.Context) error { return d.discardIfThere(flat) })

	bottom, err := d.squash(ctx, flat, state, ids)
	if err == nil && bottom == "" {
		err = d.merge(ctx, filepath.Join(flat, upper), state)
	}
	if err != nil {
		return "", fmt.Errorf("flatten %d layers: %w", len(ids), err)
	}
	// The layers that it was merged from go away, so it has to stay.
	if err := tree.Sync(flat); err != nil {
		return "", err
	}
	id := layout.NewID()
	staged, err := d.successor(state, filepath.Join(state, upper), id)
	if err != nil {
		return "", err
	}
	u.Push("remove the staged state", func(context.Context) error { return d.discardIfThere(staged) })

	if err := os.Rename(flat, d.layer(id)); err != nil {
		return "", err
	}
	u.Push("remove the layer", func(context.Context) error { return d.discardIfThere(d.layer(id)) })

	if err := layout.Exchange(staged, state); err != nil {
		return "", err
	}
	d.hold(bottom)
	d.hold(id)
	d.hold(id)
	// What is left over does no harm, and is removed at the next start.
	_ = d.Pool.Discard(staged)
	_ = d.release(ctx, ids[0])
	return id, nil
}

func (d *driver) discardIfThere(path string) error {
	err := d.Pool.Discard(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// merge copies what one sees of a state into the directory dst.
func (d *driver) merge(ctx context.Context, dst, state string) error {
	dirs, err := d.stack(state)
	if err != nil {
		return err
	}
	if len(dirs) == 1 { // Of one directory there is no overlay.
		return tree.Copy(ctx, dst, filepath.Join(d.Pool.Root, dirs[0]))
	}
	f, err := mounts.Overlay{Root: d.Pool.Root, Lower: dirs}.Mount()
	if err != nil {
		return err
	}
	defer f.Close()
	return tree.Copy(ctx, dst, fmt.Sprintf("/proc/self/fd/%d/.", f.Fd()))
}

// stack returns the directories that make up a state, the uppermost first,
// relative to the pool's root.
func (d *driver) stack(state string) ([]string, error) {
	below, err := topOf(state)
	if err != nil {
		return nil, err
	}
	var dirs []string
	if _, err := os.Lstat(filepath.Join(state, upper)); err == nil {
		dirs = append(dirs, filepath.Join(d.rel(state), upper))
	}
	ids, err := d.chain(below)
	for _, id := range ids {
		dirs = append(dirs, filepath.Join(layers, id, upper))
	}
	return dirs, err
}

func (d *driver) rel(path string) string {
	return strings.TrimPrefix(path, d.Pool.Root+"/")
}
