package overlay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/overlay"
	"github.com/cuib/cuib/storage/storagetest"
)

func TestDiffer(t *testing.T) {
	testenv.Kernel(t)
	storagetest.RunDiffer(t, func(t *testing.T) storagetest.Pool { return newPool(t, storage.Config{}) })
}

func TestDifferOn(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			mnt := testenv.Mounted(t, fs, "512M")
			t.Cleanup(mounts.Settle) // Before it is unmounted.
			storagetest.RunDiffer(t, func(t *testing.T) storagetest.Pool {
				return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
			})
		})
	}
}

func TestStreamer(t *testing.T) {
	testenv.InMemory(t)
	mnt := testenv.Mounted(t, "xfs", "1G")
	t.Cleanup(mounts.Settle) // Before it is unmounted.
	n := 0
	storagetest.RunStreamer(t, func(t *testing.T) storagetest.Pool {
		cfg := storage.Config{}
		if n++; n%2 == 1 {
			cfg.Source = filepath.Join(mnt, filepath.Base(t.Name()))
		}
		return newPool(t, cfg)
	})
}

func TestMany(t *testing.T) {
	testenv.InMemory(t)
	t.Cleanup(mounts.Settle)
	storagetest.RunMany(t, func(t *testing.T) storagetest.Pool { return newPool(t, storage.Config{}) }, 250)
}

// TestSquashLinks has files with several names in a layer that is made one of
// with others.
func TestSquashLinks(t *testing.T) {
	testenv.Kernel(t)
	d := newPool(t, storage.Config{}).Driver
	v := vol("v")
	ok(t, d.Create(t.Context(), v))
	for i := range 80 {
		dir, err := d.Mount(t.Context(), v, nil)
		ok(t, err)
		name := filepath.Join(dir, fmt.Sprint("f", i))
		ok(t, os.WriteFile(name, []byte("x"), 0o600))
		ok(t, os.Link(name, name+"-too"))
		ok(t, d.Unmount(t.Context(), v))
		ok(t, d.Snapshot(t.Context(), storage.Volume{Kind: v.Kind, Name: v.Name, Snapshot: fmt.Sprint(i)}))
	}
	dir, err := d.Mount(t.Context(), v, nil)
	ok(t, err)
	for i := range 80 {
		name := filepath.Join(dir, fmt.Sprint("f", i))
		if inode(t, name) != inode(t, name+"-too") {
			t.Errorf("%s and its other name are two files", name)
		}
	}
	ok(t, d.Unmount(t.Context(), v))
}

func BenchmarkMany(b *testing.B) {
	testenv.Kernel(b)
	storagetest.BenchMany(b, newPool(b, storage.Config{}).Driver)
}

func TestKilledStreams(t *testing.T) {
	testenv.Kernel(t)
	storagetest.KillStreams(t, overlay.Type(), func(t *testing.T) storage.Config {
		t.Helper()
		cfg, err := overlay.Type().Make(t.Context(), storage.Config{Name: "p", Dir: t.TempDir()})
		ok(t, err)
		return cfg
	})
}
