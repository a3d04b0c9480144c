package volumes

import (
	"cmp"
	"context"
	neturl "net/url"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// The types of volumes.
const (
	typeCustom    = "custom"
	typeContainer = "container"
	typeImage     = "image"
)

// CheckType reports what is wrong with a type of volumes. An empty one stands
// for all.
func CheckType(typ string) error {
	switch typ {
	case "", typeCustom, typeContainer, typeImage, "virtual-machine":
		return nil
	}
	return errs.Invalidf("volume type: got %q, want custom, container, image or virtual-machine", typ)
}

// List returns the volumes of a pool, or of all if it is empty, with those of
// instances and images, and with their snapshots, whose names are
// VOLUME/SNAPSHOT. typ is one type of them, or empty for all.
func (s *Service) List(ctx context.Context, pool, typ string) ([]api.StorageVolume, error) {
	if err := CheckType(typ); err != nil {
		return nil, err
	}
	l := lister{pool: pool, typ: typ}
	err := s.DB.View(ctx, l.read)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(l.out, func(a, b api.StorageVolume) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Type, b.Type), strings.Compare(a.Name, b.Name))
	})
	return l.out, nil
}

// ListFull is [Service.List] without snapshots of their own, which are with
// their volumes, and with what the volumes are like now.
func (s *Service) ListFull(ctx context.Context, pool, typ string) ([]api.StorageVolumeFull, error) {
	all, err := s.List(ctx, pool, typ)
	if err != nil {
		return nil, err
	}
	out := make([]api.StorageVolumeFull, 0, len(all))
	for _, v := range all {
		if strings.Contains(v.Name, "/") {
			continue
		}
		full, err := s.full(ctx, v)
		if err != nil {
			return nil, err
		}
		out = append(out, full)
	}
	return out, nil
}

// GetFull returns one volume with all that there is to know of it.
func (s *Service) GetFull(ctx context.Context, pool, typ, name string) (api.StorageVolumeFull, error) {
	v, err := s.Get(ctx, pool, typ, name)
	if err != nil {
		return api.StorageVolumeFull{}, err
	}
	return s.full(ctx, v)
}

func (s *Service) full(ctx context.Context, v api.StorageVolume) (api.StorageVolumeFull, error) {
	out := api.StorageVolumeFull{StorageVolume: v, Backups: []api.StorageVolumeBackup{}}
	var err error
	if out.Snapshots, err = s.snapshotsOf(ctx, v); err != nil {
		return out, err
	}
	// A pool that is not there keeps nobody from the rest.
	if state, err := s.stateOf(ctx, v); err == nil {
		out.State = &state
	}
	return out, nil
}

// A lister collects volumes in a transaction.
type lister struct {
	pool, typ string
	users     map[target][]string
	out       []api.StorageVolume
}

func (l *lister) wants(pool, typ string) bool {
	return (l.pool == "" || pool == l.pool) && (l.typ == "" || typ == l.typ)
}

