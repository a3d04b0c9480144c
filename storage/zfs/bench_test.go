package zfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// turns is how often each operation is measured.
const turns = 31

// BenchmarkAgainstPrograms measures each operation by turns with the programs
// that do the same, and reports the medians of both in milliseconds, and their
// ratio.
func BenchmarkAgainstPrograms(b *testing.B) {
	newZpool(b)
	cfg := newPool(b, "cuib")
	d := openPool(b, cfg)
	img := storage.Volume{Kind: storage.Image, Name: "image"}
	ok(b, d.Create(b.Context(), img))
	dir, err := d.Mount(b.Context(), img, nil)
	ok(b, err)
	ok(b, os.WriteFile(filepath.Join(dir, "f"), []byte("image"), 0o600))
	ok(b, d.Unmount(b.Context(), img))
	limiter, _ := d.(storage.Limiter)

	vol := func(i int) storage.Volume { return storage.Volume{Kind: storage.Instance, Name: fmt.Sprint("c", i)} }
	snapOf := func(i int) storage.Volume { v := vol(0); v.Snapshot = fmt.Sprint("s", i); return v }
	at := func(name string, i int) string { return fmt.Sprintf("%s/containers/%s%d", cfg.Source, name, i) }
	zfs := func(args ...string) { testenv.Run(b, append([]string{"zfs"}, args...)...) }
	point := b.TempDir()
	own := []string{"-o", "mountpoint=legacy", "-o", "canmount=noauto"}
	ok(b, d.Clone(b.Context(), vol(0), img))
	for _, op := range []struct {
		name   string
		driver func(i int) error
		bare   func(i int)
	}{
		{
			"clone an image", func(i int) error { return d.Clone(b.Context(), vol(i), img) },
			func(i int) {
				zfs(append(append([]string{"clone"}, own...), cfg.Source+"/images/image@readonly", at("b", i))...)
			},
		},
		{
			"mount", func(i int) error { _, err := d.Mount(b.Context(), vol(i), ids); return err },
			func(i int) {
				testenv.Run(b, "mkdir", fmt.Sprint(point, "/", i))
				testenv.Run(b, "mount", "-t", "zfs", at("b", i), fmt.Sprint(point, "/", i))
			},
		},
		{
			"unmount", func(i int) error { return d.Unmount(b.Context(), vol(i)) },
			func(i int) { testenv.Run(b, "umount", fmt.Sprint(point, "/", i)) },
		},
		{
			"limit", func(i int) error { return limiter.Limit(b.Context(), vol(i), 100<<20) },
			func(i int) {
				zfs("set", "quota=104857600", "refquota=none", "reservation=none", "refreservation=none", at("b", i))
			},
		},
		{
			"rename", func(i int) error { return d.Rename(b.Context(), vol(i), fmt.Sprint("d", i)) },
			func(i int) { zfs("rename", at("b", i), at("e", i)) },
		},
		{
			"delete", func(i int) error {
				return d.Delete(b.Context(), storage.Volume{Kind: storage.Instance, Name: fmt.Sprint("d", i)})
			},
			func(i int) { zfs("destroy", at("e", i)) },
		},
		{
			"snapshot", func(i int) error { return d.Snapshot(b.Context(), snapOf(i)) },
			func(i int) { zfs("snapshot", fmt.Sprintf("%s@b%d", at("c", 0), i)) },
		},
		{
			"copy a snapshot to a volume", func(i int) error { return d.Clone(b.Context(), vol(i), snapOf(i)) },
			func(i int) {
				zfs(append(append([]string{"clone"}, own...), fmt.Sprintf("%s@b%d", at("c", 0), i), at("b", i))...)
			},
		},
		{"delete it", func(i int) error { return d.Delete(b.Context(), vol(i)) }, func(i int) { zfs("destroy", at("b", i)) }},
		{
			"delete a snapshot", func(i int) error { return d.Delete(b.Context(), snapOf(i)) },
			func(i int) { zfs("destroy", fmt.Sprintf("%s@b%d", at("c", 0), i)) },
		},
		{
			"copy a volume", func(i int) error { return d.Clone(b.Context(), vol(i), vol(0)) },
			func(i int) {
				zfs("snapshot", fmt.Sprintf("%s@b%d", at("c", 0), i))
				zfs(append(append([]string{"clone"}, own...), fmt.Sprintf("%s@b%d", at("c", 0), i), at("b", i))...)
			},
		},
		{"restore the newest", func(int) error {
			return d.Restore(b.Context(), snapOf(100000))
		}, func(int) { zfs("rollback", at("c", 0)+"@snapshot-s100000") }},
	} {
		b.Run(op.name, func(b *testing.B) {
			if op.name == "restore the newest" {
				ok(b, d.Snapshot(b.Context(), snapOf(100000)))
			}
			var ours, theirs []time.Duration
			driver := func(i int) {
				start := time.Now()
				ok(b, op.driver(i))
				ours = append(ours, time.Since(start))
			}
			programs := func(i int) {
				start := time.Now()
				op.bare(i)
				theirs = append(theirs, time.Since(start))
			}
			for i := range turns {
				if i++; i%2 == 0 { // Who comes second finds more in memory.
					programs(i)
					driver(i)
				} else {
					driver(i)
					programs(i)
				}
			}
			a, p := median(ours), median(theirs)
			b.ReportMetric(float64(a.Microseconds())/1000, "driver-ms")
			b.ReportMetric(float64(p.Microseconds())/1000, "programs-ms")
			b.ReportMetric(float64(a)/float64(p), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
	clean(b, cfg.Source)
}
