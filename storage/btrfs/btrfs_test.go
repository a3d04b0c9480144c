package btrfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/storagetest"
)

var (
	c1   = storage.Volume{Kind: storage.Instance, Name: "c1"}
	c2   = storage.Volume{Kind: storage.Instance, Name: "c2"}
	snap = storage.Volume{Kind: storage.Instance, Name: "c1", Snapshot: "s0"}
	ids  = idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1700000, Size: 65536}}
)

func ok(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func TestDriver(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "1G")
	storagetest.Run(t, func(t *testing.T) storagetest.Pool {
		return newPool(t, storage.Config{Source: filepath.Join(mnt, filepath.Base(t.Name()))})
	})
}

func TestAdopt(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	mnt := testenv.Mounted(t, "btrfs", "300M")
	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	ok(t, os.Truncate(file, 300<<20))
	for name, source := range map[string]string{
		"a new file": "", "a device": loopDevice(t), "a file": file,
		"a directory": filepath.Join(mnt, "p"), "a file system": mnt,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			reboot := func(t *testing.T, cfg storage.Config) {
				t.Helper()
				mounts.Settle()
				ok(t, mounts.Unmount(filepath.Join(cfg.Dir, "data")))
			}
			t.Cleanup(func() { reboot(t, storage.Config{Dir: filepath.Join(dir, "p")}) })
			newPool := func(t *testing.T) storage.Config {
				t.Helper()
				cfg := storage.Config{Name: "p", Dir: filepath.Join(dir, "p"), Source: source}
				if source == "" {
					cfg.Options = map[string]string{"size": "300MiB"}
				}
				return cfg
			}
			storagetest.Adopt(t, btrfs.Type(), newPool, reboot)
			for _, path := range []string{source, mnt} {
				if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
					t.Errorf("%s holds %v", path, entries)
				}
			}
		})
	}
}

func TestKilled(t *testing.T) {
	testenv.Kernel(t)
	storagetest.Kill(t, btrfs.Type(), func(t *testing.T) storage.Config {
		t.Helper()
		return makePool(t, onFile(t, map[string]string{"size": "300MiB"}))
	})
}

// newPool makes a pool that goes away with the test.
func newPool(tb testing.TB, cfg storage.Config) storagetest.Pool {
	tb.Helper()
	cfg.Name, cfg.Dir = "p", tb.TempDir()
	cfg = makePool(tb, cfg)
	dir := cfg.Source
	if dir == "" {
		dir = filepath.Join(cfg.Dir, "data")
	}
	return storagetest.Pool{
		Driver: openPool(tb, cfg), Dir: dir, Limits: true, Tunes: map[string]string{"btrfs.compression": "zstd"},
		Reopen: func(t *testing.T) storage.Driver { t.Helper(); return openPool(t, cfg) },
	}
}

func makePool(tb testing.TB, cfg storage.Config) storage.Config {
	tb.Helper()
	cfg, err := btrfs.Type().Make(tb.Context(), cfg)
	ok(tb, err)
	tb.Cleanup(func() {
		mounts.Settle()
		ok(tb, mounts.Unmount(filepath.Join(cfg.Dir, "data")))
	})
	return cfg
}

func openPool(tb testing.TB, cfg storage.Config) storage.Driver {
	tb.Helper()
	d, err := btrfs.Type().Open(tb.Context(), cfg)
	ok(tb, err)
	return d
}

func onFile(t *testing.T, options map[string]string) storage.Config {
	t.Helper()
	return storage.Config{Name: "p", Dir: filepath.Join(t.TempDir(), "p"), Options: options}
}

// live makes, uses, reboots and removes a pool.
func live(t *testing.T, cfg storage.Config) {
	t.Helper()
	typ := btrfs.Type()
	ok(t, typ.Check(t.Context()))
	cfg = makePool(t, cfg)
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), c1))
	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
	ok(t, d.Unmount(t.Context(), c1))
	if err := typ.Remove(t.Context(), cfg); !errs.Is(err, errs.Conflict) {
		t.Errorf("removing a pool with volumes: %v", err)
	}

	mounts.Settle()
	ok(t, mounts.Unmount(filepath.Join(cfg.Dir, "data"))) // As a reboot does.
	d = openPool(t, cfg)
	dir, err = d.Mount(t.Context(), c1, nil)
	ok(t, err)
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		t.Error(err)
	}
	ok(t, d.Unmount(t.Context(), c1))
	ok(t, d.Delete(t.Context(), c1))
	ok(t, typ.Remove(t.Context(), cfg))
	ok(t, typ.Remove(t.Context(), cfg))
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPoolOnFile(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	live(t, onFile(t, map[string]string{"size": "300MiB", "btrfs.mount_options": "noatime,compress=zstd"}))
}

