package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// KeyVolumeOwner is a volume's key with the id of the instance whose guest made
// it. A device that the guest attached is noted in a like key of the instance.
const (
	KeyVolumeOwner = "volatile.devlxd.owner"

	ownerOption = ".devlxd.owner"
)

// maxGuestVolumes is how many volumes the guest of an instance may have.
const maxGuestVolumes = 128

// guestStore keeps the volumes that guests make.
type guestStore interface {
	// CreateFor makes an empty volume that has an owner.
	CreateFor(ctx context.Context, owner, pool string, req api.StorageVolumesPost) error
	List(ctx context.Context, pool, typ string) ([]api.StorageVolume, error)
	Update(ctx context.Context, ref db.VolumeRef, put api.StorageVolumePut) error
	Delete(ctx context.Context, ref db.VolumeRef) error
}

// GuestVolumes lets guests make volumes and attach them, if their instances may:
// each only its own. An instance is known by its volatile.uuid, which a copy of
// it does not have.
type GuestVolumes struct{ s *Service }

// GuestVolumes returns what guests do with volumes.
func (s *Service) GuestVolumes() GuestVolumes { return GuestVolumes{s} }

// allowed reads an instance whose guest may keep volumes.
func (g GuestVolumes) allowed(ctx context.Context, name string) (*instance, error) {
	in, err := g.s.load(ctx, name)
	if err != nil {
		return nil, err
	}
	return in, mayKeepVolumes(in)
}

func mayKeepVolumes(in *instance) error {
	if !profiles.ParseGuestAPI(in.expanded.Options).Volumes || in.Config[keyUUID] == "" {
		return errs.Newf(errs.Denied, "not authorized: the instance's security.devlxd.management.volumes is not true")
	}
	return nil
}

// Pool describes a pool.
func (g GuestVolumes) Pool(ctx context.Context, name, pool string) (api.GuestStoragePool, error) {
	if _, err := g.allowed(ctx, name); err != nil {
		return api.GuestStoragePool{}, err
	}
	all, err := g.s.Pools.List(ctx)
	for _, p := range all {
		if p.Name == pool {
			return api.GuestStoragePool{Name: p.Name, Driver: p.Driver, Status: p.Status}, nil
		}
	}
	if err == nil {
		err = errs.NotFoundf("storage pool %q not found", pool)
	}
	return api.GuestStoragePool{}, err
}

// List returns the guest's volumes in a pool, or in all if it is empty.
func (g GuestVolumes) List(ctx context.Context, name, pool string) ([]api.GuestStorageVolume, error) {
	in, err := g.allowed(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := g.own(ctx, in, pool)
	for i := range all {
		all[i].Name = project.Name(all[i].Name)
	}
	return all, err
}

// key is that of a volume by the name that the guest has for it.
func (g GuestVolumes) key(ctx context.Context, instance, name string) (string, error) {
	return scope.KeyIn(ctx, g.s.Projects, project.OfInstance(instance), scope.Volume, name)
}

// own are the guest's volumes by their keys.

func (g GuestVolumes) own(ctx context.Context, in *instance, pool string) ([]api.GuestStorageVolume, error) {
	all, err := g.s.Volumes.List(ctx, pool, "custom")
	if err != nil {
		return nil, err
	}
	out := []api.GuestStorageVolume{}
	for _, v := range all {
		if v.Config[KeyVolumeOwner] != in.Config[keyUUID] || strings.Contains(v.Name, "/") {
			continue
		}
		one := api.GuestStorageVolume{Name: v.Name, Pool: v.Pool, Type: v.Type, ContentType: v.ContentType, Location: v.Location}
		one.Config, one.Description = v.Config, v.Description
		out = append(out, one)
	}
	return out, nil
}

// Get returns one of the guest's volumes.
func (g GuestVolumes) Get(ctx context.Context, name string, ref db.VolumeRef) (api.GuestStorageVolume, error) {
	all, err := g.List(ctx, name, ref.Pool)
	if err != nil {
		return api.GuestStorageVolume{}, err
	}
	i := slices.IndexFunc(all, func(v api.GuestStorageVolume) bool { return v.Name == ref.Name })
	if i < 0 {
		return api.GuestStorageVolume{}, errs.NotFoundf("volume %q not found in storage pool %q", ref.Name, ref.Pool)
	}
	return all[i], nil
}

// Create makes a volume of the guest's.
func (g GuestVolumes) Create(ctx context.Context, name, pool string, req api.GuestStorageVolumesPost) error {
	in, err := g.allowed(ctx, name)
	if err != nil {
		return err
	}
	if err := checkGuestConfig(req.Config); err != nil {
		return err
	}
	if req.ContentType != "" && req.ContentType != "filesystem" {
		return errs.Invalidf("content_type: got %q, want filesystem", req.ContentType)
	}
	if req.Name, err = g.key(ctx, name, req.Name); err != nil {
		return err
	}
	unlock := g.s.guestVolumes.Lock(name) // Else many at once could be too many.
	defer unlock()
	have, err := g.own(ctx, in, "")
	if err != nil {
		return err
	}
	if len(have) >= maxGuestVolumes {
		return errs.Conflictf("the instance has %d volumes, which is the most", len(have))
	}
	return g.s.Volumes.CreateFor(ctx, in.Config[keyUUID], pool, api.StorageVolumesPost{
		StorageVolumePut: api.StorageVolumePut{Config: req.Config, Description: req.Description},
		Name:             req.Name, Type: req.Type, ContentType: req.ContentType,
	})
}

// Update changes a volume of the guest's.
func (g GuestVolumes) Update(ctx context.Context, name string, ref db.VolumeRef, put api.GuestStorageVolumePut) error {
	if _, err := g.Get(ctx, name, ref); err != nil {
		return err
	}
	config := maps.Clone(put.Config)
	delete(config, KeyVolumeOwner) // It has read it.
	if err := checkGuestConfig(config); err != nil {
		return err
	}
	var err error
	if ref.Name, err = g.key(ctx, name, ref.Name); err != nil {
		return err
	}
	return g.s.Volumes.Update(ctx, ref, api.StorageVolumePut{Config: config, Description: put.Description})
}

// Delete deletes a volume of the guest's that no instance has attached.
func (g GuestVolumes) Delete(ctx context.Context, name string, ref db.VolumeRef) error {
	if _, err := g.Get(ctx, name, ref); err != nil {
		return err
	}
	var err error
	if ref.Name, err = g.key(ctx, name, ref.Name); err != nil {
		return err
	}
	return g.s.Volumes.Delete(ctx, ref)
}

// checkGuestConfig reports keys that a guest may not set on its volumes: what
// concerns the host beyond the room that they take.
func checkGuestConfig(config map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(config)) {
		switch {
		case key == "size", key == "security.shifted", strings.HasPrefix(key, "initial."), strings.HasPrefix(key, "user."):
		default:
			return errs.Newf(errs.Denied, "%s: not authorized: a guest sets size, security.shifted, initial.* and user.*", key)
		}
	}
	return nil
}

