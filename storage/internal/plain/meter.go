package plain

import (
	"context"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/projquota"
)

// Measure implements [storage.Meter]: it is known of volumes with a limit.
func (d Driver) Measure(_ context.Context, volumes []storage.Volume) (map[storage.Volume]int64, error) {
	out := map[storage.Volume]int64{}
	for _, v := range volumes {
		bytes, ok, err := projquota.Usage(d.Pool.Path(v))
		if err == nil && ok {
			out[v] = bytes
		}
	}
	return out, nil
}
