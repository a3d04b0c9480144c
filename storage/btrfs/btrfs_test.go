package btrfs_test

import (
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/storagetest"
)

func TestDriver(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "1G")
	storagetest.Run(t, func(t *testing.T) storagetest.Pool {
		return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
	})
}

// newPool makes a pool that goes away with the test.
func newPool(t *testing.T, cfg storage.Config) storagetest.Pool {
	t.Helper()
	cfg.Name, cfg.Dir = "p", t.TempDir()
	cfg, err := btrfs.Type().Make(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	reopen := func(t *testing.T) storage.Driver {
		t.Helper()
		d, err := btrfs.Type().Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	dir := cfg.Source
	if dir == "" {
		dir = filepath.Join(cfg.Dir, "data")
	}
	return storagetest.Pool{Driver: reopen(t), Dir: dir, Reopen: reopen}
}
