package fake_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
	"github.com/cuib/cuib/storage/storagetest"
)

func TestDriver(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Pool {
		cfg, err := fake.Type(nil).Make(t.Context(), storage.Config{Dir: t.TempDir(), Source: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		reopen := func(t *testing.T) storage.Driver {
			t.Helper()
			d, err := fake.Type(nil).Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		return storagetest.Pool{Driver: reopen(t), Dir: cfg.Source, Reopen: reopen, Plain: true, Tunes: map[string]string{"fake.colour": "red"}}
	})
}

func TestAdopt(t *testing.T) {
	newPool := func(t *testing.T) storage.Config {
		t.Helper()
		dir := t.TempDir()
		return storage.Config{Name: "p", Dir: filepath.Join(dir, "p"), Source: filepath.Join(dir, "source")}
	}
	storagetest.Adopt(t, fake.Type(nil), newPool, func(*testing.T, storage.Config) {})
}

func TestFailNth(t *testing.T) {
	d, err := fake.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d.Fail = fake.FailNth(2)
	v := storage.Volume{Kind: storage.Instance, Name: "c1"}
	if err := d.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if err := d.Delete(t.Context(), v); !errors.Is(err, fake.ErrInjected) {
		t.Errorf("the second call: got %v", err)
	}
	if err := d.Delete(t.Context(), v); err != nil {
		t.Errorf("the third call: got %v", err)
	}
	empty, err := d.Empty()
	if err != nil || !empty {
		t.Errorf("Empty() = %v, %v", empty, err)
	}
}
