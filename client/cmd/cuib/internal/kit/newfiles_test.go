package kit_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
)

// TestNewFiles has what was there before stay until all is whole, and nothing
// else be left.
func TestNewFiles(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		dir := t.TempDir()
		old := filepath.Join(dir, "a.tar")
		if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		var files kit.NewFiles
		for _, name := range []string{old, filepath.Join(dir, "b.tar")} {
			f, err := files.Create(name, 0o640)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("new"); err != nil {
				t.Fatal(err)
			}
			if !whole && name != old {
				break // It is cut short.
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		want, left := "old", 1
		if whole {
			want, left = "new", 2
			if err := files.Rename(); err != nil {
				t.Fatal(err)
			}
		}
		files.Drop()
		if got, err := os.ReadFile(old); string(got) != want {
			t.Errorf("whole %v: got %q, %v", whole, got, err)
		}
		if all, err := os.ReadDir(dir); len(all) != left {
			t.Errorf("whole %v: left are %v, %v", whole, all, err)
		}
	}
}

// TestNewFilesTaken has one of two names be taken by a directory: neither a
// file of that name nor another is left over.
func TestNewFilesTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "taken", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	var files kit.NewFiles
	f, err := files.Create(filepath.Join(dir, "taken"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := files.Rename(); err == nil {
		t.Error("a file replaces a directory")
	}
	files.Drop()
	if all, err := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("left are %v, %v", all, err)
	}
	if _, err := files.Create(filepath.Join(dir, "nosuch", "a"), 0o600); err == nil {
		t.Error("a file is made in no directory")
	}
}