func TestPoolOnFileOfDefaultSize(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	cfg := makePool(t, onFile(t, nil))
	st, err := os.Stat(filepath.Join(cfg.Dir, "btrfs.img"))
	ok(t, err)
	if st.Size() < 5<<30 || st.Size() > 30<<30 || cfg.Options["size"] != fmt.Sprint(st.Size()) {
		t.Errorf("the file has %d bytes, the key size is %q", st.Size(), cfg.Options["size"])
	}
}

func TestPoolOnDevice(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs", "mkfs.ext4")
	device := loopDevice(t)
	cfg := storage.Config{Name: "p", Source: device}
	for range 2 { // It is empty again after the first.
		cfg.Dir = filepath.Join(t.TempDir(), "p")
		live(t, cfg)
	}
	testenv.Run(t, "mkfs.ext4", "-q", device)
	cfg.Dir = t.TempDir()
	_, err := btrfs.Type().Make(t.Context(), cfg)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "holds data") {
		t.Errorf("on a device with data: %v", err)
	}
	if out := testenv.Run(t, "blkid", "-p", "-o", "value", "-s", "TYPE", device); out != "ext4" {
		t.Errorf("the device now holds %q", out)
	}
}

func loopDevice(t *testing.T) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	ok(t, err)
	ok(t, errors.Join(f.Truncate(300<<20), f.Close()))
	loop, err := mounts.Loop(f.Name())
	ok(t, err)
	t.Cleanup(func() { ok(t, loop.Close()) })
	return loop.Name()
}

func TestPoolInDirectory(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "300M")
	ours, theirs := filepath.Join(mnt, "ours"), filepath.Join(mnt, "theirs")
	ok(t, os.Mkdir(theirs, 0o700))
	for _, source := range []string{ours, theirs} {
		live(t, storage.Config{Name: "p", Dir: filepath.Join(t.TempDir(), "p"), Source: source})
	}
	if _, err := os.Stat(ours); err == nil {
		t.Error("the directory that was made for the pool is still there")
	}
	if left, err := os.ReadDir(theirs); err != nil || len(left) > 0 {
		t.Errorf("the directory that was there holds %v, %v", left, err)
	}
}

// TestPoolOnGivenFile takes a file that is there, and gives it back empty.
func TestPoolOnGivenFile(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	file := filepath.Join(t.TempDir(), "disk")
	ok(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	cfg := storage.Config{Name: "p", Dir: filepath.Join(t.TempDir(), "p"), Source: file}
	if _, err := btrfs.Type().Make(t.Context(), cfg); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "256MiB") {
		t.Errorf("a small file: %v", err)
	}
	cfg.Options = map[string]string{"size": "300MiB"}
	live(t, cfg)
	ok(t, os.WriteFile(file, append(make([]byte, 5<<20), "treasure"...), 0o600))
	ok(t, os.Truncate(file, 300<<20))
	cfg.Options = nil
	if _, err := btrfs.Type().Make(t.Context(), cfg); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "holds data") {
		t.Errorf("a file with data: %v", err)
	}
	cfg.Options = map[string]string{"source.wipe": "true"}
	live(t, cfg)
}

