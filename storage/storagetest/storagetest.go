// Package storagetest tests that a driver keeps the contract of
// [storage.Driver].
package storagetest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/storage"
)

// A Pool is an empty pool to test a driver on.
type Pool struct {
	Driver storage.Driver
	Dir    string // Where the volumes' data is.

	// Reopen opens the pool again, as after a crash.
	Reopen func(t *testing.T) storage.Driver

	// Limits is for a pool whose file system can limit sizes: the driver
	// must be able to.
	Limits bool

	// Tunes has for each key of the driver's volumes a value that it takes,
	// if it is a [storage.Tuner].
	Tunes map[string]string

	// Plain is for a driver that works without root: the tests of mounts
	// and of what only root can make are left out.
	Plain bool
}

var (
	c1   = storage.Volume{Kind: storage.Instance, Name: "c1"}
	c2   = storage.Volume{Kind: storage.Instance, Name: "c2"}
	c3   = storage.Volume{Kind: storage.Instance, Name: "c3"}
	img  = storage.Volume{Kind: storage.Image, Name: "0123456789abcdef"}
	snap = storage.Volume{Kind: storage.Instance, Name: "c1", Snapshot: "s0"}
	ids  = idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1200000, Size: 65536}}
)

type test struct {
	name string
	fn   func(*testing.T, Pool)
}

// Run tests the driver of the pools that open returns, a new one each time.
func Run(t *testing.T, open func(t *testing.T) Pool) {
	t.Helper()
	for _, tt := range slices.Concat(namesTests, contentTests, lifeTests, recordTests, tuneTests) {
		t.Run(tt.name, func(t *testing.T) { tt.fn(t, open(t)) })
	}
	p := open(t)
	if p.Plain {
		return
	}
	for _, tt := range slices.Concat(mountTests, busyTests) {
		t.Run(tt.name, func(t *testing.T) { tt.fn(t, open(t)) })
	}
}

var namesTests = []test{
	{"create, list, delete", testCreateListDelete},
	{"create what exists", testCreateExisting},
	{"what does not exist", testMissing},
	{"rename", testRename},
	{"rename onto what exists", testRenameOntoExisting},
	{"rename a snapshot", testRenameSnapshot},
	{"delete twice", testDeleteTwice},
	{"delete a volume that has snapshots", testDeleteWithSnapshots},
	{"odd names", testOddNames},
}

func testCreateListDelete(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Create(t.Context(), c2))
	wantList(t, d, c1, c2)
	ok(t, d.Delete(t.Context(), c1))
	wantList(t, d, c2)
}

func testCreateExisting(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Create(t.Context(), c2))
	ok(t, d.Snapshot(t.Context(), snap))
	wantKind(t, d.Create(t.Context(), c1), errs.Conflict)
	wantKind(t, d.Clone(t.Context(), c1, c2), errs.Conflict)
	wantKind(t, d.Snapshot(t.Context(), snap), errs.Conflict)
	wantList(t, d, c1, c2, snap)
}

func testMissing(t *testing.T, p Pool) {
	d := p.Driver
	_, err := d.Mount(t.Context(), c1, nil)
	wantKind(t, err, errs.NotFound)
	_, err = d.Usage(t.Context(), c1)
	wantKind(t, err, errs.NotFound)
	wantKind(t, d.Clone(t.Context(), c2, c1), errs.NotFound)
	wantKind(t, d.Clone(t.Context(), c2, snap), errs.NotFound)
	wantKind(t, d.Snapshot(t.Context(), snap), errs.NotFound)
	wantKind(t, d.Restore(t.Context(), snap), errs.NotFound)
	wantKind(t, d.Rename(t.Context(), c1, "x"), errs.NotFound)
	wantKind(t, d.Rename(t.Context(), snap, "x"), errs.NotFound)
	ok(t, d.Unmount(t.Context(), c1))
	ok(t, d.Delete(t.Context(), snap))
	wantList(t, d)

	ok(t, d.Create(t.Context(), c1))
	wantKind(t, d.Restore(t.Context(), snap), errs.NotFound)
	_, err = d.Mount(t.Context(), snap, nil)
	wantKind(t, err, errs.NotFound)
	wantList(t, d, c1)
}

