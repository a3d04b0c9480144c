package recovery

import (
	"context"
	"errors"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/netdocs"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/storage"
)

// Import registers the pools that are found, with the networks and profiles
// that their records know, and then the custom volumes and the instances in
// them. What cannot be registered does not keep the others from it. It can be
// repeated.
func (s *Service) Import(ctx context.Context, req Request) error {
	s.importing.Lock()
	defer s.importing.Unlock()
	for _, p := range req.Pools {
		if err := s.Pools.TakeOver(ctx, p.Name); err != nil && !errs.Is(err, errs.NotFound) {
			s.Log.WarnContext(ctx, "storage pool stays missing", "pool", p.Name, "err", err)
		}
	}
	all, err := s.findPools(ctx, req)
	if err != nil {
		return err
	}
	var failed []error
	var here []found
	lost := map[string]bool{}
	for _, p := range all {
		if err := s.importPool(ctx, p); err != nil {
			failed = append(failed, fmt.Errorf("register storage pool %q: %w", p.Name, err))
			continue
		}
		here = append(here, p)
		failed = append(failed, s.importNetworks(ctx, p, lost)...)
	}
	for _, kind := range []storage.Kind{storage.Custom, storage.Instance} { // Instances use volumes.
		for _, p := range here {
			failed = append(failed, s.importVolumes(ctx, p, kind)...)
		}
	}
	return errors.Join(failed...)
}

// importPool registers a pool that the database does not know, and what its
// record knows beside it.
func (s *Service) importPool(ctx context.Context, p found) error {
	if p.Known {
		return nil
	}
	if err := s.Pools.Register(ctx, p.Found); err != nil {
		return err
	}
	s.Log.InfoContext(ctx, "a storage pool was found and registered", "pool", p.Name)
	for _, in := range p.doc.Projects {
		if err := s.register(ctx, in); err != nil {
			s.Log.WarnContext(ctx, "cannot register a project as it was", "project", in.Name, "err", err)
		}
	}
	if err := s.importProfiles(ctx, p.doc.Profiles); err != nil {
		return err
	}
	// Unpacked images are made again when they are used.
	d, err := s.Pools.Driver(ctx, p.Name)
	if err != nil {
		return err
	}
	for _, v := range p.images {
		if err := errors.Join(d.Unmount(ctx, v), d.Delete(ctx, v)); err != nil {
			s.Log.WarnContext(ctx, "cannot remove an image that nobody knows", "pool", p.Name, "image", v.Name, "err", err)
		}
	}
	return nil
}

// register makes a project that is not there. One that nobody remembers has
// all that new ones have.
func (s *Service) register(ctx context.Context, p api.Project) error {
	made, err := s.Projects.Reinstate(ctx, p)
	if err != nil {
		return fmt.Errorf("register project %q: %w", p.Name, err)
	}
	if made {
		s.Log.InfoContext(ctx, "a project was found and registered", "project", p.Name)
	}
	return nil
}

// importNetworks makes the networks that are not there, with what belongs to
// them. An instance without its network can still be looked into. The pool's
// record is soon written anew, without those that cannot be made: the log has
// them. What is in lost is not told of again, as each pool remembers all.
func (s *Service) importNetworks(ctx context.Context, p found, lost map[string]bool) (failed []error) {
	if p.Known {
		return nil
	}
	s.Nets.Reinstate(ctx, netdocs.Reinstatement{Document: p.doc.NetworksDocument, Note: func(what string, err error) {
		if err != nil && !lost[what] {
			lost[what] = true
			failed = append(failed, fmt.Errorf("register %s: %w", what, err))
		}
	}})
	if len(failed) > 0 {
		text, err := api.MarshalYAML(p.doc.NetworksDocument)
		s.Log.WarnContext(ctx, "cannot make all that was found of networks", "pool", p.Name, "found", string(text), "err", errors.Join(append(failed, err)...))
	}
	return failed
}

// importProfiles makes the profiles that are not there, and gives the default
// one, if it is as a new database has it, what it had.
func (s *Service) importProfiles(ctx context.Context, profs []api.Profile) error {
	for _, p := range profs {
		row := db.Profile{Name: p.Name, Description: p.Description, Config: p.Config, Devices: map[string]map[string]string{}}
		for name, dev := range p.Devices {
			row.Devices[name] = dev
		}
		err := s.DB.Do(db.Admitted(ctx), func(ctx context.Context, tx *db.Tx) error {
			have, err := db.GetProfile(ctx, tx, p.Name)
			switch {
			case errs.Is(err, errs.NotFound):
				return db.AddProfile(ctx, tx, &row)
			case err != nil:
				return err
			case project.Name(p.Name) == "default" && len(have.Config)+len(have.Devices) == 0:
				return db.UpdateProfile(ctx, tx, row)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("profile %q: %w", p.Name, err)
		}
	}
	return nil
}

// importVolumes registers what a pool has of one kind.
func (s *Service) importVolumes(ctx context.Context, p found, kind storage.Kind) []error {
	var failed []error
	for _, l := range p.lost {
		if l.volume.Kind != kind {
			continue
		}
		if err := s.importVolume(ctx, p, l); err != nil {
			failed = append(failed, fmt.Errorf("register %s of storage pool %q: %w", l.volume, p.Name, err))
			continue
		}
		s.Log.InfoContext(ctx, "a volume was found and registered", "pool", p.Name, "volume", l.volume.String(), "snapshots", len(l.snapshots))
	}
	return failed
}

func (s *Service) importVolume(ctx context.Context, p found, l lost) error {
	var record []byte
	if r, ok := p.Driver.(storage.Recorder); ok {
		var err error
		if record, err = r.Record(ctx, l.volume); err != nil {
			return err
		}
	}
	if record == nil {
		s.Log.WarnContext(ctx, "a volume has no record: its configuration is lost", "pool", p.Name, "volume", l.volume.String())
	}
	if err := s.register(ctx, api.Project{Name: l.project()}); err != nil {
		return err
	}
	document, adopt := s.instanceDocument, s.Instances.Adopt
	if l.volume.Kind == storage.Custom {
		document, adopt = s.volumeDocument, s.Volumes.Adopt
	}
	doc, err := document(ctx, p.Name, l, record)
	if err != nil {
		return fmt.Errorf("read its record: %w", err)
	}
	return adopt(ctx, doc)
}