func (l *lister) read(ctx context.Context, tx *db.Tx) error {
	l.out = []api.StorageVolume{}
	if l.pool != "" {
		if _, err := db.GetPool(ctx, tx, l.pool); err != nil {
			return err
		}
	}
	for typ, read := range map[string]func(context.Context, *db.Tx) error{
		typeCustom: l.custom, typeContainer: l.containers, typeImage: l.images,
	} {
		if l.typ != "" && l.typ != typ {
			continue
		}
		if err := read(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) custom(ctx context.Context, tx *db.Tx) error {
	all, err := db.Volumes(ctx, tx)
	if err != nil {
		return err
	}
	snaps, err := db.AllVolumeSnapshots(ctx, tx)
	if err != nil {
		return err
	}
	if l.users, err = users(ctx, tx); err != nil {
		return err
	}
	for _, v := range all {
		if v.Status != db.Ready || !l.wants(v.Pool, typeCustom) {
			continue
		}
		l.out = append(l.out, describe(v, l.users[target{Ref: v.VolumeRef}]))
		for _, snap := range seen(snaps[v.VolumeRef]) {
			one := describe(v, l.users[target{v.VolumeRef, snap.Name}])
			one.Name += "/" + snap.Name
			one.Description, one.CreatedAt, one.Config = snap.Description, snap.Created, visible(snap.Config)
			l.out = append(l.out, one)
		}
	}
	return nil
}

func (l *lister) containers(ctx context.Context, tx *db.Tx) error {
	all, err := db.Instances(ctx, tx)
	if err != nil {
		return err
	}
	snaps, err := db.SnapshotHeadsByInstance(ctx, tx)
	if err != nil {
		return err
	}
	for _, in := range all {
		if in.Status != db.Ready || !l.wants(in.Pool, typeContainer) {
			continue
		}
		v := other(in.Pool, typeContainer, in.Name, instanceURL(in.Name))
		v.CreatedAt, v.Description = in.Created, in.Description
		l.out = append(l.out, v)
		for _, snap := range snaps[in.Name] {
			if snap.Status != db.Ready || storage.Hidden(snap.Name) {
				continue
			}
			v := other(in.Pool, typeContainer, in.Name+"/"+snap.Name, instanceURL(in.Name)+"/snapshots/"+snap.Name)
			v.CreatedAt, v.Description = snap.Created, snap.Description
			l.out = append(l.out, v)
		}
	}
	return nil
}

func (l *lister) images(ctx context.Context, tx *db.Tx) error {
	all, err := db.ImageVolumes(ctx, tx)
	if err != nil || len(all) == 0 {
		return err
	}
	keys, err := db.ImageKeys(ctx, tx)
	for _, v := range all {
		if v.Status == db.Ready && l.wants(v.Pool, typeImage) {
			l.out = append(l.out, other(v.Pool, typeImage, v.Fingerprint, imageURLs(keys[v.Fingerprint])...))
		}
	}
	return err
}

// imageURLs are the paths of the images that have a volume.
func imageURLs(keys []string) []string {
	out := make([]string, 0, len(keys))
	for _, key := range keys {
		out = append(out, "/1.0/images/"+neturl.PathEscape(key))
	}
	return out
}

func instanceURL(name string) string { return "/1.0/instances/" + name }

func profileURL(name string) string { return "/1.0/profiles/" + neturl.PathEscape(name) }

// other describes a volume that is not custom.
func other(pool, typ, name string, users ...string) api.StorageVolume {
	return api.StorageVolume{
		StorageVolumePut: api.StorageVolumePut{Config: api.ConfigMap{}},
		Name:             name, Type: typ, UsedBy: users, Location: "none", ContentType: filesystem, Project: "default", Pool: pool,
	}
}

func describe(v db.Volume, users []string) api.StorageVolume {
	out := api.StorageVolume{
		StorageVolumePut: api.StorageVolumePut{Config: visible(v.Config), Description: v.Description},
		Name:             v.Name, Type: typeCustom, UsedBy: users, Location: "none", ContentType: v.ContentType,
		Project: "default", CreatedAt: v.Created, Pool: v.Pool,
	}
	if out.UsedBy == nil {
		out.UsedBy = []string{}
	}
	return out
}

// Get returns one volume, or the snapshot VOLUME/SNAPSHOT as one.
func (s *Service) Get(ctx context.Context, pool, typ, name string) (api.StorageVolume, error) {
	if typ == "" {
		return api.StorageVolume{}, errs.Invalidf("volume type: it is empty, want custom, container or image")
	}
	if err := CheckType(typ); err != nil {
		return api.StorageVolume{}, err
	}
	if typ == typeCustom && !strings.Contains(name, "/") {
		return s.custom(ctx, Ref{Pool: pool, Name: name})
	}
	all, err := s.List(ctx, pool, typ)
	for _, v := range all {
		if v.Name == name {
			return v, nil
		}
	}
	if err == nil {
		err = errs.NotFoundf("volume %q of type %s not found in storage pool %q", name, typ, pool)
	}
	return api.StorageVolume{}, err
}

func (s *Service) custom(ctx context.Context, ref Ref) (api.StorageVolume, error) {
	var out api.StorageVolume
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		v, err := loadTx(ctx, tx, ref)
		if err != nil {
			return poolFirst(ctx, tx, ref, err)
		}
		by, err := users(ctx, tx)
		out = describe(v, by[target{Ref: ref}])
		return err
	})
	return out, err
}