func testRename(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	ok(t, d.Rename(t.Context(), c1, "c2"))
	renamed := storage.Volume{Kind: c2.Kind, Name: "c2", Snapshot: "s0"}
	wantList(t, d, c2, renamed)
	wantFile(t, d, c2, "two")
	wantFile(t, d, renamed, "one")
	ok(t, d.Restore(t.Context(), renamed))
	wantFile(t, d, c2, "one")
}

func testRenameOntoExisting(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Create(t.Context(), c2))
	wantKind(t, d.Rename(t.Context(), c1, "c2"), errs.Conflict)
	wantList(t, d, c1, c2)
}

func testRenameSnapshot(t *testing.T, p Pool) {
	d := p.Driver
	other := storage.Volume{Kind: snap.Kind, Name: snap.Name, Snapshot: "s1"}
	renamed := storage.Volume{Kind: snap.Kind, Name: snap.Name, Snapshot: "s2"}
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	ok(t, d.Snapshot(t.Context(), other))
	wantKind(t, d.Rename(t.Context(), snap, "s1"), errs.Conflict)
	ok(t, d.Rename(t.Context(), snap, "s2"))
	wantList(t, d, c1, other, renamed)
	wantFile(t, d, renamed, "one")
	wantFile(t, d, other, "two")
}

func testDeleteTwice(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Delete(t.Context(), c1))
	ok(t, d.Delete(t.Context(), c1))
}

func testDeleteWithSnapshots(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Snapshot(t.Context(), snap))
	wantKind(t, d.Delete(t.Context(), c1), errs.Conflict)
	wantList(t, d, c1, snap)
	ok(t, d.Delete(t.Context(), snap))
	ok(t, d.Delete(t.Context(), c1))
	wantList(t, d)
}

func testOddNames(t *testing.T, p Pool) {
	d := p.Driver
	for _, name := range []string{"ünï", ".", "..", ".hidden", "a b", "%41", "a:b,c", `back\slash`, "new\nline", "cur", "snapshots", "-f"} {
		v := storage.Volume{Kind: storage.Custom, Name: name}
		s := storage.Volume{Kind: storage.Custom, Name: name, Snapshot: name}
		ok(t, d.Create(t.Context(), v))
		write(t, d, v, name)
		ok(t, d.Snapshot(t.Context(), s))
		write(t, d, v, "changed")
		wantFile(t, d, s, name)
		ok(t, d.Clone(t.Context(), c1, s))
		wantFile(t, d, c1, name)
		wantList(t, d, v, s, c1)
		ok(t, d.Delete(t.Context(), c1))
		ok(t, d.Delete(t.Context(), s))
		ok(t, d.Delete(t.Context(), v))
	}
	wantList(t, d)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Fatalf("got error %v, want one of kind %d", err, kind)
	}
}

func wantList(t *testing.T, d storage.Driver, want ...storage.Volume) {
	t.Helper()
	got, err := d.List(t.Context())
	ok(t, err)
	byName := func(a, b storage.Volume) int { return strings.Compare(a.String(), b.String()) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	if !slices.Equal(got, want) {
		t.Fatalf("List() = %v, want %v", got, want)
	}
}

// in runs fn with the directory of the mounted volume.
func in(t *testing.T, d storage.Driver, v storage.Volume, fn func(dir string)) {
	t.Helper()
	dir, err := d.Mount(t.Context(), v, nil)
	ok(t, err)
	defer func() { ok(t, d.Unmount(t.Context(), v)) }()
	fn(dir)
}

// write writes the file f of the volume.
func write(t *testing.T, d storage.Driver, v storage.Volume, s string) {
	t.Helper()
	in(t, d, v, func(dir string) { ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte(s), 0o600)) })
}

// wantFile checks the file f of the volume.
func wantFile(t *testing.T, d storage.Driver, v storage.Volume, want string) {
	t.Helper()
	in(t, d, v, func(dir string) {
		b, err := os.ReadFile(filepath.Join(dir, "f"))
		ok(t, err)
		if string(b) != want {
			t.Fatalf("%s holds %q, want %q", v, b, want)
		}
	})
}
