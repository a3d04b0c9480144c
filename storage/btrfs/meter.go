package btrfs

import (
	"context"
	"errors"
	"io/fs"

	"github.com/cuib/cuib/storage"
)

var _ storage.Meter = (*driver)(nil)

// Measure implements [storage.Meter]: it is known while quotas are enabled. If
// they are not, no volume is looked at, however many there are.
func (d *driver) Measure(_ context.Context, volumes []storage.Volume) (map[storage.Volume]int64, error) {
	out := map[storage.Volume]int64{}
	enabled, err := quotasEnabled(d.Pool.Root)
	if err != nil || !enabled {
		return out, err
	}
	ids := make(map[storage.Volume]uint64, len(volumes))
	first, last := ^uint64(0), uint64(0)
	for _, v := range volumes {
		id, err := subvolID(d.Pool.Path(v))
		if errors.Is(err, fs.ErrNotExist) {
			continue // It went away meanwhile.
		}
		if err != nil {
			return nil, err
		}
		ids[v], first, last = id, min(first, id), max(last, id)
	}
	limits, err := groups(d.Pool.Root, quotaRange{qgroupLimitKey, first, last})
	if err != nil {
		return nil, err
	}
	counts, err := groups(d.Pool.Root, quotaRange{qgroupInfoKey, first, last})
	if err != nil {
		return nil, err
	}
	for v, id := range ids {
		if bytes, ok := counts[id].bytes(limits[id].limit()); ok {
			out[v] = bytes
		}
	}
	return out, nil
}

// quotasEnabled reports whether the file system counts what its subvolumes
// occupy.
func quotasEnabled(root string) (bool, error) {
	items, err := quotaItems(root, quotaRange{key: qgroupStatusKey})
	return len(items) > 0, err
}

// groups returns all items of a range.
func groups(root string, r quotaRange) (map[uint64]groupItem, error) {
	out := map[uint64]groupItem{}
	for r.first <= r.last {
		items, err := quotaItems(root, r)
		if err != nil || len(items) == 0 {
			return out, err
		}
		for _, it := range items {
			out[it.id] = it
			r.first = it.id + 1
		}
	}
	return out, nil
}
