package zfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/storagetest"
	"github.com/cuib/cuib/storage/zfs"
)

var (
	c1   = storage.Volume{Kind: storage.Instance, Name: "c1"}
	c2   = storage.Volume{Kind: storage.Instance, Name: "c2"}
	c3   = storage.Volume{Kind: storage.Instance, Name: "c3"}
	c4   = storage.Volume{Kind: storage.Instance, Name: "c4"}
	img  = storage.Volume{Kind: storage.Image, Name: "0123456789abcdef"}
	snap = snapshot("s0")
	ids  = idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1700000, Size: 65536}}
)

func snapshot(name string) storage.Volume {
	return storage.Volume{Kind: c1.Kind, Name: c1.Name, Snapshot: name}
}

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// needZFS skips the test unless those of ZFS are asked for: few kernels have
// it.
func needZFS(tb testing.TB) {
	tb.Helper()
	if os.Getenv("CUIB_TEST_ZFS") == "" {
		tb.Skip("set CUIB_TEST_ZFS=1 to run tests of ZFS, which the kernel must have")
	}
	testenv.Kernel(tb, "zfs", "zpool")
}

// zpool is the one of all tests; programs take long where these tests run.
const zpool = "cuibtest"

// newZpool makes the zpool, which goes away with the test.
func newZpool(tb testing.TB) {
	tb.Helper()
	needZFS(tb)
	img := filepath.Join(tb.TempDir(), "zpool")
	testenv.Run(tb, "truncate", "-s", "1G", img)
	// Blocks of zeros are to take room, and what is synced need not outlive
	// the machine.
	testenv.Run(tb, "zpool", "create", "-m", "none", "-O", "compression=off", "-O", "sync=disabled", zpool, img)
	tb.Cleanup(func() {
		mounts.Settle()
		testenv.Run(tb, "zpool", "destroy", zpool)
	})
}

// newPool makes a pool in a dataset of the zpool.
func newPool(tb testing.TB, name string) storage.Config {
	tb.Helper()
	cfg := storage.Config{Name: name, Dir: tb.TempDir(), Source: zpool + "/" + name}
	cfg, err := zfs.Type().Make(tb.Context(), cfg)
	ok(tb, err)
	return cfg
}

func openPool(tb testing.TB, cfg storage.Config) storage.Driver {
	tb.Helper()
	d, err := zfs.Type().Open(tb.Context(), cfg)
	ok(tb, err)
	return d
}

// volumes returns the datasets and snapshots that a pool has beyond those that
// an empty one has.
func volumes(tb testing.TB, root string) (names []string) {
	tb.Helper()
	for name := range strings.SplitSeq(testenv.Run(tb, "zfs", "list", "-H", "-r", "-t", "all", "-o", "name", root), "\n") {
		rel, below := strings.CutPrefix(name, root+"/")
		parts := strings.Split(rel, "/")
		if !below || len(parts) == 1 || parts[0] == "deleted" && len(parts) == 2 {
			continue
		}
		names = append(names, name)
	}
	return names
}

// clean destroys what is in a pool.
func clean(tb testing.TB, root string) {
	tb.Helper()
	mounts.Settle()
	for range 10 { // What removes them in the background may be at it.
		left := volumes(tb, root)
		if len(left) == 0 {
			return
		}
		for i, name := range left {
			parent, _, _ := strings.Cut(name, "@")
			if of, _, below := strings.Cut(name, "/.history-"); below && parent == name {
				testenv.Run(tb, "sh", "-c", "zfs promote "+of+" || true") // What is a clone of what is below it ZFS does not destroy.
			}
			if parent != name && strings.HasPrefix(name, root+"/delegated/") {
				testenv.Run(tb, "sh", "-c", "zfs release keep "+name+" || true")
			}
			if i == 0 || !strings.HasPrefix(parent, left[i-1]) {
				testenv.Run(tb, "sh", "-c", "zfs destroy -R "+parent+" || true")
			}
		}
	}
	tb.Errorf("left behind: %q", volumes(tb, root))
}

// pool returns what the suites test.
func pool(t *testing.T, cfg storage.Config) storagetest.Pool {
	t.Helper()
	t.Cleanup(func() { clean(t, cfg.Source) })
	return storagetest.Pool{
		Driver: openPool(t, cfg), Dir: cfg.Dir, Limits: true,
		Reopen: func(t *testing.T) storage.Driver { t.Helper(); return openPool(t, cfg) },
		Tunes: map[string]string{
			"zfs.blocksize": "16KiB", "zfs.compression": "zstd-3", "zfs.use_refquota": "true", "zfs.reserve_space": "false",
			"zfs.delegate": "false", "zfs.remove_snapshots": "true",
		},
	}
}

func TestDriver(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	storagetest.Run(t, func(t *testing.T) storagetest.Pool { t.Helper(); return pool(t, cfg) })
	t.Run("changes", func(t *testing.T) {
		storagetest.RunDiffer(t, func(t *testing.T) storagetest.Pool { t.Helper(); return pool(t, cfg) })
	})
}

func TestStreams(t *testing.T) {
	newZpool(t)
	cfgs := []storage.Config{newPool(t, "one"), newPool(t, "two")}
	i := 0
	storagetest.RunStreamer(t, func(t *testing.T) storagetest.Pool {
		t.Helper()
		i++
		return pool(t, cfgs[i%2])
	})
}

func TestKill(t *testing.T) {
	needZFS(t)
	storagetest.Kill(t, zfs.Type(), func(t *testing.T) storage.Config {
		t.Helper()
		newZpool(t)
		cfg := newPool(t, "cuib")
		t.Cleanup(func() { clean(t, cfg.Source) })
		return cfg
	})
}

func TestKillStreams(t *testing.T) {
	needZFS(t)
	n := 0
	storagetest.KillStreams(t, zfs.Type(), func(t *testing.T) storage.Config {
		t.Helper()
		if n++; n == 1 {
			newZpool(t)
		}
		cfg := newPool(t, fmt.Sprint("cuib", n))
		t.Cleanup(func() { clean(t, cfg.Source) })
		return cfg
	})
}

func write(t *testing.T, d storage.Driver, v storage.Volume, text string) {
	t.Helper()
	dir, err := d.Mount(t.Context(), v, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o600))
	ok(t, d.Unmount(t.Context(), v))
}

func wantFile(t *testing.T, d storage.Driver, v storage.Volume, want string) {
	t.Helper()
	dir, err := d.Mount(t.Context(), v, nil)
	ok(t, err)
	text, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil || string(text) != want {
		t.Errorf("%s holds %q, %v, want %q", v, text, err, want)
	}
	ok(t, d.Unmount(t.Context(), v))
}
