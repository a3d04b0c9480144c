package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/projquota"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Receive implements [storage.Streamer].
func (d *driver) Receive(_ context.Context, v storage.Volume) (storage.Receiver, error) {
	if err := mustBeLayered(v); err != nil {
		return nil, err
	}
	staged, fresh, err := d.Stage(v)
	if err != nil {
		return nil, err
	}
	return &receiver{d: d, v: v, staged: staged, fresh: fresh}, nil
}

// A receiver has what came in a staged directory. The layers are in their
// place, where nobody uses them.
type receiver struct {
	d      *driver
	v      storage.Volume
	staged string // Empty when it is done.
	fresh  bool   // There is no v.
	held   []string
	tops   []string // Of the states that came.
}

// Next implements [storage.Receiver].
func (r *receiver) Next(ctx context.Context, in io.Reader, name, base string) error {
	if err := r.next(ctx, in, name, base); err != nil {
		return fmt.Errorf("receive volume %s: %w", storage.Volume{Kind: r.v.Kind, Name: r.v.Name, Snapshot: name}, err)
	}
	return nil
}

func (r *receiver) next(ctx context.Context, in io.Reader, name, base string) error {
	br := bufio.NewReaderSize(in, 1<<17)
	h, err := readHeader(br)
	if err != nil {
		return err
	}
	top, err := r.begin(h, base)
	if err != nil {
		return err
	}
	for _, from := range h.Layers[h.common():] {
		if top, err = r.layer(ctx, br, from, top); err != nil {
			return err
		}
	}
	if name == "" {
		err = r.volume(ctx, br, h, top)
	} else {
		top, err = r.snapshot(ctx, br, snapshotTop{name, top, h.Upper})
	}
	if err == nil {
		r.tops = append(r.tops, top)
	}
	return err
}

// begin returns the layer that a state's first new one comes on top of.
func (r *receiver) begin(h header, base string) (string, error) {
	if base == "" {
		if len(h.Base) > 0 {
			return "", errs.Newf(errs.Unsupported, "the stream builds on a snapshot that is not named")
		}
		return "", nil
	}
	at := layout.SnapshotIn(r.staged, base)
	if _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) {
		s := r.v
		s.Snapshot = base
		if err := r.d.Pool.MustExist(s); errs.Is(err, errs.NotFound) {
			return "", errs.Newf(errs.Unsupported, "the stream builds on snapshot %q, which %s does not have", base, r.v)
		}
		at = r.d.Pool.Path(s)
	}
	p, err := r.d.pileOf(at)
	if err != nil {
		return "", err
	}
	if !p.is(h) {
		return "", errs.Newf(errs.Unsupported, "the stream builds on another snapshot %q than %s has", base, r.v)
	}
	if n := h.common(); n > 0 {
		return p.ids[n-1], nil
	}
	return "", nil
}

// is reports whether a pile is what a stream builds on. What was on top of the
// layers of a snapshot when it was sent is a layer where it was received.
func (p pile) is(h header) bool {
	if slices.Equal(p.sources, h.Base) {
		return h.Topped == (p.upper != "")
	}
	n := len(h.Base)
	return h.Topped && p.upper == "" && len(p.sources) == n+1 && slices.Equal(p.sources[:n], h.Base)
}

// layer receives a layer on top of another, and returns its name. It is held
// until the end.
func (r *receiver) layer(ctx context.Context, br *bufio.Reader, from, below string) (_ string, err error) {
	staged, err := r.d.Pool.Stage()
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.d.discardIfThere(staged))
		}
	}()
	dir := filepath.Join(staged, upper)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := setTop(staged, below); err != nil {
		return "", err
	}
	if from != "" {
		if err := os.Symlink(from, filepath.Join(staged, source)); err != nil {
			return "", err
		}
	}
	in := newSumming(br, below+"\n"+from)
	if err := (tree.ReadOptions{Xattr: checkXattr}).Read(ctx, in, dir); err != nil {
		return "", err
	}
	id, err := r.d.place(staged, in.id(), below)
	if err != nil {
		return "", err
	}
	r.held = append(r.held, id)
	return id, nil
}

