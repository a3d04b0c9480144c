package db_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// TestFullDisk fills the disk that the database is on: changes fail with a
// clear error, deletions go on, and all is well when there is room again.
func TestFullDisk(t *testing.T) {
	testenv.Kernel(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	d, err := db.OpenFile(t.Context(), filepath.Join(dir, "database", "cuib.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	add := func(ctx context.Context, i int) error {
		return d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			p := &db.Profile{Name: fmt.Sprint("p", i), Description: strings.Repeat("x", 100000)}
			return db.AddProfile(ctx, tx, p)
		})
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()

	made := 0
	for err = nil; err == nil && made < 1000; made++ {
		err = add(t.Context(), made)
	}
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "is full") || !strings.Contains(err.Error(), "free of") {
		t.Fatalf("a change on a full disk: %v", err)
	}
	err = d.Do(db.Freeing(t.Context()), func(ctx context.Context, tx *db.Tx) error { return db.DeleteProfile(ctx, tx, "default") })
	if err != nil {
		t.Errorf("a deletion on a full disk: %v", err)
	}
	if err := d.Restock(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := add(t.Context(), made); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := d.Restock(); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(dir, "database", "reserve")); err != nil || st.Size() != 8<<20 {
		t.Errorf("no room is kept again: %v", err)
	}
}
