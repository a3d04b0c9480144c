package overlay_test

import (
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/overlay"
	"github.com/cuib/cuib/storage/storagetest"
)

func TestDriver(t *testing.T) {
	testenv.Kernel(t)
	storagetest.Run(t, func(t *testing.T) storagetest.Pool { return newPool(t, storage.Config{}) })
}

// newPool makes a pool that goes away with the test.
func newPool(t *testing.T, cfg storage.Config) storagetest.Pool {
	t.Helper()
	cfg.Name, cfg.Dir = "p", t.TempDir()
	cfg, err := overlay.Type().Make(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mounts.Settle)
	reopen := func(t *testing.T) storage.Driver {
		t.Helper()
		d, err := overlay.Type().Open(t.Context(), cfg)
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