// TestDeviceWithAnotherName has a pool's device be found again by what is on
// it, and nothing else be taken for it.
func TestDeviceWithAnotherName(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	dir, device, other := t.TempDir(), loopDevice(t), loopDevice(t)
	link := filepath.Join(dir, "name")
	ok(t, os.Symlink(device, link))
	cfg := makePool(t, storage.Config{Name: "p", Dir: filepath.Join(dir, "p"), Source: link})
	ok(t, openPool(t, cfg).Create(t.Context(), c1))
	reboot := func() {
		t.Helper()
		mounts.Settle()
		ok(t, mounts.Unmount(filepath.Join(cfg.Dir, "data")))
	}
	for _, target := range []string{other, filepath.Join(dir, "nothing")} {
		reboot()
		ok(t, os.Remove(link))
		ok(t, os.Symlink(target, link))
		vols, err := openPool(t, cfg).List(t.Context())
		if err != nil || len(vols) != 1 {
			t.Errorf("with the name of %s: %v, %v", target, vols, err)
		}
	}
	reboot()
	cfg.Options["volatile.uuid"] = "00000000-0000-0000-0000-000000000000"
	ok(t, os.Remove(link))
	ok(t, os.Symlink(device, link))
	if _, err := btrfs.Type().Open(t.Context(), cfg); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "another file system") {
		t.Errorf("another file system: %v", err)
	}
}

// TestDeviceHeldElsewhere names who has the device of a pool that is deleted.
func TestDeviceHeldElsewhere(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	for name, source := range map[string]string{"a device": loopDevice(t), "a file": ""} {
		t.Run(name, func(t *testing.T) {
			cfg := onFile(t, map[string]string{"size": "300MiB"})
			if source != "" {
				cfg.Source, cfg.Options = source, nil
			}
			cfg = makePool(t, cfg)
			openPool(t, cfg)
			release := storagetest.Hold(t, cfg.Dir, 3)
			err := btrfs.Type().Remove(t.Context(), cfg)
			if source == "" {
				ok(t, err) // What it has becomes free when they end.
				return
			}
			if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "(sleep)") {
				t.Errorf("while others have it: %v", err)
			}
			openPool(t, cfg) // It is whole.
			release()
			cmd := exec.CommandContext(t.Context(), "sleep", "1000")
			cmd.Dir = filepath.Join(cfg.Dir, "data")
			ok(t, cmd.Start())
			err = btrfs.Type().Remove(t.Context(), cfg)
			if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
				t.Errorf("while one works in it: %v", err)
			}
			_, _ = cmd.Process.Kill(), cmd.Wait()
			// A test beside may have copied all mounts.
			testenv.Eventually(t, "it can be removed", func() bool {
				err = btrfs.Type().Remove(t.Context(), cfg)
				return !errs.Is(err, errs.Conflict)
			})
			ok(t, err)
		})
	}
}

// TestFileMountedNowhere has a pool's file be wiped only after the last mount of
// it, here in a mount namespace without processes, for the kernel would write
// to it again.
func TestFileMountedNowhere(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	file := filepath.Join(t.TempDir(), "disk")
	ok(t, os.WriteFile(file, nil, 0o600))
	ok(t, os.Truncate(file, 300<<20))
	cfg := makePool(t, storage.Config{Name: "p", Dir: filepath.Join(t.TempDir(), "p"), Source: file})
	ok(t, openPool(t, cfg).Create(t.Context(), c1))
	ok(t, openPool(t, cfg).Delete(t.Context(), c1))
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", "echo; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	_, err = out.Read(make([]byte, 1)) // It has its namespace.
	ok(t, err)
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
	ok(t, err)
	_, _ = cmd.Process.Kill(), cmd.Wait()
	if err := btrfs.Type().Remove(t.Context(), cfg); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), file) {
		t.Errorf("while it is mounted: %v", err)
	}
	ok(t, ns.Close())
	testenv.Eventually(t, "it can be removed", func() bool {
		err = btrfs.Type().Remove(t.Context(), cfg)
		return !errs.Is(err, errs.Conflict)
	})
	ok(t, err)
	if data, err := os.ReadFile(file); err != nil || len(bytes.Trim(data, "\x00")) > 0 {
		t.Errorf("the file is not empty (%v)", err)
	}
}

