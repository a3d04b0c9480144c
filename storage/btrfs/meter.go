package btrfs

import (
	"context"

	"github.com/cuib/cuib/storage"
)

var _ storage.Meter = (*driver)(nil)

// Measure implements [storage.Meter]: it is known while quotas are enabled.
func (d *driver) Measure(_ context.Context, volumes []storage.Volume) (map[storage.Volume]int64, error) {
	out := map[storage.Volume]int64{}
	for _, v := range volumes {
		if bytes, ok := counted(d.Pool.Path(v)); ok {
			out[v] = bytes
		}
	}
	return out, nil
}

// counted returns the bytes that only this subvolume occupies, if the file
// system counts them.
func counted(path string) (int64, bool) {
	const exclusive = 3 // generation, referenced, compressed, exclusive, compressed
	item, err := quotaItem(path, qgroupInfoKey)
	if err != nil || len(item) <= exclusive {
		return 0, false
	}
	return int64(item[exclusive]), true //nolint:gosec // It is not that large.
}
