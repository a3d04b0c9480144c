package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/fake"
	"github.com/cuib/cuib/storage/transfer"
)

var (
	c1 = storage.Volume{Kind: storage.Instance, Name: "c1"}
	c2 = storage.Volume{Kind: storage.Instance, Name: "c2"}
)

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func snap(v storage.Volume, name string) storage.Volume {
	v.Snapshot = name
	return v
}

// in runs fn with the directory of a volume.
func in(tb testing.TB, d storage.Driver, v storage.Volume, fn func(dir string)) {
	tb.Helper()
	dir, err := d.Mount(tb.Context(), v, nil)
	ok(tb, err)
	fn(dir)
	ok(tb, d.Unmount(tb.Context(), v))
}

func write(tb testing.TB, d storage.Driver, v storage.Volume, files map[string]string) {
	tb.Helper()
	in(tb, d, v, func(dir string) {
		for name, data := range files {
			path := filepath.Join(dir, name)
			if data == "" {
				ok(tb, os.RemoveAll(path))
				continue
			}
			ok(tb, os.MkdirAll(filepath.Dir(path), 0o755))
			ok(tb, os.WriteFile(path, []byte(data), 0o644))
		}
	})
}

// contents returns the files of a volume as text.
func contents(tb testing.TB, d storage.Driver, v storage.Volume) string {
	tb.Helper()
	var all []string
	in(tb, d, v, func(dir string) {
		ok(tb, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel+"="+string(data))
			return err
		}))
	})
	return strings.Join(all, " ")
}

func wantContents(tb testing.TB, d storage.Driver, want map[storage.Volume]string) {
	tb.Helper()
	var names []storage.Volume
	for v, text := range want {
		names = append(names, v)
		if got := contents(tb, d, v); got != text {
			tb.Errorf("%s holds %q, want %q", v, got, text)
		}
	}
	have, err := d.List(tb.Context())
	ok(tb, err)
	for _, v := range have {
		if !slices.Contains(names, v) {
			tb.Errorf("%s is left over", v)
		}
	}
}

func newFake(tb testing.TB) *fake.Driver {
	tb.Helper()
	d, err := fake.New(filepath.Join(tb.TempDir(), "pool"))
	ok(tb, err)
	return d
}

// fill makes c1 with two snapshots.
func fill(tb testing.TB, d storage.Driver) {
	tb.Helper()
	ok(tb, d.Create(tb.Context(), c1))
	write(tb, d, c1, map[string]string{"a": "1", "b/c": "1", "gone": "x"})
	ok(tb, d.Snapshot(tb.Context(), snap(c1, "s1")))
	write(tb, d, c1, map[string]string{"a": "2", "gone": "", "new": "2"})
	ok(tb, d.Snapshot(tb.Context(), snap(c1, "s2")))
	write(tb, d, c1, map[string]string{"a": "3"})
}

var filled = map[string]string{"s1": "a=1 b/c=1 gone=x", "s2": "a=2 b/c=1 new=2", "": "a=3 b/c=1 new=2"}

func filledAs(v storage.Volume) map[storage.Volume]string {
	all := map[storage.Volume]string{}
	for name, text := range filled {
		all[snap(v, name)] = text
	}
	return all
}

func source(d storage.Driver) transfer.Source {
	return transfer.Source{Driver: d, Volume: c1, Snapshots: []string{"s1", "s2"}}
}

func TestCopy(t *testing.T) {
	a, b := newFake(t), newFake(t)
	fill(t, a)
	var done int64
	o := transfer.Options{Progress: func(n int64) { done = n }}
	ok(t, transfer.Copy(t.Context(), transfer.Target{Driver: b, Volume: c2}, source(a), o))
	wantContents(t, a, filledAs(c1))
	wantContents(t, b, filledAs(c2))
	if done != 6 {
		t.Errorf("%d bytes were copied", done)
	}
	err := transfer.Copy(t.Context(), transfer.Target{Driver: b, Volume: c2}, source(a), o)
	if !errs.Is(err, errs.Conflict) {
		t.Errorf("onto what exists: %v", err)
	}
	wantContents(t, b, filledAs(c2))
	if left := slices.Concat(a.Mounted(), b.Mounted()); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
}

func TestCopyOfSnapshot(t *testing.T) {
	a, b := newFake(t), newFake(t)
	fill(t, a)
	from := transfer.Source{Driver: a, Volume: snap(c1, "s1")}
	ok(t, transfer.Copy(t.Context(), transfer.Target{Driver: b, Volume: c2}, from, transfer.Options{}))
	wantContents(t, b, map[storage.Volume]string{c2: filled["s1"]})
	ok(t, transfer.Copy(t.Context(), transfer.Target{Driver: a, Volume: c2}, from, transfer.Options{}))
	if got := contents(t, a, c2); got != filled["s1"] {
		t.Errorf("it holds %q", got)
	}
	from.Snapshots = []string{"s1"}
	err := transfer.Copy(t.Context(), transfer.Target{Driver: b, Volume: c1}, from, transfer.Options{})
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("a snapshot with snapshots: %v", err)
	}
}