// TestAdjust changes the mount options of a pool in use.
func TestAdjust(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	cfg := makePool(t, onFile(t, map[string]string{"size": "300MiB", "btrfs.create_options": "-m single --label cuib"}))
	d := openPool(t, cfg)
	a, can := d.(storage.Adjuster)
	if !can {
		t.Fatal("the driver cannot adjust pools")
	}
	ok(t, a.Adjust(t.Context(), map[string]string{"btrfs.mount_options": "noatime,compress=zstd"}))
	info, err := mounts.Find(filepath.Join(cfg.Dir, "data"))
	ok(t, err)
	if text := strings.Join(info.Options, ","); !strings.Contains(text, "noatime") || !strings.Contains(text, "compress=zstd") {
		t.Errorf("mounted with %s", text)
	}
	err = a.Adjust(t.Context(), map[string]string{"btrfs.mount_options": "nonsense"})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("an option that there is not: %v", err)
	}
	out := testenv.Run(t, "btrfs", "filesystem", "label", filepath.Join(cfg.Dir, "data"))
	if out != "cuib" {
		t.Errorf("the label is %q", out)
	}
	_, err = btrfs.Type().Make(t.Context(), onFile(t, map[string]string{"size": "300MiB", "btrfs.create_options": "--nonsense"}))
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "create_options") {
		t.Errorf("an option that mkfs does not have: %v", err)
	}
}

// TestCompression has what is written after Tune be compressed, below what
// was there before too.
func TestCompression(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "300M")
	testenv.Kernel(t, "btrfs")
	d := newPool(t, storage.Config{Source: filepath.Join(mnt, "p")}).Driver
	ok(t, d.Create(t.Context(), c1))
	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	ok(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	tuner, can := d.(storage.Tuner)
	if !can {
		t.Fatal("the driver's volumes have no options")
	}
	ok(t, tuner.Tune(t.Context(), c1, map[string]string{"btrfs.compression": "zstd"}))
	file := filepath.Join(dir, "a/b/f")
	ok(t, os.WriteFile(file, nil, 0o600))
	if out := testenv.Run(t, "btrfs", "property", "get", file, "compression"); out != "compression=zstd" {
		t.Errorf("a new file has %q", out)
	}
	ok(t, tuner.Tune(t.Context(), c1, nil))
	if out := testenv.Run(t, "btrfs", "property", "get", filepath.Dir(file), "compression"); out != "" {
		t.Errorf("the default is %q", out)
	}
	ok(t, d.Unmount(t.Context(), c1))
}

func TestMakeRefuses(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	full := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(full, "f"), nil, 0o600))
	for name, tt := range map[string]struct {
		source, size, text string
	}{
		"a size too small":               {size: "1MiB", text: "256MiB"},
		"a bad size":                     {size: "much", text: "size"},
		"a relative source":              {source: "pool", text: "absolute"},
		"a device that is not there":     {source: "/dev/nothing/here", text: "not there"},
		"a directory with data":          {source: full, text: "not empty"},
		"a directory on something else":  {source: t.TempDir(), text: "not on a btrfs"},
		"a new one on something else":    {source: filepath.Join(t.TempDir(), "new"), text: "not on a btrfs"},
		"a directory without its parent": {source: filepath.Join(t.TempDir(), "no", "new"), text: "does not exist"},
		"a size for a directory":         {source: t.TempDir(), size: "1GiB", text: "size"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := storage.Config{Name: "p", Dir: t.TempDir(), Source: tt.source, Options: map[string]string{"size": tt.size}}
			_, err := btrfs.Type().Make(t.Context(), cfg)
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestGrow(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	cfg := makePool(t, onFile(t, map[string]string{"size": "300MiB"}))
	d := openPool(t, cfg)
	size := func() uint64 {
		t.Helper()
		spacer, can := d.(storage.Spacer)
		if !can {
			t.Fatal("the driver does not tell its room")
		}
		space, err := spacer.Space(t.Context())
		ok(t, err)
		return space.TotalBytes
	}
	g, can := d.(storage.Grower)
	if !can {
		t.Fatal("the driver cannot grow")
	}
	for range 2 {
		ok(t, g.Grow(t.Context(), 500<<20))
		if got := size(); got != 500<<20 {
			t.Errorf("the pool has %d bytes", got)
		}
	}
	ok(t, d.Create(t.Context(), c1))
	other := newPool(t, storage.Config{Source: filepath.Join(testenv.Mounted(t, "btrfs", "300M"), "p")})
	if g, can := other.Driver.(storage.Grower); !can || !errs.Is(g.Grow(t.Context(), 1<<30), errs.Invalid) {
		t.Error("a pool in a directory grows")
	}
}

// TestNestedSubvolumes has a guest make subvolumes of its own.
func TestNestedSubvolumes(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "300M")
	testenv.Kernel(t, "btrfs")
	p := newPool(t, storage.Config{Source: filepath.Join(mnt, "p")})
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	ok(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700))
	for _, name := range []string{"s", "a/b/s", "a/b/s/t", "a/b/s/t/u"} {
		testenv.Run(t, "btrfs", "subvolume", "create", filepath.Join(dir, name))
	}
	ok(t, os.WriteFile(filepath.Join(dir, "a/b/s/t/u/f"), nil, 0o600))
	testenv.Run(t, "btrfs", "subvolume", "snapshot", "-r", filepath.Join(dir, "a/b/s"), filepath.Join(dir, "r"))
	ok(t, d.Unmount(t.Context(), c1))
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Clone(t.Context(), c2, c1))
	if err := d.Restore(t.Context(), snap); !errs.Is(err, errs.Conflict) {
		t.Errorf("restored: %v", err)
	}
	for _, v := range []storage.Volume{snap, c1, c2} {
		ok(t, d.Delete(t.Context(), v))
	}
	if out := testenv.Run(t, "btrfs", "subvolume", "list", mnt); strings.Count(out, "\n") != 0 {
		t.Errorf("left behind:\n%s", out)
	}
}

