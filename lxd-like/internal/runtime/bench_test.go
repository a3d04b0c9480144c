package runtime_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
)

// BenchmarkLife reports what a start, a program and a kill take.
func BenchmarkLife(b *testing.B) {
	r, s := newRuntime(b), newSpec(b)
	for range b.N {
		var starts, first, execs, kills []time.Duration
		for range 20 {
			at := time.Now()
			if _, err := r.Start(b.Context(), s, nil); err != nil {
				b.Fatal(err)
			}
			starts = append(starts, time.Since(at))
			for i := range 4 {
				at = time.Now()
				run(b, r, s.Name, "", runtime.Exec{Args: []string{"true"}})
				if i == 0 {
					first = append(first, time.Since(at))
				} else {
					execs = append(execs, time.Since(at))
				}
			}
			at = time.Now()
			if err := r.Kill(b.Context(), s.Name); err != nil {
				b.Fatal(err)
			}
			kills = append(kills, time.Since(at))
		}
		b.ReportMetric(median(starts), "ms/start")
		b.ReportMetric(median(first), "ms/first-exec")
		b.ReportMetric(median(execs), "ms/exec")
		b.ReportMetric(median(kills), "ms/kill")
	}
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}
