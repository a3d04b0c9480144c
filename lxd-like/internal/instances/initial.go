package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// strangeInitial returns the options initial.* of a root disk that it has as
// it was elsewhere, and that volumes of its pool now do not know: keys of
// another driver. What is not as it was, somebody asks for.
func (s *Service) strangeInitial(ctx context.Context, was, disk profiles.Device) ([]string, error) {
	var strange []string
	var known []string
	for key, value := range profiles.InitialOptions(disk) {
		option := "initial." + key
		if was[option] != value {
			continue
		}
		if known == nil {
			var err error
			if known, err = s.Pools.VolumeOptions(ctx, disk["pool"]); errs.Is(err, errs.NotFound) {
				return nil, nil // That is said where the pool is looked for.
			} else if err != nil {
				return nil, err
			}
		}
		if !slices.Contains(known, key) {
			strange = append(strange, option)
		}
	}
	slices.Sort(strange)
	return strange, nil
}

// without returns the device without some options.
func without(dev profiles.Device, options []string) profiles.Device {
	out := maps.Clone(dev)
	for _, option := range options {
		delete(out, option)
	}
	return out
}

// fitRoot takes out of the root disk what [Service.strangeInitial] finds in
// it, and returns the names of that.
func (s *Service) fitRoot(ctx context.Context, in *instance, was profiles.Device) ([]string, error) {
	name, disk, ok := root(in.expanded)
	if !ok {
		return nil, nil
	}
	strange, err := s.strangeInitial(ctx, was, disk)
	if err != nil || len(strange) == 0 {
		return nil, err
	}
	disk = without(disk, strange)
	in.Devices, in.expanded.Devices = maps.Clone(in.Devices), maps.Clone(in.expanded.Devices)
	in.Devices[name], in.expanded.Devices[name] = disk, disk
	return strange, nil
}

// fitDevices is fitRoot for the devices of a request.
func (s *Service) fitDevices(ctx context.Context, devices api.DevicesMap, was profiles.Device) ([]string, error) {
	name, disk, ok := root(profiles.Config{Devices: givenDevices(devices)})
	if !ok {
		return nil, nil
	}
	strange, err := s.strangeInitial(ctx, was, disk)
	if len(strange) > 0 {
		devices[name] = api.ConfigMap(without(disk, strange))
	}
	return strange, err
}

// rootBefore is the root disk of an instance, or as it was if that is given.
func rootBefore(in, old *instance) profiles.Device {
	if old != nil {
		in = old
	}
	_, disk, _ := root(in.expanded)
	return disk
}

// warnLeft tells of options of the root disk that were taken out.
func (s *Service) warnLeft(ctx context.Context, in *instance, left []string, op *ops.Op) {
	if len(left) == 0 {
		return
	}
	what := strings.Join(left, ", ")
	s.Logger.WarnContext(ctx, "options of a root disk were left out: volumes of its storage pool do not have them",
		"instance", in.Name, "pool", in.Pool, "options", what)
	if op != nil {
		op.Warn(fmt.Sprintf("the root disk of instance %q lost %s: volumes of storage pool %q do not have that", in.Name, what, in.Pool))
	}
}
