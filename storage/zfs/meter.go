package zfs

import (
	"context"
	"slices"
	"strconv"

	"github.com/cuib/cuib/storage"
)

var _ storage.Meter = (*driver)(nil)

// Measure implements [storage.Meter]. It is as of the last time when ZFS wrote
// out what it had.
func (d *driver) Measure(ctx context.Context, volumes []storage.Volume) (map[storage.Volume]int64, error) {
	out := map[storage.Volume]int64{}
	args := []string{"list", "-H", "-p", "-t", "filesystem,snapshot", "-o", "name,used,usedbydataset"}
	if !slices.ContainsFunc(volumes, func(v storage.Volume) bool { return v.Snapshot != "" }) {
		args[4] = "filesystem"
	}
	if len(volumes) == 1 {
		args = append(args, d.name(volumes[0]))
	} else {
		args = append(args, "-r", d.in("containers"), d.in("custom"))
	}
	all, err := rows(ctx, args...)
	if err != nil {
		return nil, err
	}
	wanted := make(map[storage.Volume]bool, len(volumes))
	for _, v := range volumes {
		wanted[v] = true
	}
	for _, row := range all {
		v, ok := d.volume(row[0])
		if !ok || !wanted[v] || len(row) != 3 {
			continue
		}
		text := row[2]
		if v.Snapshot != "" {
			text = row[1]
		}
		if bytes, err := strconv.ParseInt(text, 10, 64); err == nil {
			out[v] = bytes
		}
	}
	return out, nil
}
