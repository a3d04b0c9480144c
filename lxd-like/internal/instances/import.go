package instances

import (
	"context"
	"fmt"
	"io"

	"github.com/cuib/cuib/lxd-like/internal/archives"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// An Upload is an archive to make an instance of.
type Upload struct {
	Data    io.Reader
	Project string         // That the instance is to be in.
	Name    string         // Another name than the archive's, if it is not empty.
	Pool    string         // Another pool, if it is not empty.
	Config  api.ConfigMap  // Keys that are to be others.
	Devices api.DevicesMap // Devices that are to be others.
}

// Import makes an instance of an archive, which it reads straight into the
// pool. It is there, and the job has nothing left to do, when Import returns;
// if the upload ends too early or is bad there is nothing of it.
func (s *Service) Import(ctx context.Context, up Upload) (ops.Job, error) {
	a, err := archives.Open(ctx, up.Data)
	if err != nil {
		return ops.Job{}, fmt.Errorf("import: %w", err)
	}
	defer a.Close()
	if a.Kind != storage.Instance {
		return ops.Job{}, errs.Invalidf("import: the backup is of the custom volume %q: import it into a storage pool", a.Name)
	}
	if err := scope.Bring(ctx, s.Projects, up.Project, &a.Document); err != nil {
		return ops.Job{}, fmt.Errorf("import: %w", err)
	}
	if config := a.Document.Instance.Config; config[keyUUID] != "" && config[keyGeneration] == "" {
		config[keyGeneration] = config[keyUUID] // LXD 5.0 does not have it.
	}
	r := Reinstatement{Document: a.Document, Name: up.Name, Pool: up.Pool, Config: up.Config, Devices: up.Devices}
	if r.Name == "" {
		if r.Name, err = scope.KeyIn(ctx, s.Projects, up.Project, scope.Instance, a.Name); err != nil {
			return ops.Job{}, fmt.Errorf("import: %w", err)
		}
	}
	if err := unshifted(a); err != nil {
		return ops.Job{}, fmt.Errorf("import %q: %w", r.Name, err)
	}
	limit, err := rootSize(r)
	if err != nil {
		return ops.Job{}, fmt.Errorf("import %q: %w", r.Name, err)
	}
	r.Fill = func(ctx context.Context, d storage.Driver, v storage.Volume) error {
		if err := a.CheckDriver(d); err != nil {
			return err
		}
		return a.Unpack(ctx, d, v, limit)
	}
	if err := s.Reinstate(ctx, r, nil); err != nil {
		return ops.Job{}, fmt.Errorf("import: %w", err)
	}
	return ops.Job{
		Description: "Restoring backup", Objects: objects(r.Name), Resources: resources(r.Name),
		Run: func(context.Context, *ops.Op) error { return nil },
	}, nil
}

// unshifted refuses streams of a volume whose files have the ids that they
// have on the host, as the peers store them where the kernel cannot map ids.
func unshifted(a *archives.Archive) error {
	last := a.Document.Instance.Config[keyIDLast]
	if !a.Optimized || last == "" || last == "[]" {
		return nil
	}
	return errs.Newf(errs.Unsupported,
		"its files have the ids that they had on the host, which streams cannot change: export it without optimized storage")
}

// rootSize is how large the root disk of what is made can be, 0 for no limit.
func rootSize(r Reinstatement) (int64, error) {
	for _, devices := range []api.DevicesMap{r.Devices, r.Document.Instance.Devices, r.Document.Instance.ExpandedDevices} {
		name, disk, ok := root(profiles.Config{Devices: givenDevices(devices)})
		if !ok {
			continue
		}
		if disk["size"] == "" {
			return 0, nil
		}
		size, err := units.ParseBytes(disk["size"])
		if err != nil {
			return 0, fmt.Errorf("device %q: size: %w", name, err)
		}
		return size, nil
	}
	return 0, nil
}
