package overlay

import (
	"context"
	"maps"
	"path/filepath"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/projquota"
)

var _ storage.Meter = (*driver)(nil)

// Measure implements [storage.Meter]: it is known of volumes with a limit.
func (d *driver) Measure(ctx context.Context, volumes []storage.Volume) (map[storage.Volume]int64, error) {
	out := map[storage.Volume]int64{}
	plain := []storage.Volume{}
	for _, v := range volumes {
		if isPlain(v) {
			plain = append(plain, v)
			continue
		}
		if v.Snapshot != "" {
			continue // Its layer is in the volume's project.
		}
		bytes, ok, err := projquota.Usage(filepath.Join(d.Pool.Path(v), upper))
		if err == nil && ok {
			out[v] = bytes
		}
	}
	more, err := d.plain.Measure(ctx, plain)
	maps.Copy(out, more)
	return out, err
}
