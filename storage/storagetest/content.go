package storagetest

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

var contentTests = []test{
	{"a mount keeps files", testMountKeepsFiles},
	{"snapshot and restore", testSnapshotRestore},
	{"restore twice", testRestoreTwice},
	{"a clone is independent", testCloneIsIndependent},
	{"a clone outlives its source", testCloneOutlivesSource},
	{"clone of a clone of a clone", testCloneChain},
	{"a copy gets copies of the snapshots", testCloneSnapshots},
	{"many clones at once", testConcurrentClones},
	{"removals survive", testRemovalsSurvive},
	{"usage", testUsage},
	{"usage of a limit", testLimitedUsage},
}

func testMountKeepsFiles(t *testing.T, p Pool) {
	ok(t, p.Driver.Create(t.Context(), c1))
	write(t, p.Driver, c1, "one")
	wantFile(t, p.Driver, c1, "one")
}

func testSnapshotRestore(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	wantFile(t, d, snap, "one")
	ok(t, d.Restore(t.Context(), snap))
	wantFile(t, d, c1, "one")
	wantList(t, d, c1, snap)
}

func testRestoreTwice(t *testing.T, p Pool) {
	d := p.Driver
	second := storage.Volume{Kind: c1.Kind, Name: c1.Name, Snapshot: "s1"}
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	ok(t, d.Snapshot(t.Context(), second))
	ok(t, d.Restore(t.Context(), snap))
	wantFile(t, d, c1, "one")
	ok(t, d.Restore(t.Context(), second))
	wantFile(t, d, c1, "two")
	ok(t, d.Delete(t.Context(), second))
	wantFile(t, d, c1, "two")
	wantFile(t, d, snap, "one")
}

func testCloneIsIndependent(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Clone(t.Context(), c2, c1))
	write(t, d, c2, "two")
	wantFile(t, d, c1, "one")
	wantFile(t, d, c2, "two")
	write(t, d, c1, "three")
	wantFile(t, d, c2, "two")
}

func testCloneOutlivesSource(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Clone(t.Context(), c2, snap))
	ok(t, d.Clone(t.Context(), c3, c1))
	ok(t, d.Delete(t.Context(), snap))
	ok(t, d.Delete(t.Context(), c1))
	wantList(t, d, c2, c3)
	wantFile(t, d, c2, "one")
	wantFile(t, d, c3, "one")
}

func testCloneChain(t *testing.T, p Pool) {
	d := p.Driver
	v := func(i int) storage.Volume { return storage.Volume{Kind: storage.Instance, Name: fmt.Sprint("v", i)} }
	const n = 5
	ok(t, d.Create(t.Context(), v(0)))
	for i := range n {
		in(t, d, v(i), func(dir string) {
			ok(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600))
		})
		ok(t, d.Clone(t.Context(), v(i+1), v(i)))
	}
	for i := range n {
		ok(t, d.Delete(t.Context(), v(i)))
	}
	in(t, d, v(n), func(dir string) {
		if got := list(t, dir); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("the last clone holds %v", got)
		}
	})
}

func testCloneSnapshots(t *testing.T, p Pool) {
	d := p.Driver
	copied := storage.Volume{Kind: c2.Kind, Name: c2.Name, Snapshot: "s0"}
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	wantKind(t, d.Clone(t.Context(), copied, snap), errs.NotFound)
	ok(t, d.Clone(t.Context(), c2, c1))
	ok(t, d.Clone(t.Context(), copied, snap))
	wantKind(t, d.Clone(t.Context(), copied, snap), errs.Conflict)
	wantList(t, d, c1, snap, c2, copied)
	ok(t, d.Delete(t.Context(), snap))
	ok(t, d.Delete(t.Context(), c1))
	wantFile(t, d, copied, "one")
	wantFile(t, d, c2, "two")
	ok(t, d.Restore(t.Context(), copied))
	wantFile(t, d, c2, "one")
	ok(t, d.Delete(t.Context(), copied))
	ok(t, d.Delete(t.Context(), c2))
	wantList(t, d)
}

func testConcurrentClones(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), img))
	write(t, d, img, "image")
	want := []storage.Volume{img}
	errors := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errors {
		v := storage.Volume{Kind: storage.Instance, Name: fmt.Sprint("v", i)}
		want = append(want, v)
		wg.Go(func() { errors[i] = d.Clone(t.Context(), v, img) })
	}
	wg.Wait()
	for _, err := range errors {
		ok(t, err)
	}
	wantList(t, d, slices.Clone(want)...)
	write(t, d, want[1], "changed")
	for _, v := range want[2:] {
		wantFile(t, d, v, "image")
	}
}

func testRemovalsSurvive(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), img))
	in(t, d, img, func(dir string) {
		for _, name := range []string{"gone", "opaque", "moved/deep"} {
			ok(t, os.MkdirAll(filepath.Join(dir, name), 0o700))
			ok(t, os.WriteFile(filepath.Join(dir, name, "f"), nil, 0o600))
		}
		ok(t, os.WriteFile(filepath.Join(dir, "keep"), nil, 0o600))
	})
	ok(t, d.Clone(t.Context(), c1, img))
	in(t, d, c1, func(dir string) {
		ok(t, os.RemoveAll(filepath.Join(dir, "gone")))
		ok(t, os.RemoveAll(filepath.Join(dir, "opaque")))
		ok(t, os.Mkdir(filepath.Join(dir, "opaque"), 0o700))
		ok(t, os.Rename(filepath.Join(dir, "moved"), filepath.Join(dir, "there")))
	})
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Clone(t.Context(), c2, snap))
	ok(t, d.Clone(t.Context(), c3, c2))
	for _, v := range []storage.Volume{c1, snap, c2, c3} {
		in(t, d, v, func(dir string) {
			if got := list(t, dir); !slices.Equal(got, []string{"keep", "opaque", "there"}) {
				t.Errorf("%s holds %v", v, got)
			}
			if got := list(t, filepath.Join(dir, "opaque")); len(got) != 0 {
				t.Errorf("%s: the new directory holds %v", v, got)
			}
			if got := list(t, filepath.Join(dir, "there", "deep")); !slices.Equal(got, []string{"f"}) {
				t.Errorf("%s: the moved directory holds %v", v, got)
			}
		})
	}
}

