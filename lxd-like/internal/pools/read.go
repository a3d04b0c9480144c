package pools

import (
	"context"
	"maps"
	neturl "net/url"
	"os"
	"path/filepath"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// imageURL begins the URLs of images.
const imageURL = "/1.0/images/"

// List returns all pools.
func (s *Service) List(ctx context.Context) ([]api.StoragePool, error) {
	var pools []db.Pool
	var users map[string][]string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if pools, err = db.Pools(ctx, tx); err != nil {
			return err
		}
		users, err = usersOf(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make([]api.StoragePool, 0, len(pools))
	for _, p := range pools {
		all = append(all, s.describe(ctx, p, users[p.Name]))
	}
	return all, nil
}

// Names returns the names of all pools: it reads nothing of what uses them.
func (s *Service) Names(ctx context.Context) (names []string, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		names = nil
		all, err := db.Pools(ctx, tx)
		for _, p := range all {
			names = append(names, p.Name)
		}
		return err
	})
	return names, err
}

// Get returns the pool with the name.
func (s *Service) Get(ctx context.Context, name string) (api.StoragePool, error) {
	var p db.Pool
	var users map[string][]string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if p, err = db.GetPool(ctx, tx, name); err != nil {
			return err
		}
		users, err = usersOf(ctx, tx)
		return err
	})
	if err != nil {
		return api.StoragePool{}, err
	}
	return s.describe(ctx, p, users[name]), nil
}

func (s *Service) describe(ctx context.Context, p db.Pool, users []string) api.StoragePool {
	out := api.StoragePool{
		StoragePoolPut: api.StoragePoolPut{Config: s.shown(p), Description: p.Description},
		Name:           p.Name,
		Driver:         p.Driver,
		UsedBy:         users,
		Status:         "Created",
		Locations:      []string{"none"},
	}
	if out.UsedBy == nil {
		out.UsedBy = []string{}
	}
	if p.Status != db.Ready {
		out.Status = "Pending"
		return out
	}
	if _, err := s.Driver(ctx, p.Name); err != nil {
		out.Status, out.StatusMessage = "Unavailable", err.Error()
	}
	return out
}

// shown is a pool's configuration as users see it: with a source also where
// they gave none.
func (s *Service) shown(p db.Pool) map[string]string {
	if p.Config[keySource] != "" {
		return p.Config
	}
	config := maps.Clone(p.Config)
	if config == nil {
		config = map[string]string{}
	}
	config[keySource] = s.ownSource(p)
	return config
}

// ownSource is where a pool is that has no source: in the state directory, in
// a file if its driver makes file systems.
func (s *Service) ownSource(p db.Pool) string {
	dir := s.config(p).Dir
	file := filepath.Join(dir, p.Driver+".img")
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
		return file
	}
	return dir
}

// wished is a configuration as it comes from users, without the source that
// they were shown and did not give.
func (s *Service) wished(p db.Pool, config map[string]string) map[string]string {
	source := config[keySource]
	if source == "" || p.Config[keySource] != "" || source != s.ownSource(p) {
		return config
	}
	config = maps.Clone(config)
	delete(config, keySource)
	return config
}

// usersOf returns the URLs of what uses each pool.
func usersOf(ctx context.Context, tx *db.Tx) (map[string][]string, error) {
	users := map[string][]string{}
	instances, err := db.InstancesInPools(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, in := range instances {
		users[in.Pool] = append(users[in.Pool], "/1.0/instances/"+in.Name)
	}
	images, err := db.ImageVolumes(ctx, tx)
	if err != nil {
		return nil, err
	}
	keys, err := db.ImageKeys(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, v := range images {
		users[v.Pool] = append(users[v.Pool], imageURLs(keys[v.Fingerprint])...)
	}
	custom, err := db.Volumes(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, v := range custom {
		users[v.Pool] = append(users[v.Pool], url(v.Pool)+"/volumes/custom/"+neturl.PathEscape(v.Name))
	}
	all, err := db.Profiles(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		for _, pool := range poolsIn(p.Devices) {
			users[pool] = append(users[pool], "/1.0/profiles/"+p.Name)
		}
	}
	return users, nil
}

// imageURLs are the paths of the images that have a volume.
func imageURLs(keys []string) []string {
	out := make([]string, 0, len(keys))
	for _, key := range keys {
		out = append(out, imageURL+neturl.PathEscape(key))
	}
	return out
}

// poolsIn returns the pools that disks are on, each once.
func poolsIn(devices map[string]map[string]string) []string {
	var pools []string
	seen := map[string]bool{}
	for _, d := range devices {
		if pool := d["pool"]; d["type"] == "disk" && pool != "" && !seen[pool] {
			seen[pool] = true
			pools = append(pools, pool)
		}
	}
	return pools
}

// Resources returns the room in a pool.
func (s *Service) Resources(ctx context.Context, name string) (api.ResourcesStoragePool, error) {
	var out api.ResourcesStoragePool
	d, err := s.Driver(ctx, name)
	if err != nil {
		return out, err
	}
	spacer, ok := d.(storage.Spacer)
	if !ok {
		return out, errs.Newf(errs.Unsupported, "storage pool %q does not know its room", name)
	}
	space, err := spacer.Space(ctx)
	if errs.Is(err, errs.Unavailable) {
		s.lose(ctx, name, d, err)
	}
	out.Space = api.ResourcesUsage{Used: space.UsedBytes, Total: space.TotalBytes}
	out.Inodes = api.ResourcesUsage{Used: space.UsedInodes, Total: space.TotalInodes}
	return out, err
}

// Volumes returns the volumes of a pool: the roots of instances, and unpacked
// images.
func (s *Service) Volumes(ctx context.Context, pool string) ([]api.StorageVolume, error) {
	all := []api.StorageVolume{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetPool(ctx, tx, pool); err != nil {
			return err
		}
		instances, err := db.Instances(ctx, tx)
		if err != nil {
			return err
		}
		for _, in := range instances {
			if in.Pool != pool {
				continue
			}
			v := volume(pool, "container", in.Name, "/1.0/instances/"+in.Name)
			v.CreatedAt = in.Created
			all = append(all, v)
		}
		images, err := db.ImageVolumes(ctx, tx)
		if err != nil {
			return err
		}
		keys, err := db.ImageKeys(ctx, tx)
		for _, v := range images {
			if v.Pool == pool {
				all = append(all, volume(pool, "image", v.Fingerprint, imageURLs(keys[v.Fingerprint])...))
			}
		}
		return err
	})
	return all, err
}

func volume(pool, typ, name string, users ...string) api.StorageVolume {
	return api.StorageVolume{
		StorageVolumePut: api.StorageVolumePut{Config: api.ConfigMap{}},

		Name:        name,
		Type:        typ,
		UsedBy:      users,
		Location:    "none",
		ContentType: "filesystem",
		Project:     "default",
		Pool:        pool,
	}
}

// Volume returns one volume of a pool.
func (s *Service) Volume(ctx context.Context, pool, typ, name string) (api.StorageVolume, error) {
	all, err := s.Volumes(ctx, pool)
	if err != nil {
		return api.StorageVolume{}, err
	}
	for _, v := range all {
		if v.Type == typ && v.Name == name {
			return v, nil
		}
	}
	return api.StorageVolume{}, errs.NotFoundf("volume %q of type %q not found in storage pool %q", name, typ, pool)
}
