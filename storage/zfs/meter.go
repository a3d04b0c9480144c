package zfs

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/cuib/cuib/storage"
)

var _ storage.Meter = (*driver)(nil)

// Measure implements [storage.Meter]. It is as of the last time when ZFS wrote
// out what it had.
func (d *driver) Measure(ctx context.Context, volumes []storage.Volume) (map[storage.Volume]int64, error) {
	out := map[storage.Volume]int64{}
	args := []string{"list", "-H", "-p", "-t", "filesystem,snapshot", "-o", counted}
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
		if !ok || !wanted[v] {
			continue
		}
		if bytes, err := countOf(v, row); err == nil {
			out[v] = bytes
		}
	}
	return out, nil
}

// counted are the properties of a dataset that tell what it occupies.
const counted = "name,used,usedbydataset,referenced,quota,refquota"

// countOf returns what a volume occupies, of a row of what [counted] lists: if
// it has a limit, what that counts.
func countOf(v storage.Volume, row []string) (int64, error) {
	const used, own, referenced, quota, refquota = 1, 2, 3, 4, 5
	if len(row) <= refquota {
		return 0, fmt.Errorf("zfs list has a row of %d columns", len(row))
	}
	limited := func(column int) bool { return !slices.Contains([]string{"0", "none", "-"}, row[column]) }
	column := own
	switch {
	case v.Snapshot != "", limited(quota):
		column = used
	case limited(refquota):
		column = referenced
	}
	return strconv.ParseInt(row[column], 10, 64)
}
