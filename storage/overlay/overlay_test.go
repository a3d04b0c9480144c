package overlay_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/overlay"
	"github.com/cuib/cuib/storage/storagetest"
)

var ids = idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1600000, Size: 65536}}

func vol(name string) storage.Volume { return storage.Volume{Kind: storage.Instance, Name: name} }

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestDriver(t *testing.T) {
	testenv.Kernel(t)
	storagetest.Run(t, func(t *testing.T) storagetest.Pool { return newPool(t, storage.Config{}) })
}

func TestDriverOn(t *testing.T) {
	for _, fs := range []string{"xfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			mnt := testenv.Mounted(t, fs, "512M")
			t.Cleanup(mounts.Settle) // Before it is unmounted.
			storagetest.Run(t, func(t *testing.T) storagetest.Pool {
				return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
			})
		})
	}
}

func TestDriverWithQuotas(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs"} {
		t.Run(fs, func(t *testing.T) {
			mnt := testenv.MountedWithQuotas(t, fs, "512M")
			t.Cleanup(mounts.Settle) // Before it is unmounted.
			storagetest.Run(t, func(t *testing.T) storagetest.Pool {
				p := newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
				p.Limits = true
				return p
			})
		})
	}
}

// newPool makes a pool that goes away with the test.
func newPool(tb testing.TB, cfg storage.Config) storagetest.Pool {
	tb.Helper()
	cfg.Name, cfg.Dir = "p", tb.TempDir()
	cfg, err := overlay.Type().Make(tb.Context(), cfg)
	ok(tb, err)
	tb.Cleanup(mounts.Settle)
	open := func(tb testing.TB) storage.Driver {
		tb.Helper()
		d, err := overlay.Type().Open(tb.Context(), cfg)
		ok(tb, err)
		return d
	}
	dir := cfg.Source
	if dir == "" {
		dir = filepath.Join(cfg.Dir, "data")
	}
	return storagetest.Pool{
		Driver: open(tb), Dir: dir,
		Reopen: func(t *testing.T) storage.Driver { t.Helper(); return open(t) },
	}
}

func TestAdopt(t *testing.T) {
	testenv.Kernel(t)
	for name, source := range map[string]string{"with a source": filepath.Join(t.TempDir(), "source"), "without": ""} {
		t.Run(name, func(t *testing.T) {
			newPool := func(t *testing.T) storage.Config {
				t.Helper()
				return storage.Config{Name: "p", Dir: filepath.Join(t.TempDir(), "p"), Source: source}
			}
			storagetest.Adopt(t, overlay.Type(), newPool, func(*testing.T, storage.Config) { mounts.Settle() })
		})
	}
}

// TestCustomVolumesArePlain has no link in one pass for what is below it, and
// contents go from one kind of volume to the other.
func TestCustomVolumesArePlain(t *testing.T) {
	testenv.Kernel(t)
	p := newPool(t, storage.Config{})
	d := p.Driver
	custom, back := storage.Volume{Kind: storage.Custom, Name: "c"}, storage.Volume{Kind: storage.Custom, Name: "back"}
	ok(t, d.Create(t.Context(), custom))
	dir, err := d.Mount(t.Context(), custom, nil)
	ok(t, err)
	ok(t, os.Symlink("abcd", filepath.Join(dir, "top")))
	ok(t, os.Mkdir(filepath.Join(dir, "upper"), 0o700))
	ok(t, d.Unmount(t.Context(), custom))

	d = p.Reopen(t)
	ok(t, d.Clone(t.Context(), vol("v"), custom))
	dir, err = d.Mount(t.Context(), vol("v"), nil)
	ok(t, err)
	ok(t, os.Mkdir(filepath.Join(dir, "more"), 0o700))
	for _, name := range []string{"of one directory", "of two"} {
		ok(t, d.Clone(t.Context(), back, vol("v")))
		in, err := d.Mount(t.Context(), back, nil)
		ok(t, err)
		if link, err := os.Readlink(filepath.Join(in, "top")); err != nil || link != "abcd" {
			t.Errorf("%s: the link is %q, %v", name, link, err)
		}
		ok(t, d.Unmount(t.Context(), back))
		ok(t, d.Delete(t.Context(), back))
		ok(t, d.Unmount(t.Context(), vol("v")))
		ok(t, d.Clone(t.Context(), vol("w"+name[3:6]), vol("v")))
		_, err = d.Mount(t.Context(), vol("v"), nil)
		ok(t, err)
	}
	ok(t, d.Unmount(t.Context(), vol("v")))
}

