package volumes

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/backups"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/storage"
)

// Backed returns what backups need of custom volumes.
func (s *Service) Backed() backups.Keeper { return backed{s} }

// backed are the volumes as [backups.Keeper] wants them.
type backed struct{ s *Service }

func (b backed) Document(ctx context.Context, o backups.Owner) (api.Document, error) {
	return b.s.Document(ctx, o.Volume.Pool, o.Volume.Name)
}

func (b backed) Volume(ctx context.Context, o backups.Owner) (storage.Driver, storage.Volume, error) {
	if _, err := b.s.load(ctx, o.Volume); err != nil {
		return nil, storage.Volume{}, err
	}
	d, err := b.s.driver(ctx, o.Volume.Pool)
	return d, volume(o.Volume), err
}

func (backed) Describe(context.Context, backups.Owner, []byte) error { return nil }

func (b backed) Hide(ctx context.Context, o backups.Owner, snapshot string, status db.Status) error {
	return b.s.hide(ctx, o.Volume, snapshot, status)
}

func (b backed) Unhide(ctx context.Context, o backups.Owner, snapshot string) error {
	return b.s.unhide(ctx, o.Volume, snapshot)
}

func (b backed) Visit(ctx context.Context, o backups.Owner, snapshot string) (dir string, leave func(), err error) {
	return b.s.visit(ctx, target{o.Volume, snapshot})
}
