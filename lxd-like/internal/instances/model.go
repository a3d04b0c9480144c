package instances

import (
	"context"
	"maps"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// instance is an instance as it is in the database, and what its profiles
// make of it.
type instance struct {
	db.Instance

	expanded profiles.Config
}

// defaultProfile is the profile of instances that name none.
const defaultProfile = "default"

// The keys under which the daemon keeps what it must remember of an instance.
const (
	keyBaseImage     = "volatile.base_image"
	keyApplyTemplate = "volatile.apply_template"
	keyCloudInitID   = "volatile.cloud-init.instance-id"
	keyUUID          = "volatile.uuid"
	keyAttached      = "volatile.attached_volumes"
	keyGeneration    = "volatile.uuid.generation"
	keyPower         = "volatile.last_state.power"
	keyIDBase        = "volatile.idmap.base"
	keyIDCurrent     = "volatile.idmap.current"
	keyIDNext        = "volatile.idmap.next"
	keyIDLast        = "volatile.last_state.idmap"
	keyCPU           = "volatile.cpu"
	keyCPUNodes      = "volatile.cpu.nodes"
	keyRootSize      = "volatile.root.size" // Of a root whose device has no size.
)

// The keys that mark work which a crash has cut short. See [Service.Recover].
const (
	keyRebuilding = "volatile.rebuilding" // The old root is aside, the new one not yet acknowledged.
	keyRenaming   = "volatile.renaming"   // The name that the volume is getting.
	keyRestoring  = "volatile.restoring"  // The snapshot that the root is getting the contents of.
	keyRefreshing = "volatile.refreshing" // The root and the snapshots that are pending are being brought up to date.
	keyMoving     = "volatile.moving"     // POOL/NAME of the copy that the instance is to become.
	keyMoved      = "volatile.moved"      // POOL/NAME of what it was, and what is to be deleted.
)

const (
	powerOn  = "RUNNING"
	powerOff = "STOPPED"
)

func (in *instance) volume() storage.Volume {
	return storage.Volume{Kind: storage.Instance, Name: in.Name}
}

func (in *instance) snapshotVolume(snapshot string) storage.Volume {
	return storage.Volume{Kind: storage.Instance, Name: in.Name, Snapshot: snapshot}
}

func (in *instance) url() string { return instanceURL(in.Name) }

func instanceURL(name string) string { return "/1.0/instances/" + name }

// own is what is the instance's own, without profiles.
func (in *instance) own() profiles.Config {
	return profiles.Config{Options: in.Config, Devices: in.Devices}
}

// root returns the root disk of a configuration.
func root(c profiles.Config) (name string, dev profiles.Device, ok bool) {
	name, dev, err := profiles.Root(c)
	return name, dev, err == nil
}

// load reads an instance that is whole.
func (s *Service) load(ctx context.Context, name string) (*instance, error) {
	in := &instance{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		in, err = loadTx(ctx, tx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	if in.Status != db.Ready {
		return nil, errs.NotFoundf("instance %q not found: it is being created or deleted", name)
	}
	return in, nil
}

func loadTx(ctx context.Context, tx *db.Tx, name string) (*instance, error) {
	row, err := db.GetInstance(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	profs, err := db.ProfilesByName(ctx, tx, row.Profiles)
	if err != nil {
		return nil, err
	}
	return newInstance(row, profs), nil
}

// newInstance expands an instance by its profiles, which are in order.
func newInstance(row db.Instance, profs []db.Profile) *instance {
	in := &instance{Instance: row}
	in.expanded = expand(in.own(), profs)
	return in
}

func expand(own profiles.Config, profs []db.Profile) profiles.Config {
	all := make([]profiles.Config, 0, len(profs))
	for _, p := range profs {
		all = append(all, profiles.Config{Options: p.Config, Devices: p.Devices})
	}
	return profiles.Expand(own, all...)
}

// locked is [Service.load] with the instance's lock held, which the caller
// releases with unlock.
func (s *Service) locked(ctx context.Context, name string) (in *instance, unlock func(), err error) {
	unlock = s.locks.Lock(name)
	in, err = s.load(ctx, name)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return in, unlock, nil
}

// patch changes keys of an instance's configuration; empty values unset them.
func (s *Service) patch(ctx context.Context, in *instance, keys map[string]string) error {
	if len(keys) == 0 {
		return nil
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.PatchInstanceConfig(ctx, tx, in.Name, keys)
	})
	if err == nil {
		in.apply(keys)
	}
	return err
}

// apply changes keys of the configuration in memory, as patch does in the
// database.
func (in *instance) apply(keys map[string]string) {
	in.Config, in.expanded.Options = patched(in.Config, keys), patched(in.expanded.Options, keys)
}

// clone returns a copy whose configuration can be changed.
func (in *instance) clone() *instance {
	out := *in
	return &out // What apply changes it replaces.
}

func patched(m, keys map[string]string) map[string]string {
	out := make(map[string]string, len(m)+len(keys))
	maps.Copy(out, m)
	for k, v := range keys {
		if v == "" {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

// given is a configuration as a client gives it: an empty value is none.
func given[M ~map[string]string](config M) map[string]string {
	out := make(map[string]string, len(config))
	for k, v := range config {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

// givenDevices are devices as a client gives them.
func givenDevices(devices api.DevicesMap) map[string]map[string]string {
	out := make(map[string]map[string]string, len(devices))
	for name, dev := range devices {
		out[name] = given(dev)
	}
	return out
}

// event tells who listens that something happened to an instance.
func (s *Service) event(action, name string, details map[string]any) {
	s.Events.Lifecycle(action, instanceURL(name), details)
}

// driver opens the pool of an instance.
func (s *Service) driver(ctx context.Context, in *instance) (storage.Driver, error) {
	if err := s.away.check(in); err != nil {
		return nil, err
	}
	return s.Pools.Driver(ctx, in.Pool)
}

// withRoom adds to an error of a full disk what room the pool has.
func (s *Service) withRoom(ctx context.Context, pool string, err error) error {
	if err == nil {
		return nil
	}
	d, derr := s.Pools.Driver(ctx, pool)
	if derr != nil {
		return err
	}
	return storage.Full(ctx, d, pool, err)
}

// convert converts between the types that all are devices by name.
func convert[T, M ~map[string]string](in map[string]M) map[string]T {
	out := make(map[string]T, len(in))
	for name, dev := range in {
		out[name] = T(dev)
	}
	return out
}

func apiDevices[M ~map[string]string](in map[string]M) api.DevicesMap {
	return convert[api.ConfigMap](in)
}

func apiConfig(in map[string]string) api.ConfigMap {
	if in == nil {
		return api.ConfigMap{}
	}
	return in
}

func orEmpty(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
}
