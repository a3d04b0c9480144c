package recovery

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// A poolDocument is what is written about a pool, beside the pool what all
// instances need and no volume has. What is in it has keys for names: it is for
// us alone.
type poolDocument struct {
	api.NetworksDocument

	Pool     *api.StoragePool `json:"pool"`
	Projects []api.Project    `json:"projects,omitempty"`
	Profiles []api.Profile    `json:"profiles,omitempty"`
}

// poolDocument returns what is to be written about a pool.
func (s *Service) poolDocument(ctx context.Context, pool string) (poolDocument, error) {
	var d poolDocument
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetPool(ctx, tx, pool)
		if err != nil {
			return err
		}
		d.Pool = &api.StoragePool{
			StoragePoolPut: api.StoragePoolPut{Config: p.Config, Description: p.Description},
			Name:           p.Name, Driver: p.Driver, UsedBy: []string{}, Status: "Created", Locations: []string{"none"},
		}
		if d.Projects, err = projectsTx(ctx, tx); err != nil {
			return err
		}
		all, err := db.Profiles(ctx, tx)
		for _, f := range all {
			put := api.ProfilePut{Description: f.Description, Config: f.Config, Devices: api.DevicesMap{}}
			for name, dev := range f.Devices {
				put.Devices[name] = dev
			}
			d.Profiles = append(d.Profiles, api.Profile{ProfilePut: put, Name: f.Name, UsedBy: []string{}, Project: project.Of(f.Name)})
		}
		return err
	})
	if err != nil {
		return d, err
	}
	d.NetworksDocument, err = s.Nets.Document(ctx)
	return d, err
}

func projectsTx(ctx context.Context, tx *db.Tx) ([]api.Project, error) {
	var out []api.Project
	all, err := db.Projects(ctx, tx)
	for _, p := range all {
		put := api.ProjectPut{Config: p.Config, Description: p.Description}
		out = append(out, api.Project{ProjectPut: put, Name: p.Name, UsedBy: []string{}})
	}
	return out, err
}

// settled is a document of an instance without what changes from one moment to
// the next, and with names, as the peers have it.
func settled(doc api.Document) api.Document {
	if doc.Instance != nil {
		in := *doc.Instance
		in.Status, in.StatusCode = "Stopped", api.Stopped
		in.LastUsedAt = time.Time{}
		doc.Instance = &in
	}
	if doc.Volume != nil {
		doc.Volume = new(*doc.Volume)
	}
	doc.Snapshots, doc.Profiles = slices.Clone(doc.Snapshots), slices.Clone(doc.Profiles)
	scope.Out(&doc)
	return doc
}

// instanceDocument returns the document of an instance that was found, from
// its record, which can be missing or be of an earlier day.
func (s *Service) instanceDocument(ctx context.Context, pool string, l lost, record []byte) (api.Document, error) {
	doc, err := api.ParseDocument(record)
	if err != nil {
		return doc, err
	}
	if doc.Instance == nil {
		doc.Instance = &api.Instance{}
		doc.Instance.Profiles, doc.Instance.Config = []string{"default"}, api.ConfigMap{}
	}
	in, name := project.SplitInstance(l.volume.Name)
	doc.Instance.Name = name
	if err := scope.Bring(ctx, s.Projects, in, &doc); err != nil {
		return doc, err
	}
	moveRoot(doc.Instance, doc.Pool, pool)
	doc.Pool = &api.StoragePool{Name: pool}
	doc.Snapshots = matched(doc.Snapshots, l.snapshots,
		func(s *api.InstanceSnapshot) *string { return &s.Name },
		func(name string) api.InstanceSnapshot {
			return api.InstanceSnapshot{
				Name: name, Architecture: doc.Instance.Architecture, Config: doc.Instance.Config, Devices: doc.Instance.Devices,
				Profiles: doc.Instance.Profiles, CreatedAt: time.Now(),
			}
		})
	return doc, nil
}

// moveRoot has the root disk of an instance be in the pool that it was found
// in, if that has another name than it had.
func moveRoot(in *api.Instance, was *api.StoragePool, pool string) {
	if was == nil || was.Name == pool {
		return
	}
	for _, devices := range []api.DevicesMap{in.Devices, in.ExpandedDevices} {
		for _, dev := range devices {
			if dev["type"] == "disk" && dev["path"] == "/" && dev["pool"] == was.Name {
				dev["pool"] = pool
			}
		}
	}
}

// volumeDocument is [Service.instanceDocument] for a custom volume.
func (*Service) volumeDocument(_ context.Context, pool string, l lost, record []byte) (api.Document, error) {
	doc, err := api.ParseDocument(record)
	if err != nil {
		return doc, err
	}
	if doc.Volume == nil {
		doc.Volume = &api.StorageVolume{ContentType: "filesystem", CreatedAt: time.Now()}
		doc.Volume.Config = api.ConfigMap{}
	}
	doc.Volume.Name, doc.Volume.Type, doc.Volume.Pool = l.volume.Name, "custom", pool
	doc.Pool = &api.StoragePool{Name: pool}
	doc.VolumeSnapshots = matched(doc.VolumeSnapshots, l.snapshots,
		func(s *api.StorageVolumeSnapshot) *string { return &s.Name },
		func(name string) api.StorageVolumeSnapshot {
			return api.StorageVolumeSnapshot{
				Name: name, Config: doc.Volume.Config, ContentType: doc.Volume.ContentType, CreatedAt: time.Now(),
			}
		})
	return doc, nil
}

// matched returns the documents of those snapshots that there are, with new
// ones for those that have none.
func matched[T any](docs []T, there []string, name func(*T) *string, fresh func(name string) T) []T {
	var out []T
	known := map[string]bool{}
	for _, doc := range docs {
		n := name(&doc)
		*n = (*n)[strings.LastIndexByte(*n, '/')+1:] // Some peers write both names.
		if slices.Contains(there, *n) && !known[*n] {
			known[*n] = true
			out = append(out, doc)
		}
	}
	for _, n := range there {
		if !known[n] {
			out = append(out, fresh(n))
		}
	}
	return out
}