func TestKilled(t *testing.T) {
	testenv.Kernel(t)
	storagetest.Kill(t, overlay.Type(), func(t *testing.T) storage.Config {
		t.Helper()
		cfg, err := overlay.Type().Make(t.Context(), storage.Config{Name: "p", Dir: t.TempDir()})
		ok(t, err)
		return cfg
	})
}

func TestMakeRefuses(t *testing.T) {
	testenv.Kernel(t)
	full := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(full, "f"), nil, 0o600))
	for name, tt := range map[string]struct {
		source string
		size   string
		kind   errs.Kind
	}{
		"a directory with data": {source: full, kind: errs.Invalid},
		"a file":                {source: filepath.Join(full, "f"), kind: errs.Invalid},
		"a relative path":       {source: "pool", kind: errs.Invalid},
		"a size":                {size: "1GiB", kind: errs.Invalid},
		"an overlayfs":          {source: overlayfs(t), kind: errs.Unsupported},
		"a procfs":              {source: "/proc/self/cuib", kind: errs.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := storage.Config{Name: "p", Dir: t.TempDir(), Source: tt.source, Options: map[string]string{"size": tt.size}}
			_, err := overlay.Type().Make(t.Context(), cfg)
			if !errs.Is(err, tt.kind) {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if left, err := os.ReadDir(full); err != nil || len(left) != 1 {
		t.Errorf("the source now holds %v, %v", left, err)
	}
}

// overlayfs returns a directory on an overlayfs.
func overlayfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"lower", "upper", "work", "mnt"} {
		ok(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	f, err := mounts.Overlay{Root: dir, Lower: []string{"lower"}, Upper: "upper", Work: "work"}.Mount()
	ok(t, err)
	mnt := filepath.Join(dir, "mnt")
	ok(t, mounts.Attach(f, mnt))
	ok(t, f.Close())
	t.Cleanup(func() { ok(t, mounts.Unmount(mnt)) })
	return mnt
}

func TestMakeAndRemove(t *testing.T) {
	testenv.Kernel(t)
	for _, source := range []string{"", t.TempDir()} {
		cfg := storage.Config{Name: "p", Dir: filepath.Join(t.TempDir(), "p"), Source: source}
		typ := overlay.Type()
		ok(t, typ.Check(t.Context()))
		cfg, err := typ.Make(t.Context(), cfg)
		ok(t, err)
		cfg, err = typ.Make(t.Context(), cfg)
		ok(t, err) // It is empty.
		d, err := typ.Open(t.Context(), cfg)
		ok(t, err)
		ok(t, d.Create(t.Context(), vol("c1")))
		if _, err := typ.Make(t.Context(), cfg); !errs.Is(err, errs.Invalid) {
			t.Errorf("making it again: %v", err)
		}
		if err := typ.Remove(t.Context(), cfg); !errs.Is(err, errs.Conflict) {
			t.Errorf("removing a pool with volumes: %v", err)
		}
		ok(t, d.Delete(t.Context(), vol("c1")))
		ok(t, typ.Remove(t.Context(), cfg))
		ok(t, typ.Remove(t.Context(), cfg))
		for _, dir := range []string{cfg.Dir, source} {
			if left, err := os.ReadDir(dir); dir != "" && (err != nil || len(left) > 0) {
				t.Errorf("left behind in %s: %v, %v", dir, left, err)
			}
		}
		if _, err := typ.Open(t.Context(), cfg); !errs.Is(err, errs.Unavailable) {
			t.Errorf("opening a pool that is gone: %v", err)
		}
	}
}

// TestDeepChain has each generation add, change and remove a file, until the
// layers are flattened and beyond.
func TestDeepChain(t *testing.T) {
	testenv.Kernel(t)
	p := newPool(t, storage.Config{})
	d := p.Driver
	const n = 140
	ok(t, d.Create(t.Context(), vol("v0")))
	for i := range n {
		dir, err := d.Mount(t.Context(), vol(fmt.Sprint("v", i)), nil)
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), nil, 0o600))
		ok(t, os.WriteFile(filepath.Join(dir, "last"), fmt.Append(nil, i), 0o600))
		if i%2 == 1 {
			ok(t, os.Remove(filepath.Join(dir, fmt.Sprint("f", i-1))))
		}
		ok(t, d.Unmount(t.Context(), vol(fmt.Sprint("v", i))))
		ok(t, d.Clone(t.Context(), vol(fmt.Sprint("v", i+1)), vol(fmt.Sprint("v", i))))
	}
	dir, err := d.Mount(t.Context(), vol(fmt.Sprint("v", n)), nil)
	ok(t, err)
	entries, err := os.ReadDir(dir)
	ok(t, err)
	if len(entries) != n/2+1 {
		t.Errorf("the last clone holds %d files", len(entries))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "last")); err != nil || string(b) != fmt.Sprint(n-1) {
		t.Errorf("the file holds %q, %v", b, err)
	}
	ok(t, d.Unmount(t.Context(), vol(fmt.Sprint("v", n))))

	d = p.Reopen(t)
	for i := range n + 1 {
		ok(t, d.Delete(t.Context(), vol(fmt.Sprint("v", i))))
	}
	if left := layersIn(t, p); len(left) > 0 {
		t.Errorf("layers left behind: %v", left)
	}
}

