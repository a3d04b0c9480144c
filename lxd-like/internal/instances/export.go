package instances

import (
	"bytes"
	"context"
	"os"

	"github.com/cuib/cuib/lxd-like/internal/backups"
	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/storage"
)

// Backed returns what backups need of instances.
func (s *Service) Backed() backups.Keeper { return backed{s} }

// backed are the instances as [backups.Keeper] wants them.
type backed struct{ s *Service }

func (b backed) Document(ctx context.Context, o backups.Owner) (api.Document, error) {
	return b.s.Document(ctx, o.Instance)
}

func (b backed) Volume(ctx context.Context, o backups.Owner) (storage.Driver, storage.Volume, error) {
	in, err := b.s.load(ctx, o.Instance)
	if err != nil {
		return nil, storage.Volume{}, err
	}
	d, err := b.s.driver(ctx, in)
	return d, in.volume(), err
}

// documentFile is where the peers keep the document of an instance.
const documentFile = "backup.yaml"

func (b backed) Describe(ctx context.Context, o backups.Owner, text []byte) error {
	return b.s.inVolume(ctx, o.Instance, func(_ *instance, dir string) error {
		volume, err := os.Open(dir)
		if err != nil {
			return err
		}
		var ids idmap.Map
		if a := b.s.index.get(o.Instance); a != nil {
			ids = a.ids
		}
		fs := guestfs.New(volume, ids, nil)
		defer fs.Close()
		if text != nil {
			return fs.Write(documentFile, bytes.NewReader(text), guestfs.File{UID: -1, GID: -1, Mode: 0o400})
		}
		if err := fs.Remove(documentFile); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}

func (b backed) Hide(ctx context.Context, o backups.Owner, snapshot string, status db.Status) error {
	in, unlock, err := b.s.locked(ctx, o.Instance)
	if err != nil {
		return err
	}
	defer unlock()
	b.s.warnDelegated(ctx, in, nil)
	return b.s.hide(ctx, in, snapshot, status)
}

func (b backed) Unhide(ctx context.Context, o backups.Owner, snapshot string) error {
	in, unlock, err := b.s.locked(ctx, o.Instance)
	if err != nil {
		return err
	}
	defer unlock()
	return b.s.unhide(ctx, in, snapshot)
}

func (b backed) Visit(ctx context.Context, o backups.Owner, snapshot string) (dir string, leave func(), err error) {
	_, unlock, err := b.s.locked(ctx, o.Instance)
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	v, err := b.s.visit(ctx, o.Instance, snapshot)
	if err != nil {
		return "", nil, err
	}
	return v.dir, v.leave, nil
}
