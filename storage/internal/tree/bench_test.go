package tree_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage/internal/tree"
)

// BenchmarkCopy copies the tree that CUIB_BENCH_TREE names, /usr/share if it
// names none, by turns with cp -a --reflink=auto, and tells how many times as
// fast as that it is.
func BenchmarkCopy(b *testing.B) {
	testenv.Kernel(b, "cp")
	src := os.Getenv("CUIB_BENCH_TREE")
	if src == "" {
		src = "/usr/share"
	}
	for _, fs := range []string{"ext4", "xfs", "btrfs", "tmpfs"} {
		b.Run(fs, func(b *testing.B) {
			dir := benchDir(b, fs)
			from := filepath.Join(dir, "src")
			testenv.Run(b, "cp", "-a", src, from)
			copies := func(name string, fn func(to string) error) time.Duration {
				to := filepath.Join(dir, name)
				testenv.Run(b, "sync", "-f", dir)
				start := time.Now()
				if err := fn(to); err != nil {
					b.Fatal(err)
				}
				took := time.Since(start)
				if err := tree.Remove(to); err != nil {
					b.Fatal(err)
				}
				return took
			}
			var ours, theirs time.Duration
			for b.Loop() {
				theirs += copies("cp", func(to string) error {
					testenv.Run(b, "cp", "-a", "--reflink=auto", from, to)
					return nil
				})
				ours += copies("ours", func(to string) error { return tree.Copy(b.Context(), to, from) })
			}
			n := float64(b.N)
			b.ReportMetric(ours.Seconds()/n, "s/copy")
			b.ReportMetric(theirs.Seconds()/n, "s/cp")
			b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-cp")
		})
	}
}

func benchDir(b *testing.B, fs string) string {
	b.Helper()
	if fs != "tmpfs" {
		b.Cleanup(mounts.Settle)
		return testenv.Mounted(b, fs, "4G")
	}
	testenv.InMemory(b)
	return b.TempDir()
}