// TestCopyWhileUsed has somebody write between the snapshot and the copy.
func TestCopyWhileUsed(t *testing.T) {
	for name, to := range map[string]func(a *fake.Driver) *fake.Driver{
		"within a pool": func(a *fake.Driver) *fake.Driver { return a },
		"between pools": func(*fake.Driver) *fake.Driver { return newFake(t) },
	} {
		t.Run(name, func(t *testing.T) {
			a := newFake(t)
			b := to(a)
			fill(t, a)
			from := source(a)
			from.Still = func(_ context.Context, fn func() error) error {
				err := fn()
				write(t, a, c1, map[string]string{"a": "later"}) //nolint:contextcheck // It is the test's.
				return err
			}
			ok(t, transfer.Copy(t.Context(), transfer.Target{Driver: b, Volume: c2}, from, transfer.Options{}))
			for v, want := range filledAs(c2) {
				if got := contents(t, b, v); got != want {
					t.Errorf("%s holds %q", v, got)
				}
			}
			vols, err := a.List(t.Context())
			ok(t, err)
			for _, v := range vols {
				if strings.HasPrefix(v.Snapshot, ".") {
					t.Errorf("%s is left over", v)
				}
			}
		})
	}
}

// both makes the n-th call to either of two drivers fail.
func both(a, b *fake.Driver, n int) {
	fail := fake.FailNth(n)
	a.Fail, b.Fail = fail, fail
}

// failing runs op, with its n-th step failing, until it has no n-th, and calls
// check after each time.
func failing(t *testing.T, op func(t *testing.T, n int) error) {
	t.Helper()
	for n := 1; ; n++ {
		err := op(t, n)
		if err == nil {
			if n < 4 {
				t.Errorf("only %d steps failed", n-1)
			}
			return
		}
		if !errors.Is(err, fake.ErrInjected) {
			t.Fatalf("step %d: %v", n, err)
		}
	}
}

func TestCopyFailsAnywhere(t *testing.T) {
	still := func(_ context.Context, fn func() error) error { return fn() }
	for name, same := range map[string]bool{"within a pool": true, "between pools": false} {
		t.Run(name, func(t *testing.T) {
			failing(t, func(t *testing.T, n int) error {
				a := newFake(t)
				b := a
				if !same {
					b = newFake(t)
				}
				fill(t, a)
				from := source(a)
				from.Still = still
				both(a, b, n)
				err := transfer.Copy(t.Context(), transfer.Target{Driver: b, Volume: c2}, from, transfer.Options{})
				both(a, b, 0)
				if err == nil {
					return nil
				}
				// What failed last may have been to delete what was hidden.
				ok(t, transfer.RecoverRefresh(t.Context(), a))
				for v, want := range filledAs(c1) {
					if got := contents(t, a, v); got != want {
						t.Errorf("step %d: %s holds %q", n, v, got)
					}
				}
				if !same {
					wantContents(t, b, nil)
				}
				return err
			})
		})
	}
}

func TestRefresh(t *testing.T) {
	a, b := newFake(t), newFake(t)
	fill(t, a)
	to := transfer.Target{Driver: b, Volume: c2}
	from := source(a)
	from.Snapshots = []string{"s1"}
	ok(t, transfer.Copy(t.Context(), to, from, transfer.Options{}))
	write(t, b, c2, map[string]string{"mine": "y", "a": "mine"})
	ok(t, b.Snapshot(t.Context(), snap(c2, "own")))
	ok(t, transfer.Refresh(t.Context(), to, source(a), transfer.Options{}))
	want := filledAs(c2)
	want[snap(c2, "own")] = "a=mine b/c=1 mine=y new=2"
	wantContents(t, b, want)

	err := transfer.Refresh(t.Context(), transfer.Target{Driver: b, Volume: c1}, source(a), transfer.Options{})
	if !errs.Is(err, errs.NotFound) {
		t.Errorf("of what does not exist: %v", err)
	}
}

func TestRefreshExcludesOlder(t *testing.T) {
	a, b := newFake(t), newFake(t)
	fill(t, a)
	to := transfer.Target{Driver: b, Volume: c2}
	from := source(a)
	from.Snapshots = []string{"s2"}
	ok(t, transfer.Copy(t.Context(), to, from, transfer.Options{}))
	ok(t, transfer.Refresh(t.Context(), to, source(a), transfer.Options{ExcludeOlder: true}))
	want := filledAs(c2)
	delete(want, snap(c2, "s1"))
	wantContents(t, b, want)
	ok(t, transfer.Refresh(t.Context(), to, source(a), transfer.Options{}))
	wantContents(t, b, filledAs(c2))
}

