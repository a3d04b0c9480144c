package dir

import (
	"context"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Diff implements [storage.Differ]: it looks at all files.
func (d *driver) Diff(ctx context.Context, from, to storage.Volume, fn func(storage.Change) error) error {
	for _, v := range []storage.Volume{from, to} {
		if err := d.Pool.MustExist(v); err != nil {
			return err
		}
	}
	return tree.Diff(ctx, d.Pool.Path(from), d.Pool.Path(to), fn)
}

var _ storage.Differ = (*driver)(nil)
