package repository_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
)

// content returns what a file is in a backup.
func (w *world) content(id, path string) string {
	w.t.Helper()
	f, _, err := w.Open(w.t.Context(), "r", id, path)
	must(w.t, err)
	defer f.Data.Close()
	data, err := io.ReadAll(f.Data)
	must(w.t, err)
	return string(data)
}

// alike writes a file of the same size and time as before.
func alike(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	old := time.Unix(1700000000, 123456789)
	must(t, os.Chtimes(path+".new", old, old))
	must(t, os.Rename(path+".new", path))
}

// TestReread has files that look as before be read when that can be known to
// mean nothing: of pools whose snapshots are copies, all their inodes and
// times of change are others each time.
func TestReread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo()
	file := filepath.Join(w.instance("c1"), "rootfs", "f")
	check := func(what, want string, req api.RepositoryBackupsPost) string {
		t.Helper()
		req.Sources = []string{"instances/c1"}
		must(t, w.run(w.CreateBackups(t.Context(), "r", req)))
		all, err := w.Backups(t.Context(), "r", "instances/c1")
		must(t, err)
		id := all[len(all)-1].ID
		if got := w.content(id, "f"); got != want {
			t.Errorf("%s: the backup has %q, want %q", what, got, want)
		}
		return id
	}
	alike(t, file, "first")
	first := check("the first", "first", api.RepositoryBackupsPost{})
	alike(t, file, "other")
	check("soon after", "first", api.RepositoryBackupsPost{})
	asked := check("on request", "other", api.RepositoryBackupsPost{Checksum: true})
	alike(t, file, "third")
	check("soon after that", "other", api.RepositoryBackupsPost{})
	for _, id := range []string{first, asked} {
		must(t, w.run(w.DeleteBackup(t.Context(), "r", id)))
	}
	check("long after all was read", "third", api.RepositoryBackupsPost{})

	w.do(func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetPool(ctx, tx, "p")
		if err != nil {
			return err
		}
		if err := db.DeleteInstance(ctx, tx, "c1"); err != nil {
			return err
		}
		b := &db.Pool{Name: "b", Driver: "btrfs", Status: p.Status}
		if err := db.AddPool(ctx, tx, b); err != nil {
			return err
		}
		return db.AddInstance(ctx, tx, &db.Instance{Name: "c1", PoolID: b.ID, Status: db.Ready})
	})
	alike(t, file, "of b.")
	check("a snapshot that is no copy", "of b.", api.RepositoryBackupsPost{})
}