// TestRefreshFailsAnywhere fails each step, with and without the undoing that
// follows: what is then left is as after a crash.
func TestRefreshFailsAnywhere(t *testing.T) {
	for name, fail := range map[string]func(n int) func(string) error{"and takes all back": fake.FailNth, "and is recovered": failFrom} {
		t.Run(name, func(t *testing.T) {
			failing(t, func(t *testing.T, n int) error { return failRefresh(t, n, fail(n)) })
		})
	}
}

// failFrom fails the n-th call and all that follow.
func failFrom(n int) func(string) error {
	return func(string) error {
		if n--; n <= 0 {
			return fake.ErrInjected
		}
		return nil
	}
}

func failRefresh(t *testing.T, n int, fail func(string) error) error {
	t.Helper()
	a, b := newFake(t), newFake(t)
	fill(t, a)
	to := transfer.Target{Driver: b, Volume: c2}
	from := source(a)
	from.Snapshots = []string{"s1"}
	ok(t, transfer.Copy(t.Context(), to, from, transfer.Options{}))
	write(t, b, c2, map[string]string{"mine": "y"})
	before := map[storage.Volume]string{snap(c2, "s1"): filled["s1"], c2: contents(t, b, c2)}

	a.Fail, b.Fail = fail, fail
	err := transfer.Refresh(t.Context(), to, source(a), transfer.Options{})
	a.Fail, b.Fail = nil, nil
	ok(t, b.Unmount(t.Context(), c2))
	for _, v := range a.Mounted() {
		ok(t, a.Unmount(t.Context(), v))
	}
	for range 2 {
		ok(t, transfer.RecoverRefresh(t.Context(), b))
	}
	want := before
	if vols, lerr := b.List(t.Context()); lerr != nil || slices.Contains(vols, snap(c2, "s2")) {
		want = filledAs(c2) // It was done, and what failed was to clear away.
	}
	wantContents(t, b, want)
	if t.Failed() {
		t.Fatal(fmt.Sprint("step ", n, ": ", err))
	}
	return err
}

func TestRecoverRemovesCopies(t *testing.T) {
	d := newFake(t)
	hidden := storage.Volume{Kind: storage.Instance, Name: ".copy-x"}
	ok(t, d.Create(t.Context(), hidden))
	ok(t, d.Snapshot(t.Context(), snap(hidden, "s1")))
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, map[string]string{"a": "1"})
	ok(t, d.Snapshot(t.Context(), snap(c1, ".copy-y")))
	ok(t, transfer.RecoverRefresh(t.Context(), d))
	wantContents(t, d, map[storage.Volume]string{c1: "a=1"})
}

func TestDiff(t *testing.T) {
	d := newFake(t)
	fill(t, d)
	var got []string
	ok(t, transfer.Diff(t.Context(), d, snap(c1, "s1"), c1, func(c storage.Change) error {
		got = append(got, fmt.Sprint(c.Op, " ", c.Path))
		return nil
	}))
	slices.Sort(got)
	if want := []string{"added new", "modified a", "removed gone"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	boom := errors.New("boom")
	err := transfer.Diff(t.Context(), d, snap(c1, "s1"), c1, func(storage.Change) error { return boom })
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if err := transfer.Diff(t.Context(), d, c1, c2, nil); !errs.Is(err, errs.Invalid) {
		t.Errorf("of two volumes: %v", err)
	}
	if left := d.Mounted(); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
}

// TestRecoverLeavesAlone recovers pools while something is copied between
// them, as when one was missing at the start.
func TestRecoverLeavesAlone(t *testing.T) {
	a, b := newFake(t), newFake(t)
	fill(t, a)
	o := transfer.Options{Progress: func(int64) {
		if err := errors.Join(transfer.RecoverRefresh(t.Context(), a), transfer.RecoverRefresh(t.Context(), b)); err != nil {
			t.Error(err)
		}
	}}
	from := source(a)
	from.Still = func(_ context.Context, fn func() error) error { return fn() }
	to := transfer.Target{Driver: b, Volume: c2}
	ok(t, transfer.Copy(t.Context(), to, from, o))
	wantContents(t, b, filledAs(c2))
	write(t, a, c1, map[string]string{"a": "changed"})
	ok(t, transfer.Refresh(t.Context(), to, from, o))
	if got := contents(t, b, c2); got != "a=changed b/c=1 new=2" {
		t.Errorf("it holds %q", got)
	}
}