// Devices returns the devices that the guest has attached.
func (g GuestVolumes) Devices(ctx context.Context, name string) (api.GuestInstance, error) {
	in, err := g.allowed(ctx, name)
	if err != nil {
		return api.GuestInstance{}, err
	}
	out := api.GuestInstance{Name: project.InstanceName(name), Devices: api.DevicesMap{}}
	for device, dev := range in.Devices {
		if ownsDevice(in, device) {
			out.Devices[device] = api.ConfigMap(maps.Clone(dev))
		}
	}
	scope.Out(&out)
	return out, nil
}

func ownerKey(device string) string { return "volatile." + device + ownerOption }

func ownsDevice(in *instance, device string) bool {
	return in.Config[keyUUID] != "" && in.Config[ownerKey(device)] == in.Config[keyUUID]
}

// SetDevices attaches volumes of the guest's to its instance, and detaches them.
func (g GuestVolumes) SetDevices(ctx context.Context, name string, patch api.GuestInstancePatch) error {
	s := g.s
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := mayKeepVolumes(in); err != nil {
		return err
	}
	put := api.InstancePut{
		Architecture: in.Architecture, Config: in.Config, Devices: api.DevicesMap{}, Ephemeral: in.Ephemeral,
		Profiles: in.Profiles, Description: in.Description,
	}
	for device, dev := range in.Devices {
		put.Devices[device] = api.ConfigMap(dev)
	}
	if err := scope.In(ctx, s.Projects, project.OfInstance(name), &patch); err != nil {
		return err
	}
	owners := map[string]string{}
	for _, device := range slices.Sorted(maps.Keys(patch.Devices)) {
		dev := patch.Devices[device]
		if err := g.checkDevice(ctx, in, device, dev); err != nil {
			return fmt.Errorf("device %q: %w", device, err)
		}
		if dev == nil {
			delete(put.Devices, device)
			owners[ownerKey(device)] = ""
			continue
		}
		put.Devices[device] = dev
		owners[ownerKey(device)] = in.Config[keyUUID]
	}
	next, err := s.updated(ctx, in, put)
	if err != nil {
		return err
	}
	next.apply(owners)
	want, err := s.checkChange(ctx, in, next)
	defer func() { s.unplan(want) }()
	if err != nil {
		return err
	}
	if err := s.update(ctx, in, next, want); err != nil {
		return err
	}
	s.tellGuest(in, next)
	s.event("instance-updated", name, nil)
	return nil
}

// checkDevice reports a device that the guest may not attach or change; nil is
// for one that it detaches.
func (g GuestVolumes) checkDevice(ctx context.Context, in *instance, device string, dev api.ConfigMap) error {
	if _, exists := in.expanded.Devices[device]; exists && !ownsDevice(in, device) {
		return errs.Newf(errs.Denied, "not authorized: the guest has not attached it")
	}
	if dev == nil {
		return nil
	}
	for _, option := range slices.Sorted(maps.Keys(dev)) {
		if !slices.Contains([]string{"type", "pool", "source", "path", "readonly"}, option) {
			return errs.Newf(errs.Denied, "%s: not authorized: a guest sets type, pool, source, path and readonly", option)
		}
	}
	if !profiles.IsVolume(profiles.Device(dev)) {
		return errs.Newf(errs.Denied, "not authorized: a guest attaches disks that are volumes of a pool")
	}
	volume, _, _ := strings.Cut(dev["source"], "/")
	own, err := g.own(ctx, in, dev["pool"])
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(own, func(v api.GuestStorageVolume) bool { return v.Name == volume }) {
		return errs.NotFoundf("volume %q not found in storage pool %q", volume, dev["pool"])
	}
	return nil
}
