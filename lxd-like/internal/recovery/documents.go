package recovery

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
)

// A poolDocument is what is written about a pool, beside the pool what all
// instances need and no volume has.
type poolDocument struct {
	api.NetworksDocument

	Pool     *api.StoragePool `json:"pool"`
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
		all, err := db.Profiles(ctx, tx)
		for _, f := range all {
			put := api.ProfilePut{Description: f.Description, Config: f.Config, Devices: api.DevicesMap{}}
			for name, dev := range f.Devices {
				put.Devices[name] = dev
			}
			d.Profiles = append(d.Profiles, api.Profile{ProfilePut: put, Name: f.Name, UsedBy: []string{}, Project: "default"})
		}
		return err
	})
	if err != nil {
		return d, err
	}
	d.NetworksDocument, err = s.Nets.Document(ctx)
	return d, err
}

// settled is a document of an instance without what changes from one moment to
// the next.
func settled(doc api.Document) api.Document {
	if doc.Instance != nil {
		in := *doc.Instance
		in.Status, in.StatusCode = "Stopped", api.Stopped
		in.LastUsedAt = time.Time{}
		doc.Instance = &in
	}
	return doc
}

// instanceDocument returns the document of an instance that was found, from
// its record, which can be missing or be of an earlier day.
func instanceDocument(pool string, name string, snapshots []string, record []byte) (api.Document, error) {
	doc, err := api.ParseDocument(record)
	if err != nil {
		return doc, err
	}
	if doc.Instance == nil {
		doc.Instance = &api.Instance{}
		doc.Instance.Profiles, doc.Instance.Config = []string{"default"}, api.ConfigMap{}
	}
	doc.Instance.Name = name
	moveRoot(doc.Instance, doc.Pool, pool)
	doc.Pool = &api.StoragePool{Name: pool}
	doc.Snapshots = matched(doc.Snapshots, snapshots,
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

// volumeDocument is [instanceDocument] for a custom volume.
func volumeDocument(pool string, name string, snapshots []string, record []byte) (api.Document, error) {
	doc, err := api.ParseDocument(record)
	if err != nil {
		return doc, err
	}
	if doc.Volume == nil {
		doc.Volume = &api.StorageVolume{ContentType: "filesystem", CreatedAt: time.Now()}
		doc.Volume.Config = api.ConfigMap{}
	}
	doc.Volume.Name, doc.Volume.Type, doc.Volume.Pool = name, "custom", pool
	doc.Pool = &api.StoragePool{Name: pool}
	doc.VolumeSnapshots = matched(doc.VolumeSnapshots, snapshots,
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