// TestReadDeepSnapshot copies a snapshot above as many layers as there can be,
// which somebody reads meanwhile.
func TestReadDeepSnapshot(t *testing.T) {
	testenv.Kernel(t)
	d := newPool(t, storage.Config{}).Driver
	v, snap := vol("v"), storage.Volume{Kind: storage.Instance, Name: "v", Snapshot: "last"}
	ok(t, d.Create(t.Context(), v))
	for i := range 64 {
		dir, err := d.Mount(t.Context(), v, nil)
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(dir, "f"), fmt.Append(nil, i), 0o600))
		ok(t, d.Unmount(t.Context(), v))
		ok(t, d.Snapshot(t.Context(), storage.Volume{Kind: storage.Instance, Name: "v", Snapshot: fmt.Sprint(i)}))
	}
	dir, err := d.Mount(t.Context(), v, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("last"), 0o600))
	ok(t, d.Snapshot(t.Context(), snap)) // It has a part of its own.
	ok(t, d.Unmount(t.Context(), v))
	dir, err = d.Mount(t.Context(), snap, nil)
	ok(t, err)
	ok(t, d.Clone(t.Context(), vol("copy"), snap))
	ok(t, d.Restore(t.Context(), snap))
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "last" {
		t.Errorf("who reads the snapshot finds %q, %v", b, err)
	}
	ok(t, d.Unmount(t.Context(), snap))
}

