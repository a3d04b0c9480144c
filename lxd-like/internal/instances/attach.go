package instances

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// A volumeKeeper is what instances need of custom volumes. A source is VOLUME
// or VOLUME/SNAPSHOT.
type volumeKeeper interface {
	// Look says what a source is, before it is attached.
	Look(ctx context.Context, pool, source string) (api.StorageVolume, error)
	// Attach mounts a source for a device of an instance, and returns the
	// directory to show. To attach it again does nothing.
	Attach(ctx context.Context, pool, source, instance, device string) (dir string, err error)
	// Detach ends what Attach began.
	Detach(ctx context.Context, pool, source, instance, device string) error

	volumeSnapshots
	guestStore
}

// disks are the volumes that a running instance has, by device.
type disks map[string]devices.Volume

// attachVolume mounts the volume of a device, if it has one, with what takes
// that back, and returns the plan with the directory. An optional one that
// cannot be had is left out.
func (s *Service) attachVolume(ctx context.Context, instance, device string, p devices.Plan) (devices.Plan, error) {
	if p.Volume == (devices.Volume{}) {
		return p, nil
	}
	dir, err := s.Volumes.Attach(ctx, p.Volume.Pool, p.Volume.Source, instance, device)
	if err != nil && p.Mounts[0].Optional {
		s.Logger.WarnContext(ctx, "an instance is without an optional volume", "instance", instance, "device", device, "err", err)
		return devices.Plan{}, nil
	}
	if err != nil {
		return p, err
	}
	p.Mounts = slices.Clone(p.Mounts)
	for i := range p.Mounts {
		p.Mounts[i].Source = dir
	}
	return p, nil
}

func (s *Service) detachVolume(ctx context.Context, instance, device string, v devices.Volume) error {
	return s.Volumes.Detach(ctx, v.Pool, v.Source, instance, device)
}

// startVolumes mounts the volumes of an instance that starts.
func (s *Service) startVolumes(ctx context.Context, l *launch, u *undo.Stack) error {
	l.disks = disks{}
	for _, name := range slices.Sorted(maps.Keys(l.plan)) {
		p, err := s.attachVolume(ctx, l.in.Name, name, l.plan[name])
		if err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
		l.plan[name] = p
		if v := p.Volume; v != (devices.Volume{}) {
			l.disks[name] = v
			u.Push("detach "+v.Source, func(ctx context.Context) error { return s.detachVolume(ctx, l.in.Name, name, v) })
		}
	}
	return nil
}

// detachVolumes ends the use of all volumes of an instance that has ended.
func (s *Service) detachVolumes(ctx context.Context, a *active) error {
	var failed error
	for _, name := range slices.Sorted(maps.Keys(a.disks)) {
		failed = errors.Join(failed, s.detachVolume(ctx, a.volume.Name, name, a.disks[name]))
	}
	a.disks = nil
	return failed
}

// reattachVolumes says, after a restart of the daemon, which volumes a running
// instance uses. Its lock is held.
func (s *Service) reattachVolumes(ctx context.Context, in *instance) {
	a := s.index.get(in.Name)
	if a == nil {
		return
	}
	a.disks = disks{}
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		dev := in.expanded.Devices[name]
		if !profiles.IsVolume(dev) {
			continue
		}
		v := devices.Volume{Pool: dev["pool"], Source: profiles.VolumeSource(dev)}
		if _, err := s.Volumes.Attach(ctx, v.Pool, v.Source, in.Name, name); err != nil {
			s.Logger.WarnContext(ctx, "a volume that an instance uses cannot be found", "instance", in.Name, "device", name, "err", err)
			continue
		}
		a.disks[name] = v
	}
}

// volumesAppeared says which volumes of a pool, that was not there when the
// daemon started, running instances use. It returns the others that have some.
func (s *Service) volumesAppeared(ctx context.Context, pool string) ([]string, error) {
	all, _, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, in := range all {
		if !usesPool(in, pool) {
			continue
		}
		unlock := s.locks.Lock(in.Name)
		if s.index.get(in.Name) == nil {
			others = append(others, in.Name)
		}
		s.reattachVolumes(ctx, in)
		unlock()
	}
	return others, nil
}

// usesPool reports whether an instance has volumes of a pool.
func usesPool(in *instance, pool string) bool {
	for _, dev := range in.expanded.Devices {
		if profiles.IsVolume(dev) && dev["pool"] == pool {
			return true
		}
	}
	return false
}

// volumePart is a volume that a running instance can be given, and lose.
func (s *Service) volumePart(instance, device string, p devices.Plan) part {
	m := p.Mounts[0]
	return part{
		add: func(ctx context.Context) error {
			got, err := s.attachVolume(ctx, instance, device, p)
			if err != nil || got.Volume == (devices.Volume{}) {
				return err
			}
			if err := s.Runtime.AddMount(ctx, instance, got.Mounts[0]); err != nil {
				return errors.Join(err, s.detachVolume(context.WithoutCancel(ctx), instance, device, p.Volume))
			}
			s.noteDisk(instance, device, p.Volume)
			return nil
		},
		remove: func(ctx context.Context) error {
			if a := s.index.get(instance); a == nil || a.disks[device] == (devices.Volume{}) {
				return nil // It was missing.
			}
			if err := s.Runtime.RemoveMount(ctx, instance, m.Target); err != nil {
				return err
			}
			s.noteDisk(instance, device, devices.Volume{})
			if err := s.detachVolume(ctx, instance, device, p.Volume); err != nil {
				// The instance has it no more: who needs it alone unmounts it.
				s.Logger.WarnContext(ctx, "cannot unmount a volume that an instance had", "instance", instance, "device", device, "err", err)
			}
			return nil
		},
	}
}

// noteDisk notes which volume a device of an instance, whose lock is held,
// has; a zero one is none.
func (s *Service) noteDisk(instance, device string, v devices.Volume) {
	a := s.index.get(instance)
	if a == nil {
		return
	}
	if a.disks == nil {
		a.disks = disks{}
	}
	a.disks[device] = v
	if v == (devices.Volume{}) {
		delete(a.disks, device)
	}
}

// lookAtVolume is what a device needs to know of a volume.
func (s *Service) lookAtVolume(ctx context.Context, pool, source string) (api.StorageVolume, error) {
	if s.Volumes == nil {
		return api.StorageVolume{}, errs.Newf(errs.Unsupported, "this server has no volumes")
	}
	return s.Volumes.Look(ctx, pool, source)
}

// Held calls fn while nothing changes the instances.
func (s *Service) Held(_ context.Context, names []string, fn func() error) error {
	unlock := s.locks.LockAll(names...)
	defer unlock()
	return fn()
}

// Frozen calls fn while the instances are frozen or do not run, and nothing
// changes them.
func (s *Service) Frozen(ctx context.Context, names []string, fn func() error) error {
	unlock := s.locks.LockAll(names...)
	defer unlock()
	return s.frozen(ctx, names, fn)
}

// frozen is Frozen for instances whose locks are held.
func (s *Service) frozen(ctx context.Context, names []string, fn func() error) error {
	if len(names) == 0 {
		return fn()
	}
	rest := func() error { return s.frozen(ctx, names[1:], fn) }
	if s.index.get(names[0]) == nil {
		return rest()
	}
	return s.still(ctx, names[0], rest)
}
