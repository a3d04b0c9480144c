package zfs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/zfs"
)

// instead has a script run in the place of a program. In it, real is the
// program.
func instead(t *testing.T, program, script string) {
	t.Helper()
	dir := t.TempDir()
	original := testenv.Run(t, "which", program)
	text := "#!/bin/sh\nreal=" + original + "\n" + script + "\n"
	ok(t, os.WriteFile(filepath.Join(dir, program), []byte(text), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// poolOnFile makes a pool with a zpool of its own.
func poolOnFile(t *testing.T) storage.Config {
	t.Helper()
	needZFS(t)
	cfg, err := zfs.Type().Make(t.Context(), storage.Config{
		Name: "cuibbusy", Dir: filepath.Join(t.TempDir(), "p"), Options: map[string]string{"size": "200MiB"},
	})
	ok(t, err)
	t.Cleanup(func() { testenv.Run(t, "sh", "-c", "! zpool list cuibbusy 2>/dev/null || zpool destroy cuibbusy") })
	return cfg
}

// TestRemoveBusy removes a pool while a guest that ends still has a mount of
// what was deleted: the zpool is busy when it is first to be destroyed.
func TestRemoveBusy(t *testing.T) {
	cfg := poolOnFile(t)
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	release := mountElsewhere(t, "cuibbusy/containers/c1")
	ok(t, d.Delete(t.Context(), c1))
	// The guest ends after that.
	seen := filepath.Join(t.TempDir(), "seen")
	ok(t, os.Mkdir(seen, 0o700))
	instead(t, "zpool", `"$real" "$@"; rc=$?; [ "$1" != destroy ] || { echo "$rc" >>`+seen+`/rc; while [ ! -e `+seen+`/released ]; do sleep 0.01; done; }; exit $rc`)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		testenv.Eventually(t, "zpool destroy", func() bool {
			_, err := os.Stat(filepath.Join(seen, "rc"))
			return err == nil
		})
		release()
		_ = os.WriteFile(filepath.Join(seen, "released"), nil, 0o600) // Else all waits.
	}()
	ok(t, zfs.Type().Remove(t.Context(), cfg))
	<-gone
	if rcs, err := os.ReadFile(filepath.Join(seen, "rc")); err != nil || !strings.HasPrefix(string(rcs), "1\n") {
		t.Errorf("zpool destroy ended with %q, %v: it was never busy", rcs, err)
	}
}

// TestRemoveWaits removes a pool while its driver empties the trash.
func TestRemoveWaits(t *testing.T) {
	cfg := poolOnFile(t)
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Clone(t.Context(), c2, c1))
	ok(t, d.Clone(t.Context(), c3, c1))
	ok(t, d.Delete(t.Context(), c1)) // It waits for both.
	ok(t, d.Delete(t.Context(), c2))
	log := filepath.Join(t.TempDir(), "log")
	instead(t, "zfs", `case "$*" in *createtxg*/deleted) sleep 3; "$real" "$@"; rc=$?; echo emptied >>`+log+`; exit $rc;; esac; exec "$real" "$@"`)
	instead(t, "zpool", `echo "$1" >>`+log+`; exec "$real" "$@"`)
	ok(t, d.Delete(t.Context(), c3))
	ok(t, zfs.Type().Remove(t.Context(), cfg))
	done, err := os.ReadFile(log)
	if err != nil || !strings.HasPrefix(string(done), "emptied\n") || !strings.HasSuffix(string(done), "destroy\nlabelclear\n") {
		t.Errorf("what was done is %q, %v", done, err)
	}
}

// TestDeleteVanishing deletes a volume one of whose snapshots goes in the moment
// before ZFS destroys it.
func TestDeleteVanishing(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), c1))
	testenv.Run(t, "zfs", "snapshot", cfg.Source+"/containers/c1@copy-1")
	t.Run("delete", func(t *testing.T) {
		once := filepath.Join(t.TempDir(), "once")
		instead(t, "zfs", `[ "$1 $2" != "destroy -r" ] || [ -e `+once+` ] || { >`+once+`; echo "could not find any snapshots to destroy; check snapshot names." >&2; exit 1; }; exec "$real" "$@"`)
		ok(t, d.Delete(t.Context(), c1))
	})
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Delete(t.Context(), c1))
	sweep(t, d)
	wantNothing(t, cfg)
}

// TestRestoreBusy restores a volume that ZFS does not roll back, as it is still
// in use.
func TestRestoreBusy(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	t.Run("for good", func(t *testing.T) {
		instead(t, "zfs", `[ "$1" != rollback ] || { echo "cannot rollback: dataset is busy" >&2; exit 1; }; exec "$real" "$@"`)
		ok(t, d.Restore(t.Context(), snap))
	})
	wantFile(t, d, c1, "one")
	write(t, d, c1, "three")
	t.Run("for a moment", func(t *testing.T) {
		once := filepath.Join(t.TempDir(), "once")
		instead(t, "zfs", `[ "$1" != rollback ] || [ -e `+once+` ] || { >`+once+`; echo "cannot rollback: dataset is busy" >&2; exit 1; }; exec "$real" "$@"`)
		ok(t, d.Restore(t.Context(), snap))
	})
	wantFile(t, d, c1, "one")
	ok(t, d.Delete(t.Context(), snap))
	ok(t, d.Delete(t.Context(), c1))
	wantNothing(t, cfg)
}
