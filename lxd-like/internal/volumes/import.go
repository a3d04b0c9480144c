package volumes

import (
	"context"
	"fmt"
	"io"

	"github.com/cuib/cuib/lxd-like/internal/archives"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// An Upload is an archive to make a volume of.
type Upload struct {
	Data    io.Reader
	Project string // That the volume is to be in.
	Name    string // Another name than the archive's, if it is not empty.
	Pool    string
}

// Import makes a volume of an archive, which it reads straight into the pool.
// It is there, and the job has nothing left to do, when Import returns; if the
// upload ends too early or is bad there is nothing of it.
func (s *Service) Import(ctx context.Context, up Upload) (ops.Job, error) {
	a, err := archives.Open(ctx, up.Data)
	if err != nil {
		return ops.Job{}, fmt.Errorf("import: %w", err)
	}
	defer a.Close()
	if a.Kind != storage.Custom {
		return ops.Job{}, errs.Invalidf("import: the backup is of the instance %q: import it as one", a.Name)
	}
	if err := scope.Bring(ctx, s.Projects, up.Project, &a.Document); err != nil {
		return ops.Job{}, fmt.Errorf("import: %w", err)
	}
	name := up.Name
	if name == "" {
		if name, err = scope.KeyIn(ctx, s.Projects, up.Project, scope.Volume, a.Name); err != nil {
			return ops.Job{}, fmt.Errorf("import: %w", err)
		}
	}
	limit := int64(0)
	if text := a.Document.Volume.Config["size"]; text != "" {
		if limit, err = units.ParseBytes(text); err != nil {
			return ops.Job{}, fmt.Errorf("import %q: size: %w", name, err)
		}
	}
	r := Reinstatement{Document: a.Document, Name: name, Pool: up.Pool, Fill: func(ctx context.Context, d storage.Driver, v storage.Volume) error {
		if err := a.CheckDriver(d); err != nil {
			return err
		}
		return a.Unpack(ctx, d, v, limit)
	}}
	if err := s.CheckReinstate(ctx, r); err != nil {
		return ops.Job{}, fmt.Errorf("import: %w", err)
	}
	if err := s.Reinstate(ctx, r, nil); err != nil {
		return ops.Job{}, fmt.Errorf("import: %w", err)
	}
	return ops.Job{
		Description: "Restoring custom volume backup", Resources: resources(Ref{Pool: up.Pool, Name: name}),
		Run: func(context.Context, *ops.Op) error { return nil },
	}, nil
}
