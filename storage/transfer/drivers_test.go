package transfer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/dir"
	"github.com/cuib/cuib/storage/overlay"
	"github.com/cuib/cuib/storage/storagetest"
	"github.com/cuib/cuib/storage/transfer"
)

// pools makes new pools of all drivers.
func pools(t testing.TB) map[string]func(t testing.TB) storagetest.Pool {
	t.Helper()
	testenv.InMemory(t)
	mnt := testenv.Mounted(t, "btrfs", "1G")
	t.Cleanup(mounts.Settle)
	all := map[string]func(t testing.TB) storagetest.Pool{}
	for name, typ := range map[string]storage.Type{"dir": dir.Type(), "overlay": overlay.Type(), "btrfs": btrfs.Type()} {
		all[name] = func(t testing.TB) storagetest.Pool {
			t.Helper()
			cfg := storage.Config{Name: name, Dir: t.TempDir()}
			if name == "btrfs" {
				cfg.Source = filepath.Join(mnt, filepath.Base(cfg.Dir), filepath.Base(t.Name()))
				ok(t, os.MkdirAll(filepath.Dir(cfg.Source), 0o700))
			}
			cfg, err := typ.Make(t.Context(), cfg)
			ok(t, err)
			t.Cleanup(mounts.Settle)
			d, err := typ.Open(t.Context(), cfg)
			ok(t, err)
			return storagetest.Pool{Driver: d}
		}
	}
	return all
}

var copied = []string{"s0", "s1", "s2"}

func wantSame(t *testing.T, got, want storage.Driver, v storage.Volume, names ...string) {
	t.Helper()
	for _, name := range append(names, "") {
		storagetest.WantSame(t, storagetest.State{Driver: got, Volume: snap(v, name)}, storagetest.State{Driver: want, Volume: snap(c1, name)})
	}
	vols, err := got.List(t.Context())
	ok(t, err)
	count := 0
	for _, s := range vols {
		if s.Parent() == v {
			count++
		}
		if s.Name != v.Name && s.Name != c1.Name && s.Kind == v.Kind {
			t.Errorf("%s is left over", s)
		}
	}
	if count != len(names)+1 {
		t.Errorf("there are %v", vols)
	}
}

func TestCopyBetweenDrivers(t *testing.T) {
	all := pools(t)
	for from, makeFrom := range all {
		for to, makeTo := range all {
			t.Run(from+" to "+to, func(t *testing.T) {
				a, b := makeFrom(t), makeTo(t)
				storagetest.FillSource(t, a)
				src := transfer.Source{Driver: a.Driver, Volume: c1, Snapshots: copied}
				dst := transfer.Target{Driver: b.Driver, Volume: c2}
				ok(t, transfer.Copy(t.Context(), dst, src, transfer.Options{}))
				wantSame(t, b.Driver, a.Driver, c2, copied...)

				storagetest.ChangeSource(t, a.Driver)
				write(t, b.Driver, c2, map[string]string{"own": "x", "mode": "y"})
				src.Snapshots = append(slices.Clone(copied), "s3")
				ok(t, transfer.Refresh(t.Context(), dst, src, transfer.Options{}))
				wantSame(t, b.Driver, a.Driver, c2, src.Snapshots...)

				// A snapshot of its own, and a base that is gone.
				ok(t, b.Driver.Delete(t.Context(), snap(c2, "s3")))
				ok(t, b.Driver.Delete(t.Context(), snap(c2, "s2")))
				write(t, b.Driver, c2, map[string]string{"own": "x"})
				ok(t, transfer.Refresh(t.Context(), dst, src, transfer.Options{Checksum: true}))
				wantSame(t, b.Driver, a.Driver, c2, src.Snapshots...)

				// What is only like the source by name.
				c3 := storage.Volume{Kind: storage.Instance, Name: "c3"}
				ok(t, b.Driver.Create(t.Context(), c3))
				ok(t, b.Driver.Snapshot(t.Context(), snap(c3, "s0")))
				ok(t, transfer.Refresh(t.Context(), transfer.Target{Driver: b.Driver, Volume: c3}, src, transfer.Options{}))
				storagetest.WantSame(t, storagetest.State{Driver: b.Driver, Volume: c3}, storagetest.State{Driver: a.Driver, Volume: c1})
				storagetest.WantSame(t, storagetest.State{Driver: b.Driver, Volume: snap(c3, "s2")}, storagetest.State{Driver: a.Driver, Volume: snap(c1, "s2")})
			})
		}
	}
}

