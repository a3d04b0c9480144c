package instances

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Document returns all that is needed, besides files, to make an instance
// again: see [Service.Reinstate] and [Service.Adopt].
func (s *Service) Document(ctx context.Context, name string) (api.Document, error) {
	var in *instance
	var snaps []db.Snapshot
	var pool db.Pool
	var profs []db.Profile
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		row, err := db.GetInstance(ctx, tx, name)
		if err != nil {
			return err
		}
		if profs, err = db.ProfilesByName(ctx, tx, row.Profiles); err != nil {
			return err
		}
		in = newInstance(row, profs)
		if snaps, err = db.Snapshots(ctx, tx, name); err != nil {
			return err
		}
		pool, err = db.GetPool(ctx, tx, row.Pool)
		return err
	})
	if err != nil {
		return api.Document{}, err
	}
	if in.Status != db.Ready {
		return api.Document{}, errs.NotFoundf("instance %q not found: it is being created or deleted", name)
	}
	out := s.describe(in)
	doc := api.Document{Instance: &out, Pool: documentPool(pool), Volume: documentVolume(in)}
	byName := profilesByName(profs)
	for _, snap := range whole(snaps) {
		doc.Snapshots = append(doc.Snapshots, apiSnapshot(snap, byName))
		doc.VolumeSnapshots = append(doc.VolumeSnapshots, documentSnapshot(snap))
	}
	for _, p := range profs {
		doc.Profiles = append(doc.Profiles, apiProfile(p, nil))
	}
	return doc, nil
}

func documentPool(p db.Pool) *api.StoragePool {
	return &api.StoragePool{
		StoragePoolPut: api.StoragePoolPut{Config: apiConfig(p.Config), Description: p.Description},
		Name:           p.Name, Driver: p.Driver, UsedBy: []string{}, Status: "Created", Locations: []string{"none"},
	}
}

// documentVolume is the root of an instance as the volume that it is.
func documentVolume(in *instance) *api.StorageVolume {
	config := api.ConfigMap{}
	if size := in.rootSize().text; size != "" {
		config["size"] = size
	}
	return &api.StorageVolume{
		StorageVolumePut: api.StorageVolumePut{Config: config, Description: in.Description},
		Name:             in.Name, Type: "container", UsedBy: []string{}, Location: "none", ContentType: "filesystem",
		Project: "default", CreatedAt: in.Created, Pool: in.Pool,
	}
}

func documentSnapshot(snap db.Snapshot) api.StorageVolumeSnapshot {
	out := api.StorageVolumeSnapshot{
		StorageVolumeSnapshotPut: api.StorageVolumeSnapshotPut{Description: snap.Description},
		Name:                     snap.Name, Config: api.ConfigMap{}, ContentType: "filesystem", CreatedAt: snap.Created,
	}
	if !snap.Expires.IsZero() {
		out.ExpiresAt = &snap.Expires
	}
	return out
}