// TestQuotaGroupsGo has no quota group outlive its volume, as new ones would
// count in vain.
func TestQuotaGroupsGo(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "300M")
	testenv.Kernel(t, "btrfs")
	p := newPool(t, storage.Config{Source: filepath.Join(mnt, "p")})
	d := p.Driver
	groups := func() int {
		t.Helper()
		testenv.Run(t, "btrfs", "filesystem", "sync", mnt) // Wakes what removes subvolumes.
		testenv.Run(t, "btrfs", "subvolume", "sync", mnt)
		return strings.Count(testenv.Run(t, "btrfs", "qgroup", "show", mnt), "0/")
	}
	ok(t, d.Create(t.Context(), c1))
	l, can := d.(storage.Limiter)
	if !can {
		t.Fatal("the driver has no limits")
	}
	ok(t, l.Limit(t.Context(), c1, 1<<20))
	before := groups()
	for range 3 {
		ok(t, d.Clone(t.Context(), c2, c1))
		ok(t, l.Limit(t.Context(), c2, 2<<20))
		ok(t, d.Delete(t.Context(), c2))
	}
	// The kernel removes them a little after their subvolumes.
	testenv.Eventually(t, "there are no more quota groups than before", func() bool { return groups() <= before })
}

func BenchmarkCloneAndMount(b *testing.B) {
	testenv.Kernel(b)
	d := newPool(b, storage.Config{Options: map[string]string{"size": "1GiB"}}).Driver
	ok(b, d.Create(b.Context(), c1))
	for b.Loop() {
		ok(b, d.Clone(b.Context(), c2, c1))
		_, err := d.Mount(b.Context(), c2, ids)
		ok(b, err)
		b.StopTimer()
		ok(b, d.Unmount(b.Context(), c2))
		ok(b, d.Delete(b.Context(), c2))
		b.StartTimer()
	}
}

// TestRestoreBesideSubvolumes keeps what a guest has in subvolumes of its own,
// which snapshots do not have.
func TestRestoreBesideSubvolumes(t *testing.T) {
	testenv.Kernel(t, "btrfs")
	p := newPool(t, onFile(t, map[string]string{"size": "300MiB"}))
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Snapshot(t.Context(), snap))
	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	ok(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	testenv.Run(t, "btrfs", "subvolume", "create", filepath.Join(dir, "a", "inner"))
	ok(t, os.WriteFile(filepath.Join(dir, "a", "inner", "f"), nil, 0o600))
	ok(t, d.Unmount(t.Context(), c1))
	if err := d.Restore(t.Context(), snap); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "a/inner") {
		t.Errorf("restored: %v", err)
	}
	dir, err = d.Mount(t.Context(), c1, nil)
	ok(t, err)
	_, err = os.Stat(filepath.Join(dir, "a", "inner", "f"))
	ok(t, err)
	testenv.Run(t, "btrfs", "subvolume", "delete", filepath.Join(dir, "a", "inner"))
	ok(t, d.Unmount(t.Context(), c1))
	ok(t, d.Restore(t.Context(), snap))
}