func TestCopyWithinDriver(t *testing.T) {
	for name, open := range pools(t) {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			storagetest.FillSource(t, p)
			src := transfer.Source{Driver: p.Driver, Volume: c1, Snapshots: copied}
			ok(t, transfer.Copy(t.Context(), transfer.Target{Driver: p.Driver, Volume: c2}, src, transfer.Options{}))
			wantSame(t, p.Driver, p.Driver, c2, copied...)
			storagetest.ChangeSource(t, p.Driver)
			src.Snapshots = append(slices.Clone(copied), "s3")
			ok(t, transfer.Refresh(t.Context(), transfer.Target{Driver: p.Driver, Volume: c2}, src, transfer.Options{}))
			wantSame(t, p.Driver, p.Driver, c2, src.Snapshots...)
		})
	}
}

// TestCopyOfMounted copies a volume that a guest has mounted with its ids.
func TestCopyOfMounted(t *testing.T) {
	ids := idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1500000, Size: 65536}}
	all := pools(t)
	for from, makeFrom := range all {
		for to, makeTo := range all {
			t.Run(from+" to "+to, func(t *testing.T) {
				a, b := makeFrom(t), makeTo(t)
				storagetest.FillSource(t, a)
				_, err := a.Driver.Mount(t.Context(), c1, ids)
				ok(t, err)
				stills := 0
				src := transfer.Source{
					Driver: a.Driver, Volume: c1, Snapshots: copied,
					Still: func(_ context.Context, fn func() error) error { stills++; return fn() },
				}
				dst := transfer.Target{Driver: b.Driver, Volume: c2}
				ok(t, transfer.Copy(t.Context(), dst, src, transfer.Options{}))
				ok(t, transfer.Refresh(t.Context(), dst, src, transfer.Options{}))
				ok(t, a.Driver.Unmount(t.Context(), c1))
				wantSame(t, b.Driver, a.Driver, c2, copied...)
				if stills != 2 {
					t.Errorf("it was still %d times", stills)
				}
			})
		}
	}
}

// BenchmarkDrivers copies a volume that holds some of /usr/share to a pool of the same
// driver, and compares states of it between which ten files changed.
func BenchmarkDrivers(b *testing.B) {
	for name, open := range pools(b) {
		b.Run(name, func(b *testing.B) {
			from, to := open(b).Driver, open(b).Driver
			ok(b, from.Create(b.Context(), c1))
			in(b, from, c1, func(dir string) { testenv.Run(b, "cp", "-a", "/usr/share/doc", "/usr/share/perl", dir) })
			ok(b, from.Snapshot(b.Context(), snap(c1, "s1")))
			files := map[string]string{}
			for i := range 10 {
				files[fmt.Sprint("doc/new", i)] = "x"
			}
			write(b, from, c1, files)
			var diff, copying time.Duration
			for b.Loop() {
				start := time.Now()
				ok(b, transfer.Diff(b.Context(), from, snap(c1, "s1"), c1, func(storage.Change) error { return nil }))
				diff += time.Since(start)
				start = time.Now()
				src := transfer.Source{Driver: from, Volume: c1, Snapshots: []string{"s1"}}
				ok(b, transfer.Copy(b.Context(), transfer.Target{Driver: to, Volume: c2}, src, transfer.Options{}))
				copying += time.Since(start)
				ok(b, to.Delete(b.Context(), snap(c2, "s1")))
				ok(b, to.Delete(b.Context(), c2))
			}
			b.ReportMetric(float64(diff.Microseconds())/float64(b.N)/1000, "ms/diff")
			b.ReportMetric(float64(copying.Microseconds())/float64(b.N)/1000, "ms/copy")
		})
	}
}
