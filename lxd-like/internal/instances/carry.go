package instances

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// What comes from one project into another keeps the names of all that it
// refers to, and finds there what has them.

// carries reports whether an instance that gets a name comes into another
// project.
func carries(name, to string) bool { return project.OfInstance(name) != project.OfInstance(to) }

// elsewhere words an error about what is in another project than the client's.
func elsewhere(in string, err error) error {
	if err == nil {
		return nil
	}
	return errs.Newf(errs.KindOf(err), "project %q: %s", in, project.Text(in, err.Error()))
}

// rekeySnapshot has the record of a snapshot name what there is in a project.
func (s *Service) rekeySnapshot(ctx context.Context, to string, snap *db.Snapshot) error {
	put := api.InstancePut{Config: apiConfig(snap.Config), Devices: apiDevices(snap.Devices), Profiles: snap.Profiles}
	if err := scope.Rekey(ctx, s.Projects, to, &put); err != nil {
		return err
	}
	snap.Config, snap.Devices, snap.Profiles = put.Config, convert[map[string]string](put.Devices), put.Profiles
	return nil
}

// rekeySnapshots is rekeySnapshot for those that an instance gets of another,
// if that is in another project.
func (s *Service) rekeySnapshots(ctx context.Context, from, to string, snaps []db.Snapshot) error {
	if !carries(from, to) {
		return nil
	}
	for i := range snaps {
		if err := s.rekeySnapshot(ctx, project.OfInstance(to), &snaps[i]); err != nil {
			return err
		}
	}
	return nil
}

// rekeyed is what a copy gets of an instance of another project. One whose
// root disk is of its profile keeps it, if its profiles there have none.
func (g inherited) rekeyed(ctx context.Context, s *Service, to string, disk rootDisk) (inherited, error) {
	put := api.InstancePut{Config: apiConfig(g.config), Devices: apiDevices(g.devices), Profiles: g.profiles}
	if err := scope.Rekey(ctx, s.Projects, to, &put); err != nil {
		return g, err
	}
	g.config, g.devices, g.profiles = put.Config, convert[map[string]string](put.Devices), put.Profiles
	if disk.dev == nil {
		return g, nil
	}
	there := &instance{Instance: db.Instance{Devices: g.devices, Profiles: g.profiles}}
	if err := s.refresh(ctx, there); err != nil {
		return g, elsewhere(to, err)
	}
	if _, _, ok := root(there.expanded); !ok {
		g.devices[disk.name] = disk.dev
	}
	return g, nil
}

// A rootDisk is the root disk of an instance, by whose device it is.
type rootDisk struct {
	name string
	dev  profiles.Device
}

// carried has what is left of an instance as it was, in a request for another
// project, name what there is.
func (s *Service) carried(ctx context.Context, in *instance, req api.InstancePost, put *api.InstancePut) error {
	if !carries(in.Name, req.Name) {
		return nil
	}
	return scope.Rekey(ctx, s.Projects, project.OfInstance(req.Name), put)
}

// bringRoot has an instance that comes into another project keep its root disk,
// in its pool if the request does not say another, whatever the profiles there
// say.
func bringRoot(in, next *instance, req api.InstancePost) {
	if !carries(in.Name, req.Name) {
		return
	}
	name, _, ok := root(next.expanded)
	own := ok && next.Devices[name] != nil
	if !ok {
		name, disk, _ := root(in.expanded)
		next.Devices, next.expanded.Devices = maps.Clone(next.Devices), maps.Clone(next.expanded.Devices)
		next.Devices[name], next.expanded.Devices[name] = disk, disk
	}
	if !own && req.Pool == "" {
		next.putRoot(in.Pool)
	}
}

// checkArrival reports what an instance needs that the project in which it is
// going to be does not have.
func (s *Service) checkArrival(ctx context.Context, m move) error {
	there := m.next.clone()
	there.Name = m.to
	if err := s.checkVolumes(ctx, there); err != nil {
		return err
	}
	before := m.in
	if carries(before.Name, m.to) {
		before = nil // It names others.
	}
	return s.checkDependencies(ctx, before, there)
}

// checkVolumes reports devices that show volumes of another project: a profile
// that projects share can have them.
func (s *Service) checkVolumes(ctx context.Context, in *instance) error {
	view, err := s.Projects.View(ctx, project.OfInstance(in.Name))
	if err != nil {
		return err
	}
	for name, dev := range in.expanded.Devices {
		source := profiles.VolumeSource(dev)
		if !profiles.IsVolume(dev) || project.Of(source) == view.Volumes {
			continue
		}
		return errs.Invalidf("device %q: volume %q is in project %q, and instance %q has those of project %q alone",
			name, project.Name(source), project.Of(source), project.InstanceName(in.Name), view.Volumes)
	}
	return nil
}

// carry brings an instance into another project within its pool, with another
// name and configuration as one: the volume gets its name as in
// [Service.rename], and one transaction writes down all.
func (s *Service) carry(ctx context.Context, m move, op *ops.Op) error {
	if err := s.carryTo(ctx, m); err != nil {
		return fmt.Errorf("move instance %q to project %q: %w", m.in.Name, project.OfInstance(m.to), err)
	}
	s.warnLeft(ctx, m.next, m.left, op)
	s.event("instance-renamed", m.to, map[string]any{"old_name": m.in.Name})
	if !m.only {
		return nil
	}
	in, err := s.load(ctx, m.to)
	if err != nil {
		return err
	}
	snaps, err := s.wholeSnapshots(ctx, m.to)
	for _, snap := range snaps {
		err = errors.Join(err, s.deleteSnapshot(ctx, in, snap.Name))
	}
	return err
}

func (s *Service) carryTo(ctx context.Context, m move) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.changeSize(ctx, m.in, m.next, &u); err != nil {
		return err
	}
	if err := s.changeGuest(m.in, m.next, &u); err != nil {
		return err
	}
	next := m.next.clone()
	next.apply(renamedKeys(m.in))
	next.Name = m.to
	return s.rename(ctx, m.in, m.to, func(ctx context.Context, tx *db.Tx) error {
		if err := db.UpdateInstance(ctx, tx, next.Instance); err != nil {
			return err
		}
		return s.carrySnapshots(ctx, tx, m)
	})
}

// carrySnapshots writes what the records of the snapshots name where the
// instance is now.
func (s *Service) carrySnapshots(ctx context.Context, tx *db.Tx, m move) error {
	if !carries(m.in.Name, m.to) {
		return nil
	}
	snaps, err := db.Snapshots(ctx, tx, m.to)
	if err != nil {
		return err
	}
	if err := s.rekeySnapshots(ctx, m.in.Name, m.to, snaps); err != nil {
		return err
	}
	for _, snap := range snaps {
		if err := db.RewriteSnapshot(ctx, tx, snap); err != nil {
			return err
		}
	}
	return nil
}