// poolFirst words the error of a missing volume whose pool is missing too.
func poolFirst(ctx context.Context, tx *db.Tx, ref Ref, err error) error {
	if _, perr := db.GetPool(ctx, tx, ref.Pool); perr != nil {
		return perr
	}
	return err
}

// State returns what a volume is like now.
func (s *Service) State(ctx context.Context, pool, typ, name string) (api.StorageVolumeState, error) {
	v, err := s.Get(ctx, pool, typ, name)
	if err != nil {
		return api.StorageVolumeState{}, err
	}
	return s.stateOf(ctx, v)
}

func (s *Service) stateOf(ctx context.Context, v api.StorageVolume) (api.StorageVolumeState, error) {
	d, err := s.driver(ctx, v.Pool)
	if err != nil {
		return api.StorageVolumeState{}, err
	}
	kinds := map[string]storage.Kind{typeCustom: storage.Custom, typeContainer: storage.Instance, typeImage: storage.Image}
	name, snapshot, _ := strings.Cut(v.Name, "/")
	used, err := d.Usage(ctx, storage.Volume{Kind: kinds[v.Type], Name: name, Snapshot: snapshot})
	if err != nil {
		return api.StorageVolumeState{}, err
	}
	size, err := profiles.ParseSize(v.Config["size"])
	if v.Config["size"] == "" || err != nil {
		size = 0
	}
	return api.StorageVolumeState{Usage: &api.StorageVolumeStateUsage{Used: uint64(max(used, 0)), Total: size}}, nil
}

// users returns the URLs of the instances and profiles that use each volume
// and snapshot. Who uses a snapshot does not use its volume.
func users(ctx context.Context, tx *db.Tx) (map[target][]string, error) {
	out := map[target][]string{}
	instances, err := db.Instances(ctx, tx)
	if err != nil {
		return nil, err
	}
	profs, err := db.Profiles(ctx, tx)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]profiles.Config, len(profs))
	for _, p := range profs {
		byName[p.Name] = profiles.Config{Devices: p.Devices}
	}
	for _, in := range instances {
		var all []profiles.Config
		for _, name := range in.Profiles {
			all = append(all, byName[name])
		}
		addUser(out, instanceURL(in.Name), profiles.Expand(profiles.Config{Devices: in.Devices}, all...).Devices)
	}
	for _, p := range profs {
		addUser(out, profileURL(p.Name), p.Devices)
	}
	return out, nil
}

// addUser adds who has devices to the users of what those show.
func addUser(out map[target][]string, url string, devices map[string]profiles.Device) {
	for _, dev := range devices {
		if !profiles.IsVolume(dev) {
			continue
		}
		t, err := parseTarget(dev["pool"], profiles.VolumeSource(dev))
		if err == nil && !slices.Contains(out[t], url) {
			out[t] = append(out[t], url)
		}
	}
}

// usersOf returns the users of a volume and all its snapshots.
func usersOf(ctx context.Context, tx *db.Tx, ref Ref) ([]string, error) {
	all, err := users(ctx, tx)
	var out []string
	for t, by := range all {
		if t.Ref == ref {
			out = append(out, by...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

// unused returns an error that names users.
func unused(t target, users []string) error {
	if len(users) == 0 {
		return nil
	}
	names := make([]string, 0, len(users))
	for _, u := range users {
		path, _ := neturl.PathUnescape(strings.TrimPrefix(u, "/1.0/")) // It is one of ours.
		names = append(names, path)
	}
	return errs.Conflictf("%s is in use by %s: detach it first", t, named(names))
}
