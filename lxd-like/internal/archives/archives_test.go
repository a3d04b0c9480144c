package archives_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/archives"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/dir"
	"github.com/cuib/cuib/storage/overlay"
)

// A pool is a pool to write backups of, or to bring them into.
type pool struct {
	driver string
	storage.Driver
}

// pools opens one of each kind.
func pools(t *testing.T) []pool {
	t.Helper()
	testenv.Kernel(t)
	testenv.InMemory(t)
	fs := testenv.Mounted(t, "btrfs", "512M")
	for _, name := range []string{"b", "o"} {
		must(t, os.Mkdir(filepath.Join(fs, name), 0o700))
	}
	return []pool{
		{"dir", openPool(t, dir.Type(), t.TempDir())},
		{"btrfs", openPool(t, btrfs.Type(), filepath.Join(fs, "b"))},
		{"overlay", openPool(t, overlay.Type(), t.TempDir())},
	}
}

var (
	instance = storage.Volume{Kind: storage.Instance, Name: "c1"}
	custom   = storage.Volume{Kind: storage.Custom, Name: "v1"}
)

// make3 makes a volume with two snapshots, each state unlike the others.
func make3(t *testing.T, d storage.Driver, v storage.Volume) {
	t.Helper()
	must(t, d.Create(t.Context(), v))
	root := mount(t, d, v)
	held := filepath.Join(root, "not-there")
	if v.Kind == storage.Instance {
		must(t, os.WriteFile(filepath.Join(root, "metadata.yaml"), []byte("architecture: x86_64\n"), 0o644)) //nolint:gosec // As it is.
		must(t, os.Mkdir(filepath.Join(root, "templates"), 0o755))
		must(t, os.WriteFile(filepath.Join(root, "templates", "a.tpl"), []byte("one"), 0o644)) //nolint:gosec // Likewise.
		held = filepath.Join(root, "tpm.t")
		must(t, os.Mkdir(held, 0o700))
		root = filepath.Join(root, "rootfs")
		must(t, os.Mkdir(root, 0o755))
	}
	fill(t, root)
	hold(t, held, "one")
	snapshot(t, d, v, "s0")
	alter(t, root)
	hold(t, held, "two")
	snapshot(t, d, v, "s1")
	must(t, os.WriteFile(filepath.Join(root, "last"), []byte("last"), 0o600))
	snapshot(t, d, v, ".hidden")
	must(t, d.Unmount(t.Context(), v))
}

// hold is what a TPM writes, if there is one.
func hold(t *testing.T, dir, what string) {
	t.Helper()
	if _, err := os.Stat(dir); err == nil {
		must(t, os.WriteFile(filepath.Join(dir, "tpm2-00.permall"), []byte(what), 0o600))
	}
}

func snapshot(t *testing.T, d storage.Driver, v storage.Volume, name string) {
	t.Helper()
	v.Snapshot = name
	must(t, d.Snapshot(t.Context(), v))
}

func contents(p pool, v storage.Volume) archives.Contents {
	x := archives.Index{Name: v.Name, Backend: p.driver, Pool: "p", Snapshots: []string{"s0", "s1"}, Kind: v.Kind}
	if v.Kind == storage.Instance {
		x.Document = api.Document{
			Instance:  &api.Instance{Name: v.Name, Type: "container"},
			Snapshots: []api.InstanceSnapshot{{Name: "s0"}, {Name: "s1"}, {Name: "s2"}},
		}
	} else {
		x.Document = api.Document{
			Volume:          &api.StorageVolume{Name: v.Name, Type: "custom", ContentType: "filesystem"},
			VolumeSnapshots: []api.StorageVolumeSnapshot{{Name: "s0"}, {Name: "s1"}},
		}
	}
	v.Snapshot = ".hidden"
	return archives.Contents{Index: x, Volume: v, Mount: func(ctx context.Context, v storage.Volume) (string, func(), error) {
		at, err := p.Mount(ctx, v, nil)
		return at, func() { _ = p.Unmount(context.WithoutCancel(ctx), v) }, err
	}}
}

func backup(t *testing.T, p pool, c archives.Contents, how string) []byte {
	t.Helper()
	z, err := archive.ParseCompression(how)
	must(t, err)
	var out bytes.Buffer
	must(t, archives.Write(t.Context(), &out, p.Driver, c, z))
	return out.Bytes()
}

func restore(t *testing.T, p pool, data []byte, v storage.Volume) *archives.Archive {
	t.Helper()
	a, err := archives.Open(t.Context(), bytes.NewReader(data))
	must(t, err)
	defer a.Close()
	must(t, a.Unpack(t.Context(), p.Driver, v, 0))
	return a
}

func TestBackup(t *testing.T) {
	all := pools(t)
	for _, from := range all {
		for _, v := range []storage.Volume{instance, custom} {
			make3(t, from, v)
			data := backup(t, from, contents(from, v), "zstd -1")
			want := states(t, from, v, "s0", "s1")
			to := v
			to.Name += "-of-" + from.driver
			for _, p := range all {
				t.Run(string(v.Kind)+"/"+from.driver+"/"+p.driver, func(t *testing.T) {
					a := restore(t, p, data, to)
					if n := len(a.Document.Snapshots) + len(a.Document.VolumeSnapshots); n != 2 {
						t.Errorf("the document has %d snapshots", n)
					}
					same(t, states(t, p, to, "s0", "s1"), want)
				})
			}
		}
	}
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("state %q is\n%s\nwant\n%s", name, got[name], want[name])
		}
	}
}

