package dir_test

import (
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/dir"
	"github.com/cuib/cuib/storage/storagetest"
)

func TestDiffer(t *testing.T) {
	testenv.Kernel(t)
	storagetest.RunDiffer(t, func(t *testing.T) storagetest.Pool { return newPool(t, storage.Config{}) })
}

func TestDifferOn(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} { // They share blocks.
		t.Run(fs, func(t *testing.T) {
			mnt := testenv.Mounted(t, fs, "512M")
			t.Cleanup(mounts.Settle) // Before it is unmounted.
			storagetest.RunDiffer(t, func(t *testing.T) storagetest.Pool {
				return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
			})
		})
	}
}

func TestMany(t *testing.T) {
	testenv.InMemory(t)
	t.Cleanup(mounts.Settle)
	storagetest.RunMany(t, func(t *testing.T) storagetest.Pool { return newPool(t, storage.Config{}) }, 50)
}

func BenchmarkMany(b *testing.B) {
	testenv.Kernel(b)
	cfg, err := dir.Type().Make(b.Context(), storage.Config{Name: "p", Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	d, err := dir.Type().Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(mounts.Settle)
	storagetest.BenchMany(b, d)
}
