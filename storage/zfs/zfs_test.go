package zfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/errs"
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

// newPool makes a pool that goes away with the test.
func newPool(tb testing.TB, options map[string]string) (storage.Config, storage.Driver) {
	tb.Helper()
	cfg := storage.Config{Name: "p", Dir: tb.TempDir(), Source: zpool + "/cuib", Options: options}
	cfg, err := zfs.Type().Make(tb.Context(), cfg)
	ok(tb, err)
	tb.Cleanup(func() { empty(tb, zpool) })
	return cfg, openPool(tb, cfg)
}

func openPool(tb testing.TB, cfg storage.Config) storage.Driver {
	tb.Helper()
	d, err := zfs.Type().Open(tb.Context(), cfg)
	ok(tb, err)
	return d
}

// empty destroys all datasets below another.
func empty(tb testing.TB, dataset string) {
	tb.Helper()
	mounts.Settle()
	for range 5 { // What removes them in the background may be at it.
		if len(datasets(tb, dataset)) == 0 {
			return
		}
		testenv.Run(tb, "sh", "-c", "zfs list -H -d 1 -o name "+dataset+" | tail -n +2 | xargs -r -n 1 zfs destroy -R || true")
	}
	tb.Errorf("left behind: %q", datasets(tb, dataset))
}

// clean destroys what is in the pool.
func clean(tb testing.TB) {
	tb.Helper()
	mounts.Settle()
	for range 10 {
		left := volumes(tb)
		if len(left) == 0 {
			return
		}
		for i, name := range left {
			if parent, _, _ := strings.Cut(name, "@"); i == 0 || !strings.HasPrefix(parent, left[i-1]) {
				testenv.Run(tb, "sh", "-c", "zfs destroy -R "+zpool+"/cuib/"+parent+" || true")
			}
		}
	}
	tb.Errorf("left behind: %q", volumes(tb))
}

// datasets returns what is below a dataset, and its snapshots.
func datasets(tb testing.TB, dataset string) (names []string) {
	tb.Helper()
	for name := range strings.SplitSeq(testenv.Run(tb, "zfs", "list", "-H", "-r", "-t", "all", "-o", "name", dataset), "\n") {
		if name != dataset {
			names = append(names, name)
		}
	}
	return names
}

// volumes returns what a pool has beyond what an empty one has.
func volumes(tb testing.TB) (names []string) {
	tb.Helper()
	for _, name := range datasets(tb, zpool+"/cuib") {
		rel := strings.TrimPrefix(name, zpool+"/cuib/")
		parts := strings.Split(rel, "/")
		if len(parts) == 1 || parts[0] == "deleted" && len(parts) == 2 {
			continue
		}
		names = append(names, rel)
	}
	return names
}

func TestDriver(t *testing.T) {
	newZpool(t)
	cfg, _ := newPool(t, nil)
	storagetest.Run(t, func(t *testing.T) storagetest.Pool {
		t.Helper()
		t.Cleanup(func() { clean(t) })
		return storagetest.Pool{
			Driver: openPool(t, cfg), Dir: cfg.Dir, Limits: true,
			Reopen: func(t *testing.T) storage.Driver { t.Helper(); return openPool(t, cfg) },
			Tunes: map[string]string{
				"zfs.blocksize": "16KiB", "zfs.compression": "zstd-3", "zfs.use_refquota": "true", "zfs.reserve_space": "false", "zfs.delegate": "false",
				"zfs.remove_snapshots": "true",
			},
		}
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

// eventually fails the test unless fn becomes true.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !fn(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

var (
	_ = errors.Join
	_ = fmt.Sprint
	_ = errs.Is
)
