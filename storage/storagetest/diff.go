package storagetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// RunDiffer tests a driver that is a [storage.Differ].
func RunDiffer(t *testing.T, open func(t *testing.T) Pool) {
	t.Helper()
	for _, tt := range diffTests {
		t.Run(tt.name, func(t *testing.T) { tt.fn(t, open(t)) })
	}
}

var diffTests = []test{
	{"changes since a snapshot", testDiff},
	{"changes between snapshots", testDiffSnapshots},
	{"nothing changed", testDiffNothing},
	{"changes of a volume in use", testDiffMounted},
	{"changes of what does not exist", testDiffMissing},
	{"changes end with an error", testDiffEnds},
	{"changes after a restore", testDiffRestored},
}

// before makes the files that after changes.
func before(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"same/deep/dir", "gone/sub", "moved/sub", "swapped", "other", "becomes-file", "opaque/old"} {
		ok(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	for _, name := range []string{
		"same/f", "same/deep/dir/f", "gone/f", "gone/sub/f", "moved/f", "moved/sub/f", "swapped/f", "swapped/s", "other/f", "other/o",
		"opaque/f", "opaque/old/f", "removed", "renamed", "written", "shorter", "mode", "owner", "attr", "touched", "becomes-dir", "odd name\n%41",
	} {
		ok(t, os.WriteFile(filepath.Join(dir, name), []byte("contents of "+name), 0o644))
	}
	ok(t, os.Symlink("here", filepath.Join(dir, "link")))
	ok(t, os.Link(filepath.Join(dir, "same/f"), filepath.Join(dir, "same/hard")))
}

// after changes what before made.
func after(t *testing.T, dir string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"gone", "removed", "becomes-file", "becomes-dir", "opaque"} {
		ok(t, os.RemoveAll(in(name)))
	}
	for _, name := range []string{"becomes-dir", "opaque", "added/sub"} {
		ok(t, os.MkdirAll(in(name), 0o755))
	}
	for _, name := range []string{"becomes-file", "becomes-dir/f", "added/f", "added/sub/f", "same/new", "same/deep/dir/new", "opaque/new", "odd new\t\xff"} {
		ok(t, os.WriteFile(in(name), []byte("new"), 0o644))
	}
	ok(t, os.Rename(in("renamed"), in("renamed-to")))
	ok(t, os.Rename(in("moved"), in("added/moved")))
	ok(t, os.Rename(in("swapped"), in("tmp")))
	ok(t, os.Rename(in("other"), in("swapped")))
	ok(t, os.Rename(in("tmp"), in("other")))
	ok(t, os.WriteFile(in("added/moved/f"), []byte("moved and written"), 0o644))
	ok(t, os.WriteFile(in("written"), []byte("written again"), 0o644))
	ok(t, os.Truncate(in("shorter"), 3))
	ok(t, os.Chmod(in("mode"), 0o600))
	ok(t, os.Chmod(in("same/deep"), 0o700))
	ok(t, os.Remove(in("link")))
	ok(t, os.Symlink("there", in("link")))
	ok(t, os.Remove(in("odd name\n%41")))
	var st unix.Stat_t
	ok(t, unix.Stat(in("touched"), &st))
	ok(t, os.WriteFile(in("touched"), []byte("contents of touched"), 0o644))
	ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, in("touched"), []unix.Timespec{st.Atim, st.Mtim}, 0))
	if os.Getuid() == 0 {
		ok(t, os.Lchown(in("owner"), 1000, 1000))
		ok(t, unix.Setxattr(in("attr"), "user.x", []byte("y"), 0))
	} else {
		ok(t, os.Chmod(in("owner"), 0o600))
		ok(t, os.Chmod(in("attr"), 0o600))
	}
}

// changed is what Diff is to tell of it.
var changed = strings.Fields(`
	added:added added:added/f added:added/moved added:added/moved/f added:added/moved/sub added:added/moved/sub/f
	added:added/sub added:added/sub/f added:becomes-dir added:becomes-dir/f added:becomes-file
	added:odd_new\t\xff added:opaque/new added:other/s added:renamed-to added:same/deep/dir/new added:same/new added:swapped/o
	modified:attr modified:link modified:mode modified:other/f modified:owner modified:same/deep modified:shorter modified:swapped/f modified:written
	removed:becomes-dir removed:becomes-file removed:gone removed:gone/f removed:gone/sub removed:gone/sub/f
	removed:moved removed:moved/f removed:moved/sub removed:moved/sub/f removed:odd_name\n%41 removed:opaque/f
	removed:opaque/old removed:opaque/old/f removed:other/o removed:removed removed:renamed removed:swapped/s`)

