package storagetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage"
)

// RunMany makes n snapshots of a volume in which something changes each time,
// and checks that each is what the volume was.
func RunMany(t *testing.T, open func(t *testing.T) Pool, n int) {
	t.Helper()
	for name, ops := range map[string][]operation{
		"many snapshots": gentle,
		"many snapshots, and directories are renamed": slices.Concat(gentle, gentle, []operation{renameDir}),
	} {
		t.Run(name, func(t *testing.T) { many(t, open(t), n, ops) })
	}
}

func many(t *testing.T, p Pool, n int, ops []operation) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's choices.
	d, model := p.Driver, t.TempDir()
	ok(t, d.Create(t.Context(), img))
	in(t, d, img, func(dir string) {
		for _, root := range []string{dir, model} {
			before(t, root)
			ok(t, os.Remove(filepath.Join(root, "same/hard"))) // On overlayfs the names of a file part.
		}
	})
	ok(t, d.Clone(t.Context(), c1, img))
	m := &history{t: t, d: d, model: model, was: map[string][]string{}}
	for i := range n {
		m.change(rnd, ops)
		m.snapshot(fmt.Sprint("m", i))
	}
	for i := 0; i < n; i += max(1, n/25) {
		m.check(snapOf(c1, fmt.Sprint("m", i)), fmt.Sprint("m", i))
	}
	m.check(c1, fmt.Sprint("m", n-1))
	restored := fmt.Sprint("m", n/2)
	ok(t, d.Restore(t.Context(), snapOf(c1, restored)))
	m.check(c1, restored)
	for _, i := range rnd.Perm(n)[:n-2] {
		ok(t, d.Delete(t.Context(), snapOf(c1, fmt.Sprint("m", i))))
	}
	m.check(c1, restored)
	vols, err := d.List(t.Context())
	ok(t, err)
	for _, v := range vols {
		if v.Snapshot != "" {
			m.check(v, v.Snapshot)
			ok(t, d.Delete(t.Context(), v))
		}
	}
	ok(t, d.Delete(t.Context(), c1))
	ok(t, d.Delete(t.Context(), img))
	wantBare(t, p)
}

// A history is what c1 and its snapshots are to be.
type history struct {
	t     *testing.T
	d     storage.Driver
	model string // A directory in which the same is done.
	was   map[string][]string
}

// change does some operations in c1 and in the model.
func (m *history) change(rnd *rand.Rand, ops []operation) {
	m.t.Helper()
	in(m.t, m.d, c1, func(dir string) {
		for range 5 {
			op, choice := ops[rnd.IntN(len(ops))], rnd.Uint64()
			for _, root := range []string{dir, m.model} {
				ok(m.t, op(root, rand.New(rand.NewPCG(choice, 0)))) //nolint:gosec // The same for both.
			}
		}
	})
}

func (m *history) snapshot(name string) {
	m.t.Helper()
	ok(m.t, m.d.Snapshot(m.t.Context(), snapOf(c1, name)))
	m.was[name] = outline(m.t, m.model)
}

// check checks that a state is what c1 was at a snapshot.
func (m *history) check(v storage.Volume, name string) {
	m.t.Helper()
	in(m.t, m.d, v, func(dir string) {
		got, want := outline(m.t, dir), m.was[name]
		for _, line := range got {
			if !slices.Contains(want, line) {
				m.t.Errorf("%s has %s", v, line)
			}
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				m.t.Errorf("%s lacks %s", v, line)
			}
		}
	})
}

// An operation changes something in a tree, always the same with the same
// numbers.
type operation func(root string, rnd *rand.Rand) error

var gentle = []operation{write1, write1, mkdir, remove1, remove1, link1, chmod1, renameFile, replace}

// pick returns what is in a tree and fits; an empty string if nothing is.
func pick(root string, rnd *rand.Rand, fits func(e os.DirEntry) bool) string {
	var all []string
	_ = filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err == nil && path != root && fits(e) {
			all = append(all, path)
		}
		return err
	})
	if len(all) == 0 {
		return ""
	}
	slices.Sort(all)
	return all[rnd.IntN(len(all))]
}

func isDir(e os.DirEntry) bool  { return e.IsDir() }
func isFile(e os.DirEntry) bool { return e.Type().IsRegular() }
func isAny(os.DirEntry) bool    { return true }

// place returns a name in some directory.
func place(root string, rnd *rand.Rand) string {
	dir := pick(root, rnd, isDir)
	if dir == "" || rnd.IntN(4) == 0 {
		dir = root
	}
	return filepath.Join(dir, fmt.Sprint("n", rnd.IntN(8)))
}

