package instances

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// countPatience is how long the files of an instance are counted, where the
// pool does not know what they occupy.
const countPatience = time.Second

// disks says how much the root disk of an instance holds, if that can be told
// soon.
func (s *Service) disks(ctx context.Context, in *instance) map[string]api.InstanceStateDisk {
	used := s.measure(ctx, []*instance{in})
	if _, ok := used[rootOf(in)]; !ok {
		if bytes, err := s.count(ctx, in); err == nil {
			used[rootOf(in)] = bytes
		}
	}
	return rootUsage(in, used)
}

// count looks at all files of an instance.
func (s *Service) count(ctx context.Context, in *instance) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countPatience)
	defer cancel()
	d, err := s.driver(ctx, in)
	if err != nil {
		return 0, err
	}
	return d.Usage(ctx, in.volume())
}

// place is a volume in a pool.
type place struct {
	pool   string
	volume storage.Volume
}

func rootOf(in *instance) place { return place{in.Pool, in.volume()} }

// measure returns what the root disks occupy of which the pools know that at
// once.
func (s *Service) measure(ctx context.Context, all []*instance) map[place]int64 {
	volumes := map[string][]storage.Volume{}
	for _, in := range all {
		volumes[in.Pool] = append(volumes[in.Pool], in.volume())
	}
	out := map[place]int64{}
	for pool, wanted := range volumes {
		got, err := s.ask(ctx, pool, wanted)
		if err != nil {
			s.Logger.DebugContext(ctx, "a storage pool does not say what is in use", "pool", pool, "err", err)
		}
		for v, bytes := range got {
			out[place{pool, v}] = bytes
		}
	}
	return out
}

func (s *Service) ask(ctx context.Context, pool string, volumes []storage.Volume) (map[storage.Volume]int64, error) {
	d, err := s.Pools.Driver(ctx, pool)
	if err != nil {
		return nil, err
	}
	m, ok := d.(storage.Meter)
	if !ok {
		return nil, errs.Newf(errs.Unsupported, "its driver does not know")
	}
	return m.Measure(ctx, volumes)
}

// rootUsage is the state of the root disk, if it is known.
func rootUsage(in *instance, used map[place]int64) map[string]api.InstanceStateDisk {
	out := map[string]api.InstanceStateDisk{}
	name, _, ok := root(in.expanded)
	bytes, known := used[rootOf(in)]
	if !ok || !known {
		return out
	}
	total, err := units.ParseBytes(in.rootSize().text)
	if err != nil {
		total = 0
	}
	out[name] = api.InstanceStateDisk{Usage: bytes, Total: total}
	return out
}

// measureSnapshots fills in the sizes of snapshots that the pool knows at once.
func (s *Service) measureSnapshots(ctx context.Context, in *instance, all []api.InstanceSnapshot) {
	volumes := make([]storage.Volume, 0, len(all))
	for _, snap := range all {
		volumes = append(volumes, in.snapshotVolume(snap.Name))
	}
	if len(volumes) == 0 {
		return
	}
	used, err := s.ask(ctx, in.Pool, volumes)
	if err != nil {
		return
	}
	for i, snap := range all {
		if bytes, ok := used[in.snapshotVolume(snap.Name)]; ok {
			all[i].Size = bytes
		}
	}
}