func text(c storage.Change) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprintf("%s:%q", c.Op, c.Path), `"`), `:"`, ":")
}

func wantChanges(t *testing.T, d storage.Driver, from, to storage.Volume, want []string) {
	t.Helper()
	differ, is := d.(storage.Differ)
	if !is {
		t.Fatal("it is no Differ")
	}
	var got []string
	ok(t, differ.Diff(t.Context(), from, to, func(c storage.Change) error {
		got = append(got, strings.ReplaceAll(text(c), " ", "_"))
		return nil
	}))
	want = slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	for _, s := range got {
		if !slices.Contains(want, s) {
			t.Errorf("told of %s", s)
		}
	}
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("not told of %s", s)
		}
	}
	if len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Error("told of something twice")
	}
}

func testDiff(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	in(t, d, c1, func(dir string) { before(t, dir) })
	ok(t, d.Snapshot(t.Context(), snap))
	in(t, d, c1, func(dir string) { after(t, dir) })
	for range 2 { // It changes nothing itself.
		wantChanges(t, d, snap, c1, changed)
	}
	wantList(t, d, c1, snap)
}

func testDiffSnapshots(t *testing.T, p Pool) {
	d := p.Driver
	states := []storage.Volume{snap}
	ok(t, d.Create(t.Context(), img))
	in(t, d, img, func(dir string) { before(t, dir) })
	ok(t, d.Clone(t.Context(), c1, img))
	ok(t, d.Snapshot(t.Context(), snap))
	for i, change := range []func(dir string){
		func(dir string) { ok(t, os.WriteFile(filepath.Join(dir, "one"), nil, 0o600)) },
		func(dir string) { after(t, dir) },
		func(dir string) { ok(t, os.Remove(filepath.Join(dir, "one"))) },
	} {
		in(t, d, c1, change)
		states = append(states, storage.Volume{Kind: c1.Kind, Name: c1.Name, Snapshot: fmt.Sprint("t", i)})
		ok(t, d.Snapshot(t.Context(), states[i+1]))
	}
	in(t, d, c1, func(dir string) { ok(t, os.Remove(filepath.Join(dir, "written"))) })
	wantChanges(t, d, states[0], states[1], []string{"added:one"})
	wantChanges(t, d, states[1], states[2], changed)
	wantChanges(t, d, states[0], states[3], changed)
	wantChanges(t, d, states[2], c1, []string{"removed:one", "removed:written"})
}

func testDiffNothing(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	wantSame := func() {
		t.Helper()
		wantChanges(t, d, snap, c1, nil)
		wantChanges(t, d, snap, snap, nil)
	}
	ok(t, d.Snapshot(t.Context(), snap))
	wantSame()
	ok(t, d.Delete(t.Context(), snap))
	in(t, d, c1, func(dir string) { before(t, dir) })
	ok(t, d.Snapshot(t.Context(), snap))
	in(t, d, c1, func(string) {})
	wantSame()
}

func testDiffMounted(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	in(t, d, c1, func(dir string) { before(t, dir) })
	ok(t, d.Snapshot(t.Context(), snap))
	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	defer func() { ok(t, d.Unmount(t.Context(), c1)) }()
	after(t, dir)
	wantChanges(t, d, snap, c1, changed)
}

func testDiffMissing(t *testing.T, p Pool) {
	d, is := p.Driver.(storage.Differ)
	if !is {
		t.Fatal("it is no Differ")
	}
	wantKind(t, d.Diff(t.Context(), snap, c1, nil), errs.NotFound)
	ok(t, p.Driver.Create(t.Context(), c1))
	wantKind(t, d.Diff(t.Context(), snap, c1, nil), errs.NotFound)
}

func testDiffEnds(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	in(t, d, c1, func(dir string) { before(t, dir) })
	ok(t, d.Snapshot(t.Context(), snap))
	in(t, d, c1, func(dir string) { after(t, dir) })
	boom := errors.New("boom")
	differ, _ := d.(storage.Differ)
	if err := differ.Diff(t.Context(), snap, c1, func(storage.Change) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	wantChanges(t, d, snap, c1, changed)
}

func testDiffRestored(t *testing.T, p Pool) {
	d := p.Driver
	later := storage.Volume{Kind: c1.Kind, Name: c1.Name, Snapshot: "later"}
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "the second")
	in(t, d, c1, func(dir string) { ok(t, os.WriteFile(filepath.Join(dir, "g"), nil, 0o600)) })
	ok(t, d.Snapshot(t.Context(), later))
	ok(t, d.Restore(t.Context(), snap))
	wantChanges(t, d, snap, c1, nil)
	wantChanges(t, d, later, c1, []string{"modified:f", "removed:g"})
}
