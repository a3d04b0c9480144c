package instances

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// lateDisks are the disks that running instances are without, as their sources
// were missing: by instance and device. The zero value is ready to use.
type lateDisks struct {
	mu sync.Mutex // Guards of.
	of map[string]map[string]profiles.Device
}

func (l *lateDisks) set(instance string, missing map[string]profiles.Device) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(missing) == 0 {
		delete(l.of, instance)
		return
	}
	if l.of == nil {
		l.of = map[string]map[string]profiles.Device{}
	}
	l.of[instance] = missing
}

func (l *lateDisks) all() map[string]map[string]profiles.Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.of)
}

// noteLate notes which disks a running instance, whose lock is held, is without.
func (s *Service) noteLate(in *instance) {
	missing := map[string]profiles.Device{}
	defer func() { s.late.set(in.Name, missing) }()
	a := s.index.get(in.Name)
	if a == nil || !slices.ContainsFunc(slices.Collect(maps.Values(in.expanded.Devices)), devices.MayBeLate) {
		return
	}
	targets, err := s.Runtime.Missing(in.Name)
	if err != nil {
		return // It has ended.
	}
	for name, dev := range in.expanded.Devices {
		switch {
		case !devices.MayBeLate(dev):
		case profiles.IsVolume(dev):
			if _, has := a.disks[name]; !has {
				missing[name] = dev
			}
		case slices.Contains(targets, devices.Target(dev)):
			missing[name] = dev
		}
	}
}

// AddLate gives running instances the disks whose sources have appeared.
func (s *Service) AddLate(ctx context.Context) {
	for name, missing := range s.late.all() {
		for _, device := range slices.Sorted(maps.Keys(missing)) {
			if !s.appeared(ctx, missing[device]) {
				continue
			}
			if err := s.addLate(ctx, name, device); err != nil {
				s.Logger.WarnContext(ctx, "a disk has appeared, and an instance cannot have it", "instance", name, "device", device, "err", err)
			}
		}
	}
}

// appeared reports whether the source of a disk is there.
func (s *Service) appeared(ctx context.Context, dev profiles.Device) bool {
	if !profiles.IsVolume(dev) {
		_, err := os.Stat(dev["source"])
		return err == nil
	}
	if _, err := s.lookAtVolume(ctx, dev["pool"], profiles.VolumeSource(dev)); err != nil {
		return false
	}
	_, err := s.Pools.Driver(ctx, dev["pool"])
	return err == nil
}

// addLate gives a running instance a disk that it is without. One that cannot
// be had is not tried again until the instance changes.
func (s *Service) addLate(ctx context.Context, name, device string) error {
	unlock := s.locks.Lock(name)
	defer unlock()
	in, err := s.load(ctx, name)
	if err != nil || s.index.get(name) == nil {
		return s.withoutLate(name, device, err)
	}
	dev, still := in.expanded.Devices[device]
	if !still || !devices.MayBeLate(dev) {
		return s.withoutLate(name, device, nil)
	}
	p, err := devices.Make(ctx, device, dev, s.env(in))
	if err != nil || len(p.Mounts) == 0 {
		return s.withoutLate(name, device, err)
	}
	if profiles.IsVolume(dev) {
		err = s.volumePart(name, device, p).add(ctx)
	} else {
		err = s.Runtime.MountLate(ctx, name, p.Mounts[0])
	}
	if err == nil {
		err = s.limitLate(ctx, in, dev)
	}
	if err == nil && s.Guests != nil {
		s.Guests.Tell(name, "device", api.GuestDeviceEvent{Action: "added", Name: device, Config: guestDevices(in)[device]})
	}
	return s.withoutLate(name, device, err)
}

// withoutLate forgets a disk that an instance was without.
func (s *Service) withoutLate(instance, device string, err error) error {
	missing := maps.Clone(s.late.all()[instance])
	delete(missing, device)
	s.late.set(instance, missing)
	if err != nil {
		return fmt.Errorf("device %q: %w", device, err)
	}
	return nil
}

// limitLate limits what goes through a disk that has come.
func (s *Service) limitLate(ctx context.Context, in *instance, dev profiles.Device) error {
	if profiles.ParseDiskLimit(dev) != (profiles.DiskLimit{}) {
		l, err := s.kept(ctx, in)
		if err != nil {
			return err
		}
		return s.Runtime.SetLimits(ctx, in.Name, l)
	}
	return nil
}

// awaited reports whether a disk need not be there, and is not.
func awaited(dev profiles.Device, err error) bool {
	return devices.MayBeLate(dev) && (errors.Is(err, fs.ErrNotExist) || errs.Is(err, errs.NotFound))
}