func testUsage(t *testing.T, p Pool) {
	d := p.Driver
	const size = 1 << 20
	ok(t, d.Create(t.Context(), c1))
	before, err := d.Usage(t.Context(), c1)
	ok(t, err)
	in(t, d, c1, func(dir string) {
		f := filepath.Join(dir, "f")
		ok(t, os.WriteFile(f, []byte(strings.Repeat("x", size)), 0o600))
		file, err := os.Open(f)
		ok(t, err)
		ok(t, file.Sync())
		ok(t, file.Close())
	})
	after, err := d.Usage(t.Context(), c1)
	ok(t, err)
	if got := after - before; got < size || got > 2*size {
		t.Errorf("a file of %d bytes added %d to the usage", size, got)
	}
}

// testLimitedUsage has a volume with a limit say how much of that is used,
// also when it shares what it has with a snapshot.
func testLimitedUsage(t *testing.T, p Pool) {
	d := p.Driver
	if !limited(t, p) {
		return
	}
	const size = limit / 4
	in(t, d, c1, func(dir string) {
		// What no driver can compress.
		random := make([]byte, size)
		_, err := rand.Read(random)
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(dir, "f"), random, 0o600))
	})
	ok(t, storage.MustFit(t.Context(), d, c1, limit))
	if err := storage.MustFit(t.Context(), d, c1, size/2); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "holds 4") {
		t.Errorf("a limit of half of what a volume holds: %v", err)
	}
	ok(t, d.Snapshot(t.Context(), snap))
	in(t, d, c1, func(dir string) {
		f, err := os.Open(dir)
		ok(t, err)
		ok(t, unix.Syncfs(int(f.Fd())))
		ok(t, f.Close())
	})
	got, err := d.Usage(t.Context(), c1)
	ok(t, err)
	if got < size || got > 2*size {
		t.Errorf("%d bytes of the limit are used, want %d", got, size)
	}
}

var lifeTests = []test{
	{"all is there after a restart", testReopen},
	{"deleting all leaves nothing", testLeavesNothing},
	{"what a crash left goes away", testCrashLeftovers},
}

func testReopen(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), img))
	write(t, d, img, "image")
	ok(t, d.Clone(t.Context(), c1, img))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")

	d = p.Reopen(t)
	wantList(t, d, img, c1, snap)
	wantFile(t, d, img, "image")
	wantFile(t, d, c1, "two")
	ok(t, d.Delete(t.Context(), img))
	ok(t, d.Restore(t.Context(), snap))
	wantFile(t, d, c1, "one")
	ok(t, d.Delete(t.Context(), snap))
	d = p.Reopen(t)
	wantFile(t, d, c1, "one")
}

func testLeavesNothing(t *testing.T, p Pool) {
	d := p.Driver
	fill := func() {
		ok(t, d.Create(t.Context(), img))
		write(t, d, img, "image")
		ok(t, d.Clone(t.Context(), c1, img))
		write(t, d, c1, "one")
		ok(t, d.Snapshot(t.Context(), snap))
		ok(t, d.Clone(t.Context(), c2, c1))
		ok(t, d.Restore(t.Context(), snap))
		wantKind(t, d.Clone(t.Context(), c2, snap), errs.Conflict)
	}
	empty := func() []string {
		for _, v := range []storage.Volume{snap, c1, img, c2} {
			ok(t, d.Delete(t.Context(), v))
		}
		return walk(t, p.Dir)
	}
	fill()
	first := empty()
	fill()
	if second := empty(); !slices.Equal(first, second) {
		t.Errorf("after all was deleted the pool holds\n%s\nand then\n%s", strings.Join(first, "\n"), strings.Join(second, "\n"))
	}
	for _, path := range first {
		if strings.Count(path, "/") > 2 {
			t.Errorf("left behind: %s", path)
		}
	}
}

func testCrashLeftovers(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	var planted []string
	for _, dir := range []string{"staging", "trash", "layers"} {
		path := filepath.Join(p.Dir, dir)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		path = filepath.Join(path, "0123")
		planted = append(planted, path)
		ok(t, os.MkdirAll(filepath.Join(path, "cur", "upper"), 0o700))
		ok(t, os.WriteFile(filepath.Join(path, "cur", "upper", "f"), nil, 0o600))
	}
	d = p.Reopen(t)
	fresh := storage.Volume{Kind: storage.Custom, Name: "fresh"}
	ok(t, d.Create(t.Context(), fresh))
	write(t, d, fresh, "fresh")
	sweep(t, d)
	wantFile(t, d, fresh, "fresh")
	ok(t, d.Delete(t.Context(), fresh))
	for _, path := range planted {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	wantList(t, d, c1)
	wantFile(t, d, c1, "one")
}

// sweep removes what a crash left, if that is left to the caller.
func sweep(t *testing.T, d storage.Driver) {
	t.Helper()
	if s, can := d.(storage.Sweeper); can {
		ok(t, s.Sweep(t.Context()))
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// walk returns all paths below dir, relative to it.
func walk(t *testing.T, dir string) (paths []string) {
	t.Helper()
	ok(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		paths = append(paths, rel)
		return err
	}))
	return paths
}

func stat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	ok(t, unix.Lstat(path, &st))
	return st
}
