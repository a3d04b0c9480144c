package overlay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Format implements [storage.Streamer].
func (d *driver) Format() string { return "overlay" }

// source is the link by which a layer that was received keeps the name that
// it has where it was made.
const source = "source"

// sourceOf returns the name of a layer where it was made.
func (d *driver) sourceOf(id string) (string, error) {
	from, err := os.Readlink(filepath.Join(d.layer(id), source))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	return from, err
}

// A pile is what a state is made of.
type pile struct {
	ids     []string // Its layers, the undermost first.
	sources []string // Their names where they were made.
	upper   string   // Its own directory; empty if it has none.
}

func (d *driver) pileOf(state string) (p pile, err error) {
	below, err := topOf(state)
	if err != nil {
		return p, err
	}
	if p.ids, err = d.chain(below); err != nil {
		return p, err
	}
	slices.Reverse(p.ids)
	for _, id := range p.ids {
		from, err := d.sourceOf(id)
		if err != nil {
			return p, err
		}
		p.sources = append(p.sources, from)
	}
	dir := filepath.Join(state, upper)
	if _, err := os.Lstat(dir); err == nil {
		p.upper = dir
	} else if !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	return p, nil
}

// mustBeLayered returns an error of kind Unsupported for volumes that are not
// made of layers, and so have nothing to share.
func mustBeLayered(v storage.Volume) error {
	if isPlain(v) {
		return errs.Newf(errs.Unsupported, "%s is a plain directory, which has no stream", v)
	}
	return nil
}

// Send implements [storage.Streamer].
func (d *driver) Send(ctx context.Context, w io.Writer, v storage.Volume, base string) error {
	if err := d.send(ctx, w, v, base); err != nil {
		return fmt.Errorf("send volume %s: %w", v, err)
	}
	return nil
}

func (d *driver) send(ctx context.Context, w io.Writer, v storage.Volume, base string) error {
	err := errors.Join(mustBeLayered(v), d.Pool.MustExist(v))
	if err != nil {
		return err
	}
	p, err := d.pileOf(d.Pool.Path(v))
	if err != nil {
		return err
	}
	h := header{Layers: p.sources, Upper: p.upper != ""}
	if base != "" {
		from := v.Parent()
		from.Snapshot = base
		if err := d.Pool.MustExist(from); err != nil {
			return err
		}
		b, err := d.pileOf(d.Pool.Path(from))
		if err != nil {
			return err
		}
		h.Base, h.Topped = b.sources, b.upper != ""
	}
	if err := h.write(w); err != nil {
		return err
	}
	o := tree.WriteOptions{Xattr: sendXattr}
	for _, id := range p.ids[h.common():] {
		if err := o.Write(ctx, w, filepath.Join(d.layer(id), upper)); err != nil {
			return err
		}
	}
	if p.upper == "" {
		return nil
	}
	return o.Write(ctx, w, p.upper)
}

var _ storage.Streamer = (*driver)(nil)