// place makes what is staged the layer id, unless there is one already, which
// then has the same in it. It is held for the caller.
func (d *driver) place(staged, id, below string) (string, error) {
	d.mu.Lock()
	if d.uses[id] > 0 {
		d.uses[id]++
		d.mu.Unlock()
		return id, d.Pool.Discard(staged)
	}
	defer d.mu.Unlock()
	err := unix.Renameat2(unix.AT_FDCWD, staged, unix.AT_FDCWD, d.layer(id), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) { // It is about to go away.
		id = layout.NewID()
		err = os.Rename(staged, d.layer(id))
	}
	if err != nil {
		return "", err
	}
	d.uses[id]++
	if below != "" {
		d.uses[below]++
	}
	return id, nil
}

// A snapshotTop is where a snapshot's own part goes.
type snapshotTop struct {
	name, below string
	comes       bool // It has such a part.
}

// snapshot stages a snapshot, and returns its uppermost layer: since what is
// in a snapshot does not change, its own part is one too.
func (r *receiver) snapshot(ctx context.Context, br *bufio.Reader, s snapshotTop) (top string, err error) {
	top = s.below
	if s.comes {
		if top, err = r.layer(ctx, br, "", top); err != nil {
			return "", err
		}
	}
	at := layout.SnapshotIn(r.staged, s.name)
	if err := os.Mkdir(at, 0o700); err != nil {
		return "", err
	}
	return top, setTop(at, top)
}

// volume stages the volume itself.
func (r *receiver) volume(ctx context.Context, br *bufio.Reader, h header, top string) error {
	state := layout.Cur(r.staged)
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	like := ""
	if !h.Upper {
		like = filepath.Join(r.d.layer(top), upper)
	}
	if err := r.d.fresh(state, like, top); err != nil {
		return err
	}
	dir := filepath.Join(state, upper)
	if !r.fresh {
		if err := projquota.Inherit(filepath.Join(r.d.Pool.Path(r.v), upper), dir, filepath.Join(state, work)); err != nil {
			return err
		}
	}
	if !h.Upper {
		return nil
	}
	return tree.ReadOptions{Xattr: checkXattr}.Read(ctx, br, dir)
}

// Commit implements [storage.Receiver].
func (r *receiver) Commit(ctx context.Context) error {
	if err := r.commit(); err != nil {
		return fmt.Errorf("receive volume %s: %w", r.v, err)
	}
	r.release(ctx)
	return nil
}

func (r *receiver) commit() error {
	// What it replaces, or is a copy of, may go away next.
	if err := tree.Sync(r.staged); err != nil {
		return err
	}
	_, err := os.Lstat(layout.Cur(r.staged))
	if r.fresh && err != nil {
		return errs.Invalidf("the volume itself was not received: %w", err)
	}
	for _, id := range r.tops {
		r.d.hold(id)
	}
	if r.fresh {
		err = r.d.Pool.Publish(r.staged, r.v)
	} else if err = r.d.MustNotBeMounted(r.v); err == nil {
		err = r.d.Pool.Merge(r.staged, r.v)
	}
	if err != nil {
		for _, id := range r.tops {
			if id != "" {
				r.d.drop(id) // It is held still.
			}
		}
	}
	return err
}

// release ends the holding of layers, and removes what was replaced. What is
// left over is removed at the next start at last.
func (r *receiver) release(ctx context.Context) {
	if !r.fresh {
		if old, err := topOf(layout.Replaced(r.staged)); err == nil {
			_ = r.d.Pool.Discard(r.staged)
			_ = r.d.release(ctx, old)
		}
	}
	for _, id := range slices.Backward(r.held) {
		_ = r.d.release(ctx, id)
	}
	r.staged, r.held = "", nil
}

// Abort implements [storage.Receiver].
func (r *receiver) Abort(ctx context.Context) error {
	if r.staged == "" {
		return nil
	}
	err := r.d.discardIfThere(r.staged)
	for _, id := range slices.Backward(r.held) {
		err = errors.Join(err, r.d.release(ctx, id))
	}
	r.held = nil
	if err == nil {
		r.staged = ""
	}
	return err
}
