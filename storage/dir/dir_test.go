package dir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/dir"
	"github.com/cuib/cuib/storage/storagetest"
)

func TestDriver(t *testing.T) {
	testenv.Kernel(t)
	storagetest.Run(t, func(t *testing.T) storagetest.Pool { return newPool(t, storage.Config{}) })
}

func TestDriverOn(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} { // They share blocks.
		t.Run(fs, func(t *testing.T) {
			mnt := testenv.Mounted(t, fs, "512M")
			t.Cleanup(mounts.Settle) // Before it is unmounted.
			storagetest.Run(t, func(t *testing.T) storagetest.Pool {
				return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
			})
		})
	}
}

func TestDriverWithQuotas(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			mnt := testenv.MountedWithQuotas(t, fs, "512M")
			t.Cleanup(mounts.Settle) // Before it is unmounted.
			storagetest.Run(t, func(t *testing.T) storagetest.Pool {
				p := newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
				p.Limits = true
				return p
			})
		})
	}
}

func TestKilled(t *testing.T) {
	testenv.Kernel(t)
	storagetest.Kill(t, dir.Type(), func(t *testing.T) storage.Config {
		t.Helper()
		cfg, err := dir.Type().Make(t.Context(), storage.Config{Name: "p", Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	})
}

func TestAdopt(t *testing.T) {
	testenv.Kernel(t)
	for name, source := range map[string]string{"with a source": filepath.Join(t.TempDir(), "source"), "without": ""} {
		t.Run(name, func(t *testing.T) {
			newPool := func(t *testing.T) storage.Config {
				t.Helper()
				return storage.Config{Name: "p", Dir: filepath.Join(t.TempDir(), "p"), Source: source}
			}
			storagetest.Adopt(t, dir.Type(), newPool, func(*testing.T, storage.Config) {})
		})
	}
}

// newPool makes a pool that goes away with the test.
func newPool(t *testing.T, cfg storage.Config) storagetest.Pool {
	t.Helper()
	cfg.Name, cfg.Dir = "p", t.TempDir()
	cfg, err := dir.Type().Make(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	reopen := func(t *testing.T) storage.Driver {
		t.Helper()
		d, err := dir.Type().Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	root := cfg.Source
	if root == "" {
		root = filepath.Join(cfg.Dir, "data")
	}
	return storagetest.Pool{Driver: reopen(t), Dir: root, Reopen: reopen}
}

// TestSweptLimits has a volume with a limit be half removed, as a crash leaves
// it: there is no limit without a volume after that.
func TestSweptLimits(t *testing.T) {
	mnt := testenv.MountedWithQuotas(t, "ext4", "512M")
	p := newPool(t, storage.Config{Source: filepath.Join(mnt, "p")})
	v := storage.Volume{Kind: storage.Custom, Name: "v"}
	ok(t, p.Driver.Create(t.Context(), v))
	limits, _ := p.Driver.(storage.Limiter)
	ok(t, limits.Limit(t.Context(), v, 1<<20))
	if out := testenv.Run(t, "repquota", "-P", "-n", "-v", mnt); !strings.Contains(out, " 1024 ") {
		t.Fatalf("there is no limit: %s", out)
	}
	ok(t, os.Rename(filepath.Join(p.Dir, "volumes/custom/v"), filepath.Join(p.Dir, "trash/v")))
	sweeper, _ := p.Reopen(t).(storage.Sweeper)
	ok(t, sweeper.Sweep(t.Context()))
	if out := testenv.Run(t, "repquota", "-P", "-n", "-v", mnt); strings.Contains(out, " 1024 ") {
		t.Errorf("there is still a limit: %s", out)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