func TestBackupOptimized(t *testing.T) {
	to := pools(t)
	for i, from := range pools(t) {
		if _, ok := from.Driver.(storage.Streamer); !ok {
			continue
		}
		for _, v := range []storage.Volume{instance, custom} {
			make3(t, from, v)
			c := contents(from, v)
			c.Optimized = true
			if err := archives.CheckStream(t.Context(), from.Driver, c.Volume); errs.Is(err, errs.Unsupported) && from.driver == "overlay" && v == custom {
				continue // It is a plain directory.
			} else if err != nil {
				t.Fatal(err)
			}
			data := backup(t, from, c, "none")
			for j, p := range to {
				t.Run(string(v.Kind)+"/"+from.driver+"/"+p.driver, func(t *testing.T) {
					if i == j {
						restore(t, p, data, v)
						defer remove(t, p, v, "s0", "s1")
						same(t, states(t, p, v, "s0", "s1"), states(t, from, v, "s0", "s1"))
						return
					}
					a, err := archives.Open(t.Context(), bytes.NewReader(data))
					must(t, err)
					defer a.Close()
					for _, err := range []error{a.CheckDriver(p.Driver), a.Unpack(t.Context(), p.Driver, v, 0)} {
						if !errs.Is(err, errs.Invalid) {
							t.Errorf("got %v", err)
						}
					}
					empty(t, p)
				})
			}
		}
	}
}

func remove(t *testing.T, p pool, v storage.Volume, snapshots ...string) {
	t.Helper()
	for _, name := range append(snapshots, "") {
		v.Snapshot = name
		must(t, p.Unmount(t.Context(), v))
		must(t, p.Delete(t.Context(), v))
	}
}

func empty(t *testing.T, p pool) {
	t.Helper()
	all, err := p.List(t.Context())
	must(t, err)
	if len(all) > 0 {
		t.Errorf("left are %v", all)
	}
}

// TestBackupShares tests that the states of a backup share again what they
// had in common.
func TestBackupShares(t *testing.T) {
	for _, p := range pools(t)[1:] {
		t.Run(p.driver, func(t *testing.T) {
			must(t, p.Create(t.Context(), instance))
			root := filepath.Join(mount(t, p, instance), "rootfs")
			must(t, os.Mkdir(root, 0o755))
			must(t, os.WriteFile(filepath.Join(root, "large"), bytes.Repeat([]byte("\x01"), 8<<20), 0o600))
			for _, name := range []string{"s0", "s1", ".hidden"} {
				must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o600))
				snapshot(t, p, instance, name)
			}
			to := storage.Volume{Kind: storage.Instance, Name: "to"}
			restore(t, p, backup(t, p, contents(p, instance), "gzip"), to)
			testenv.Run(t, "sync")
			for _, name := range []string{"s1", ""} {
				to.Snapshot = name
				used, err := p.Usage(t.Context(), to)
				must(t, err)
				if used > 4<<20 {
					t.Errorf("%v takes %d bytes of its own", to, used)
				}
			}
		})
	}
}

// TestOptimizedDamaged cuts backups off that are made of a driver's streams,
// and flips bits of them.
func TestOptimizedDamaged(t *testing.T) {
	to := pools(t)
	for i, from := range pools(t) {
		if _, ok := from.Driver.(storage.Streamer); !ok {
			continue
		}
		t.Run(from.driver, func(t *testing.T) {
			make3(t, from, instance)
			c := contents(from, instance)
			c.Optimized = true
			good := backup(t, from, c, "none")
			try := func(what string, data []byte, kinds ...errs.Kind) {
				t.Helper()
				err := unpack(t.Context(), to[i].Driver, data)
				if err != nil && !slices.Contains(kinds, errs.KindOf(err)) || err == nil && len(kinds) == 1 {
					t.Errorf("%s: %v", what, err)
				}
				if err == nil {
					remove(t, to[i], storage.Volume{Kind: storage.Instance, Name: "x"}, "s0", "s1")
				}
				empty(t, to[i])
			}
			for n := range 6 {
				size := (len(good) - 2048) * n / 5
				try(fmt.Sprintf("%d of %d bytes", size, len(good)), good[:size], errs.Invalid)
			}
			for n := range 12 {
				at := len(good) * (2*n + 1) / 24
				damaged := bytes.Clone(good)
				damaged[at] ^= 1 << (n % 8)
				try(fmt.Sprintf("byte %d of %d flipped", at, len(good)), damaged, errs.Invalid, errs.Unsupported)
			}
		})
	}
}

// TestOptimizedHostile has streams of volumes in which links are where the
// daemon itself reads and writes.
func TestOptimizedHostile(t *testing.T) {
	to := pools(t)
	for i, from := range pools(t) {
		if _, ok := from.Driver.(storage.Streamer); !ok {
			continue
		}
		for _, name := range []string{"rootfs", "metadata.yaml", "templates"} {
			t.Run(from.driver+"/"+name, func(t *testing.T) {
				v := storage.Volume{Kind: storage.Instance, Name: "h"}
				make3(t, from, v)
				defer remove(t, from, v, "s0", "s1", ".hidden")
				at := filepath.Join(mount(t, from, v), name)
				must(t, os.RemoveAll(at))
				host := t.TempDir()
				must(t, os.Symlink(host, at))
				must(t, from.Unmount(t.Context(), v))
				c := contents(from, v)
				c.Optimized = true
				c.Volume.Snapshot = ""
				err := unpack(t.Context(), to[i].Driver, backup(t, from, c, "none"))
				if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), name) {
					t.Errorf("got %v", err)
				}
				empty(t, to[i])
				if left, err := os.ReadDir(host); err != nil || len(left) > 0 {
					t.Errorf("on the host are %v, %v", left, err)
				}
			})
		}
	}
}