func layersIn(t *testing.T, p storagetest.Pool) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(p.Dir, "layers"))
	ok(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestImageCloneCopiesNothing has an image's files be the clones' own.
func TestImageCloneCopiesNothing(t *testing.T) {
	testenv.Kernel(t)
	p := newPool(t, storage.Config{})
	d := p.Driver
	image := storage.Volume{Kind: storage.Image, Name: "i"}
	ok(t, d.Create(t.Context(), image))
	dir, err := d.Mount(t.Context(), image, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600))
	ino := inode(t, filepath.Join(dir, "f"))
	ok(t, d.Unmount(t.Context(), image))
	for i := range 3 {
		v := vol(fmt.Sprint("v", i))
		ok(t, d.Clone(t.Context(), v, image))
		dir, err := d.Mount(t.Context(), v, ids)
		ok(t, err)
		if got := inode(t, filepath.Join(dir, "f")); got != ino {
			t.Errorf("the clone's file is %d, the image's %d", got, ino)
		}
		ok(t, d.Unmount(t.Context(), v))
	}
	if n := len(layersIn(t, p)); n != 1 {
		t.Errorf("%d layers, want 1", n)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	ok(t, unix.Lstat(path, &st))
	return st.Ino
}

// TestCrashWhileSealing plants what a daemon leaves that ends between the
// steps of a seal.
func TestCrashWhileSealing(t *testing.T) {
	testenv.Kernel(t)
	p := newPool(t, storage.Config{})
	d := p.Driver
	ok(t, d.Create(t.Context(), vol("c1")))
	dir, err := d.Mount(t.Context(), vol("c1"), nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600))
	ok(t, d.Unmount(t.Context(), vol("c1")))
	ok(t, d.Clone(t.Context(), vol("c2"), vol("c1")))
	before := layersIn(t, p)

	state := filepath.Join(p.Dir, "layers", "abcd")
	ok(t, os.MkdirAll(filepath.Join(state, "upper"), 0o700))
	ok(t, os.Symlink("abcd", filepath.Join(state, "top")))
	d = p.Reopen(t)
	if after := layersIn(t, p); !slices.Equal(before, after) {
		t.Errorf("layers are %v, were %v", after, before)
	}
	dir, err = d.Mount(t.Context(), vol("c2"), nil)
	ok(t, err)
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "x" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	ok(t, d.Unmount(t.Context(), vol("c2")))
}

// TestFullDisk has clones and snapshots fail on a full disk and leave
// nothing.
func TestFullDisk(t *testing.T) {
	mnt := testenv.Mounted(t, "ext4", "16M")
	p := newPool(t, storage.Config{Source: filepath.Join(mnt, "p")})
	d := p.Driver
	ok(t, d.Create(t.Context(), vol("c1")))
	dir, err := d.Mount(t.Context(), vol("c1"), nil)
	ok(t, err)
	f, err := os.Create(filepath.Join(dir, "big"))
	ok(t, err)
	for err == nil {
		_, err = f.Write(bytes.Repeat([]byte("x"), 1<<16)) // Copies of zeros take no room.
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	ok(t, f.Close())
	snap := vol("c1")
	snap.Snapshot = "s"
	if err := d.Snapshot(t.Context(), snap); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a snapshot of the mounted volume: %v", err)
	}
	staged, err := os.ReadDir(filepath.Join(p.Dir, "staging"))
	if err != nil || len(staged) > 0 {
		t.Errorf("left behind: %v, %v", staged, err)
	}
	ok(t, os.Remove(filepath.Join(dir, "big")))
	ok(t, d.Unmount(t.Context(), vol("c1")))
	ok(t, d.Snapshot(t.Context(), snap))
	mounts.Settle()
}

func BenchmarkCloneAndMount(b *testing.B) {
	testenv.Kernel(b)
	d := newPool(b, storage.Config{}).Driver
	image := storage.Volume{Kind: storage.Image, Name: "i"}
	ok(b, d.Create(b.Context(), image))
	ok(b, d.Clone(b.Context(), vol("first"), image))
	i := 0
	for b.Loop() {
		v := vol(fmt.Sprint("v", i))
		ok(b, d.Clone(b.Context(), v, image))
		_, err := d.Mount(b.Context(), v, ids)
		ok(b, err)
		b.StopTimer()
		ok(b, d.Unmount(b.Context(), v))
		ok(b, d.Delete(b.Context(), v))
		i++
		b.StartTimer()
	}
}
