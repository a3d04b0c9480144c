package overlay_test

import (
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
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
