package btrfs_test

import (
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/storagetest"
)

func TestStreamer(t *testing.T) {
	testenv.InMemory(t)
	a, b := testenv.Mounted(t, "btrfs", "1G"), testenv.Mounted(t, "btrfs", "1G")
	n := 0
	storagetest.RunStreamer(t, func(t *testing.T) storagetest.Pool {
		n++
		return newPool(t, storage.Config{Source: filepath.Join([]string{a, b}[n%2], filepath.Base(t.Name()))})
	})
}

func TestDiffer(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "1G")
	storagetest.RunDiffer(t, func(t *testing.T) storagetest.Pool {
		return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
	})
}

func TestMany(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "1G")
	storagetest.RunMany(t, func(t *testing.T) storagetest.Pool {
		return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
	}, 100)
}

func BenchmarkMany(b *testing.B) {
	mnt := testenv.Mounted(b, "btrfs", "1G")
	storagetest.BenchMany(b, newPool(b, storage.Config{Source: filepath.Join(mnt, "pool")}).Driver)
}

func TestKilledStreams(t *testing.T) {
	testenv.Kernel(t)
	storagetest.KillStreams(t, btrfs.Type(), func(t *testing.T) storage.Config {
		t.Helper()
		return makePool(t, onFile(t, map[string]string{"size": "300MiB"}))
	})
}
