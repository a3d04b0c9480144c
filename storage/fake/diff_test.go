package fake_test

import (
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
	"github.com/cuib/cuib/storage/storagetest"
)

func newPool(t *testing.T) storagetest.Pool {
	t.Helper()
	root := filepath.Join(t.TempDir(), "pool")
	open := func(t *testing.T) storage.Driver {
		t.Helper()
		d, err := fake.New(root)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	return storagetest.Pool{Driver: open(t), Dir: root, Reopen: open, Plain: true}
}

func TestDiffer(t *testing.T) { storagetest.RunDiffer(t, newPool) }
