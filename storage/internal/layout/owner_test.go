package layout

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// daemon is one with an id, whose lock is held until it is closed.
func daemon(t *testing.T, id string) (storage.Owner, *os.File) {
	t.Helper()
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	ok(t, err)
	_, err = lock.WriteString(id + "\n")
	ok(t, err)
	ok(t, unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	t.Cleanup(func() { _ = lock.Close() })
	return storage.Owner{ID: id, Lock: lock.Name()}, lock
}

func wantTheirs(t *testing.T, err error, text string) {
	t.Helper()
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want it unavailable with %q", err, text)
	}
}

// TestOwner has two daemons want one pool.
func TestOwner(t *testing.T) {
	nothing := func(string) error { return nil }
	mkdir := func(path string) error { return os.Mkdir(path, 0o700) }
	first, lock := daemon(t, "one")
	second, _ := daemon(t, "two")
	source := filepath.Join(t.TempDir(), "pool")
	one := storage.Config{Name: "p", Dir: t.TempDir(), Source: source, Owner: first}
	two := storage.Config{Name: "q", Dir: t.TempDir(), Source: source, Owner: second}
	as := func(cfg storage.Config, claim storage.Claim) error {
		cfg.Owner.Claim = claim
		_, err := form.Open(cfg)
		return err
	}
	ok(t, form.MakePool(t.Context(), one, mkdir, nothing))
	b, err := form.Open(one)
	ok(t, err)
	ok(t, as(one, storage.Mine)) // Again, as after a crash.

	for _, claim := range []storage.Claim{storage.Mine, storage.Glance, storage.Take} {
		wantTheirs(t, as(two, claim), "which is running")
	}
	err = form.MakePool(t.Context(), two, mkdir, nothing)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), filepath.Dir(first.Lock)) {
		t.Errorf("a second pool in it: %v", err)
	}
	ok(t, lock.Close()) // The first one has ended.
	wantTheirs(t, as(two, storage.Mine), "cuib admin recover q=test:"+source)
	ok(t, as(two, storage.Glance))
	ok(t, as(one, storage.Mine)) // A glance changes nothing.
	ok(t, as(two, storage.Take))
	ok(t, as(two, storage.Mine))

	_, err = b.Space(t.Context())
	wantTheirs(t, err, filepath.Dir(second.Lock))
	wantTheirs(t, as(one, storage.Mine), "which is running")
	ok(t, form.RemovePool(one)) // It is no more its pool.
	ok(t, as(two, storage.Mine))
	ok(t, form.RemovePool(two))
	if left, err := os.ReadDir(source); err != nil || len(left) > 0 { // The first one has made it.
		t.Errorf("left %v, %v", left, err)
	}
}

// A pool in the state directory, and one from before owners, ask nobody.
func TestNoOwner(t *testing.T) {
	first, _ := daemon(t, "one")
	second, _ := daemon(t, "two")
	root := filepath.Join(t.TempDir(), "data")
	ok(t, os.Mkdir(root, 0o700))
	ok(t, form.Make(root))
	dir := filepath.Dir(root)
	for _, cfg := range []storage.Config{{Dir: dir, Owner: first}, {Dir: dir, Owner: second}, {Dir: dir, Source: root, Owner: first}, {Dir: dir, Source: root}} {
		_, err := form.Open(cfg)
		ok(t, err)
	}
}