func write1(root string, rnd *rand.Rand) error {
	name := place(root, rnd)
	if st, err := os.Lstat(name); err == nil && !st.Mode().IsRegular() {
		return nil
	}
	return os.WriteFile(name, fmt.Append(nil, rnd.Uint64()), 0o644)
}

func mkdir(root string, rnd *rand.Rand) error {
	name := place(root, rnd)
	if _, err := os.Lstat(name); err == nil {
		return nil
	}
	return os.MkdirAll(filepath.Join(name, "sub"), 0o755)
}

func remove1(root string, rnd *rand.Rand) error {
	if name := pick(root, rnd, isAny); name != "" {
		return os.RemoveAll(name)
	}
	return nil
}

func link1(root string, rnd *rand.Rand) error {
	from, to := pick(root, rnd, isFile), place(root, rnd)
	if _, err := os.Lstat(to); err == nil || from == "" {
		return nil
	}
	return os.Symlink(filepath.Base(from), to)
}

func chmod1(root string, rnd *rand.Rand) error {
	name := pick(root, rnd, func(e os.DirEntry) bool { return isDir(e) || isFile(e) })
	if name == "" {
		return nil
	}
	return os.Chmod(name, os.FileMode(0o700+rnd.IntN(0o100)))
}

func renameFile(root string, rnd *rand.Rand) error {
	from, to := pick(root, rnd, isFile), place(root, rnd)
	if st, err := os.Lstat(to); from == "" || err == nil && st.IsDir() {
		return nil
	}
	return os.Rename(from, to)
}

func renameDir(root string, rnd *rand.Rand) error {
	from, to := pick(root, rnd, isDir), place(root, rnd)
	if _, err := os.Lstat(to); err == nil || from == "" || strings.HasPrefix(to, from+"/") {
		return nil
	}
	return os.Rename(from, to)
}

// replace makes a directory a file, or a file a directory.
func replace(root string, rnd *rand.Rand) error {
	name := pick(root, rnd, isAny)
	if name == "" {
		return nil
	}
	st, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	if st.IsDir() {
		return os.WriteFile(name, fmt.Append(nil, rnd.Uint64()), 0o600)
	}
	if err := os.Mkdir(name, 0o755); err != nil || rnd.IntN(2) == 0 {
		return err
	}
	return os.WriteFile(filepath.Join(name, "in"), nil, 0o600)
}

// outline returns what is in a tree, without times.
func outline(t *testing.T, root string) (lines []string) {
	t.Helper()
	ok(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		st := stat(t, path)
		line := fmt.Sprintf("%q %o", strings.TrimPrefix(path, root), st.Mode)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			ok(t, err)
			line += fmt.Sprintf(" %q", data)
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			ok(t, err)
			line += " to " + to
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

// BenchMany measures what one does with a volume that has 10, 100 and 1,000
// snapshots. None of it is to take longer the more there are.
func BenchMany(b *testing.B, d storage.Driver) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ctx := b.Context()
	must(d.Create(ctx, img))
	change := func(v storage.Volume, i int) {
		dir, err := d.Mount(ctx, v, nil)
		must(err)
		must(os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i%20)), fmt.Append(nil, i), 0o600))
		must(d.Unmount(ctx, v))
	}
	for i := range 2000 {
		if i%100 == 0 {
			change(img, i)
		}
	}
	must(d.Clone(ctx, c1, img))
	name := func(i int) storage.Volume { return snapOf(c1, fmt.Sprint("m", i)) }
	made := 0
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for made < n {
				change(c1, made)
				must(d.Snapshot(ctx, name(made)))
				made++
			}
			times := map[string]time.Duration{}
			timed := func(what string, fn func(ctx context.Context) error) {
				start := time.Now()
				must(fn(ctx))
				times[what] += time.Since(start)
			}
			for b.Loop() {
				change(c1, made)
				timed("snapshot", func(ctx context.Context) error { return d.Snapshot(ctx, name(made)) })
				timed("clone", func(ctx context.Context) error { return d.Clone(ctx, c2, name(made)) })
				timed("mount", func(ctx context.Context) error { _, err := d.Mount(ctx, c2, nil); return err })
				timed("unmount", func(ctx context.Context) error { return d.Unmount(ctx, c2) })
				timed("delete-clone", func(ctx context.Context) error { return d.Delete(ctx, c2) })
				timed("restore", func(ctx context.Context) error { return d.Restore(ctx, name(made)) })
				timed("delete-snapshot", func(ctx context.Context) error { return d.Delete(ctx, name(made)) })
				timed("list", func(ctx context.Context) error { _, err := d.List(ctx); return err })
			}
			for what, took := range times {
				b.ReportMetric(float64(took.Microseconds())/float64(b.N)/1000, "ms/"+what)
			}
		})
	}
}
