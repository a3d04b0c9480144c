package recovery

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/pools"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// A Request names pools to look through. Of those that the database knows the
// name is enough. Pools in the state directory are looked through anyway.
type Request struct {
	Pools []api.StoragePoolsPost `json:"pools"`
}

// A Result is what can be registered.
type Result struct {
	UnknownVolumes   []Volume
	DependencyErrors []string // What is in the way of it.
}

// A Volume is an instance or a custom volume that the database does not know.
type Volume struct {
	Name          string `json:"name"`
	Type          string `json:"type"` // container or custom
	SnapshotCount int    `json:"snapshotCount"`
	Project       string `json:"project"`
	Pool          string `json:"pool"`
}

// Validate looks for what [Service.Import] would register.
func (s *Service) Validate(ctx context.Context, req Request) (Result, error) {
	out := Result{UnknownVolumes: []Volume{}, DependencyErrors: []string{}}
	all, err := s.findPools(ctx, req)
	if err != nil {
		return out, err
	}
	for _, p := range all {
		for _, l := range p.lost {
			v := Volume{Name: project.InstanceName(l.volume.Name), Type: "container", SnapshotCount: len(l.snapshots), Project: l.project(), Pool: p.Name}
			if l.volume.Kind == storage.Custom {
				v.Name, v.Type = project.Name(l.volume.Name), "custom"
			}
			out.UnknownVolumes = append(out.UnknownVolumes, v)
		}
	}
	return out, nil
}

// A found is a pool with what the database does not know of it.
type found struct {
	pools.Found

	doc    poolDocument
	lost   []lost
	images []storage.Volume // That the database does not know.
}

// A lost is a volume that the database does not know, with its snapshots.
type lost struct {
	volume    storage.Volume
	snapshots []string
}

// project is the one that the volume is in.
func (l lost) project() string {
	if l.volume.Kind == storage.Custom {
		return project.Of(l.volume.Name)
	}
	return project.OfInstance(l.volume.Name)
}

// findPools looks through the pools that are asked for, and those that are in
// the state directory. What is to be found and cannot be is an error.
func (s *Service) findPools(ctx context.Context, req Request) ([]found, error) {
	asked := slices.Clone(req.Pools)
	slices.SortFunc(asked, func(a, b api.StoragePoolsPost) int { return cmp.Compare(a.Name, b.Name) })
	names := map[string]bool{}
	var out []found
	for _, p := range asked {
		if names[p.Name] {
			return nil, errs.Invalidf("storage pool %q is named twice", p.Name)
		}
		names[p.Name] = true
		f, err := s.findPool(ctx, p)
		if errs.Is(err, errs.Unavailable) && f.Known {
			s.Log.WarnContext(ctx, "storage pool is missing, and is not looked through", "pool", p.Name, "err", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look through storage pool %q: %w", p.Name, err)
		}
		out = append(out, f)
	}
	unknown, err := s.Pools.Unknown(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(unknown)) {
		if names[name] {
			continue
		}
		f, err := s.findPool(ctx, noted(name, unknown[name]))
		if err != nil {
			s.Log.WarnContext(ctx, "there is a directory of a storage pool, and no pool", "pool", name, "err", err)
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

// noted is a pool as it was noted beside it.
func noted(name string, note []byte) api.StoragePoolsPost {
	req := api.StoragePoolsPost{Name: name}
	var doc poolDocument
	if err := api.UnmarshalYAML(note, &doc); err == nil && doc.Pool != nil {
		req.Driver, req.StoragePoolPut = doc.Pool.Driver, doc.Pool.StoragePoolPut
	}
	return req
}

// findPool looks through one pool.
func (s *Service) findPool(ctx context.Context, req api.StoragePoolsPost) (found, error) {
	var out found
	var err error
	if out.Found, err = s.Pools.Find(ctx, req); err != nil {
		return out, err
	}
	if err := s.complete(ctx, &out, req); err != nil {
		return out, err
	}
	known, err := s.known(ctx, req.Name)
	if err != nil {
		return out, err
	}
	vols, err := out.Driver.List(ctx)
	if err != nil {
		return out, err
	}
	byVolume := map[storage.Volume][]string{}
	for _, v := range vols {
		snaps := byVolume[v.Parent()]
		if v.Snapshot != "" && !storage.Hidden(v.Snapshot) {
			snaps = append(snaps, v.Snapshot)
		}
		byVolume[v.Parent()] = snaps
	}
	for v, snaps := range byVolume {
		switch {
		case known[v]:
		case v.Kind == storage.Image:
			out.images = append(out.images, v)
		default:
			slices.Sort(snaps)
			out.lost = append(out.lost, lost{v, snaps})
		}
	}
	slices.SortFunc(out.lost, func(a, b lost) int { return cmp.Compare(a.volume.String(), b.volume.String()) })
	return out, nil
}

// complete adds to a pool what its record says of it.
func (s *Service) complete(ctx context.Context, f *found, req api.StoragePoolsPost) error {
	r, ok := f.Driver.(storage.Recorder)
	if !ok || f.Known {
		return nil
	}
	text, err := r.Record(ctx, storage.Volume{})
	if err != nil || text == nil {
		return err
	}
	if err := api.UnmarshalYAML(text, &f.doc); err != nil || f.doc.Pool == nil {
		s.Log.WarnContext(ctx, "the record of a storage pool cannot be read", "pool", f.Name, "err", err)
		f.doc = poolDocument{}
		return nil
	}
	config := maps.Clone(f.doc.Pool.Config)
	if config == nil {
		config = api.ConfigMap{}
	}
	delete(config, "source") // It may have moved, and others say where it is.
	maps.Copy(config, f.Config)
	was, werr := units.ParseBytes(f.doc.Pool.Config["size"])
	is, ierr := units.ParseBytes(config["size"])
	if was == is && werr == nil && ierr == nil {
		config["size"] = f.doc.Pool.Config["size"] // As the user wrote it.
	}
	f.Config = config
	f.Description = cmp.Or(req.Description, f.doc.Pool.Description)
	return nil
}

// known returns the volumes of a pool that the database knows, and those of
// instances with the same names in other pools.
func (s *Service) known(ctx context.Context, pool string) (map[storage.Volume]bool, error) {
	out := map[storage.Volume]bool{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		instances, err := db.Instances(ctx, tx)
		if err != nil {
			return err
		}
		for _, in := range instances {
			out[storage.Volume{Kind: storage.Instance, Name: in.Name}] = true
		}
		volumes, err := db.VolumesIn(ctx, tx, pool)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			out[storage.Volume{Kind: storage.Custom, Name: v.Name}] = true
		}
		images, err := db.ImageVolumes(ctx, tx)
		for _, v := range images {
			if v.Pool == pool {
				out[storage.Volume{Kind: storage.Image, Name: v.Fingerprint}] = true
			}
		}
		return err
	})
	return out, err
}
