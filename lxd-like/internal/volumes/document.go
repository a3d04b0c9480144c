package volumes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// Document returns all that is needed, besides files, to make a volume again
// with its snapshots.
func (s *Service) Document(ctx context.Context, pool, name string) (api.Document, error) {
	ref := Ref{Pool: pool, Name: name}
	var v db.Volume
	var snaps []db.VolumeSnapshot
	var p db.Pool
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if v, err = loadTx(ctx, tx, ref); err != nil {
			return err
		}
		if snaps, err = db.VolumeSnapshots(ctx, tx, ref); err != nil {
			return err
		}
		p, err = db.GetPool(ctx, tx, pool)
		return err
	})
	if err != nil {
		return api.Document{}, err
	}
	out := describe(v, nil)
	doc := api.Document{Volume: &out, VolumeSnapshots: describeSnapshots(v, seen(snaps))}
	doc.Pool = &api.StoragePool{
		StoragePoolPut: api.StoragePoolPut{Config: p.Config, Description: p.Description},
		Name:           p.Name, Driver: p.Driver, UsedBy: []string{}, Status: "Created", Locations: []string{"none"},
	}
	return doc, nil
}

// A Reinstatement says how a volume is made of a document.
type Reinstatement struct {
	Document api.Document  // Of a volume, and of the snapshots that are to be made with it.
	Name     string        // Another name than the document's, if it is not empty.
	Pool     string        // Another pool than the document's, if it is not empty.
	Config   api.ConfigMap // Keys that are to be others; an empty value unsets one.

	// Fill makes the volume and a snapshot of it for each of the document's.
	// What it makes and fails is removed by the caller.
	Fill func(ctx context.Context, d storage.Driver, v storage.Volume) error
}

// CheckReinstate reports why a volume cannot be made of a document. A request
// can be answered with it before there are files.
func (s *Service) CheckReinstate(ctx context.Context, r Reinstatement) error {
	m, err := s.reinstated(ctx, r)
	if err != nil {
		return err
	}
	return s.free(ctx, m.v.VolumeRef)
}

// Reinstate makes a volume of a document, with its snapshots: all of it or
// nothing.
func (s *Service) Reinstate(ctx context.Context, r Reinstatement, _ *ops.Op) error {
	m, err := s.reinstated(ctx, r)
	if err != nil {
		return err
	}
	m.fill = r.Fill
	if err := s.make(ctx, m); err != nil {
		return fmt.Errorf("create volume %q: %w", m.v.Name, err)
	}
	return nil
}

// Adopt registers a volume that is in its pool, that of the document, already.
// Nothing is made.
func (s *Service) Adopt(ctx context.Context, doc api.Document) error {
	m, err := s.returned(ctx, Reinstatement{Document: doc})
	if err != nil {
		return err
	}
	release, err := s.claims.take("registered", m.v.VolumeRef)
	if err != nil {
		return err
	}
	defer release()
	m.v.Status = db.Ready
	if err := s.record(db.Admitted(ctx), &m); err != nil {
		return fmt.Errorf("register volume %q: %w", m.v.Name, err)
	}
	s.event("storage-volume-created", m.v.VolumeRef, map[string]any{"type": "custom"})
	return nil
}

// reinstated is [Service.returned], checked as a new volume is. Options that
// only volumes of another driver have are left out.
func (s *Service) reinstated(ctx context.Context, r Reinstatement) (making, error) {
	m, err := s.returned(ctx, r)
	if err != nil {
		return m, err
	}
	pool, err := s.pool(ctx, m.v.Pool)
	if err != nil {
		return m, err
	}
	m.v.Config, m.inherited = s.fitting(m.v.Config, pool), r.Config["size"] == ""
	for k, v := range r.Config {
		if v == "" {
			delete(m.v.Config, k)
		} else if !isInternal(k) {
			m.v.Config[k] = v
		}
	}
	return m, s.validate(m.v, pool)
}

// returned is the volume of a document.
func (s *Service) returned(_ context.Context, r Reinstatement) (making, error) {
	doc := r.Document.Volume
	if doc == nil || doc.Type != "" && doc.Type != "custom" {
		return making{}, errs.Invalidf("the document is of no custom volume")
	}
	pool := cmp.Or(r.Pool, doc.Pool)
	if pool == "" && r.Document.Pool != nil {
		pool = r.Document.Pool.Name
	}
	if pool == "" {
		return making{}, errs.Invalidf("the document of volume %q names no storage pool", doc.Name)
	}
	ref := Ref{Pool: pool, Name: cmp.Or(r.Name, doc.Name)}
	if err := profiles.CheckVolumeName(ref.Name); err != nil {
		return making{}, err
	}
	m := making{v: db.Volume{
		VolumeRef: ref, Status: db.Pending, ContentType: cmp.Or(doc.ContentType, filesystem), Description: doc.Description,
		Config: given(doc.Config), Created: doc.CreatedAt,
	}}
	if err := checkContentType(m.v.ContentType); err != nil {
		return m, err
	}
	for _, snap := range r.Document.VolumeSnapshots {
		name := strings.TrimPrefix(snap.Name, doc.Name+"/") // Some peers write both names.
		if err := profiles.CheckSnapshotName(name); err != nil {
			return m, err
		}
		if slices.ContainsFunc(m.snapshots, func(s db.VolumeSnapshot) bool { return s.Name == name }) {
			return m, errs.Invalidf("snapshot %q is named twice", name)
		}
		row := db.VolumeSnapshot{
			Volume: ref, Name: name, Status: db.Ready, Description: snap.Description, Config: given(snap.Config), Created: snap.CreatedAt,
		}
		if snap.ExpiresAt != nil {
			row.Expires = *snap.ExpiresAt
		}
		m.snapshots = append(m.snapshots, row)
	}
	slices.SortStableFunc(m.snapshots, func(a, b db.VolumeSnapshot) int { return a.Created.Compare(b.Created) })
	return m, nil
}
