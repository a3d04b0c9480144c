package fake

import (
	"context"
	"errors"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Diff implements [storage.Differ].
func (d *Driver) Diff(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	if err := errors.Join(d.pool.MustExist(from), d.pool.MustExist(to)); err != nil {
		return err
	}
	return tree.Diff(ctx, d.pool.Path(from), d.pool.Path(to), fn)
}

var _ storage.Differ = (*Driver)(nil)
