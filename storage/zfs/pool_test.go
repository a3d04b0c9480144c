package zfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/storagetest"
	"github.com/cuib/cuib/storage/zfs"
)

// loopDevice returns a block device of 200 MiB.
func loopDevice(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	testenv.Run(t, "truncate", "-s", "200M", file)
	loop, err := mounts.Loop(file)
	ok(t, err)
	t.Cleanup(func() { ok(t, loop.Close()) })
	return loop.Name()
}

// TestPools makes, finds, reboots and removes pools of all kinds.
func TestPools(t *testing.T) {
	newZpool(t)
	device := loopDevice(t)
	testenv.Run(t, "mkfs.ext4", "-q", device)
	testenv.Run(t, "zfs", "create", "-o", "mountpoint=none", zpool+"/theirs")
	brought := filepath.Join(t.TempDir(), "brought")
	testenv.Run(t, "truncate", "-s", "200M", brought)
	for name, tt := range map[string]struct {
		source  string
		options map[string]string
	}{
		"on a file":             {options: map[string]string{"size": "200MiB", "zfs.pool_name": "cuibfile"}},
		"on a file of the user": {source: brought},
		"on a device":           {source: device, options: map[string]string{"source.wipe": "true"}},
		"in a new dataset":      {source: zpool + "/ours"},
		"in a dataset":          {source: zpool + "/theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := storage.Config{Name: "cuibpool", Dir: filepath.Join(t.TempDir(), "p"), Source: tt.source, Options: tt.options}
			newPool := func(*testing.T) storage.Config { return cfg }
			storagetest.Adopt(t, zfs.Type(), newPool, func(t *testing.T, cfg storage.Config) {
				t.Helper()
				if strings.HasPrefix(cfg.Options["zfs.pool_name"], zpool) {
					return // All is still there.
				}
				testenv.Run(t, "zpool", "export", cfg.Options["zfs.pool_name"])
			})
			ok(t, zfs.Type().Remove(t.Context(), cfg))
			if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if out := testenv.Run(t, "zfs", "list", "-H", "-r", "-o", "name,cuib:pool", zpool); out != zpool+"\t-\n"+zpool+"/theirs\t-" {
		t.Errorf("left behind: %q", out)
	}
	if out := testenv.Run(t, "zpool", "list", "-H", "-o", "name"); out != zpool {
		t.Errorf("the zpools are %q", out)
	}
	testenv.Run(t, "cmp", "-n", "200M", brought, "/dev/zero") // It is empty again.
	testenv.Run(t, "mkfs.ext4", "-q", "-F", device)
	refused(t, device)
}

// refused makes pools where there is something in the way.
func refused(t *testing.T, device string) {
	t.Helper()
	testenv.Run(t, "zfs", "create", "-o", "mountpoint=none", zpool+"/theirs/data")
	full := filepath.Join(t.TempDir(), "full")
	testenv.Run(t, "sh", "-c", "truncate -s 200M "+full+" && echo data | dd of="+full+" bs=1M seek=20 conv=notrunc")
	for name, tt := range map[string]struct {
		source, size, pool, text string
	}{
		"a size too small":            {size: "1MiB", text: "128MiB"},
		"a bad size":                  {size: "much", text: "size"},
		"a size for a dataset":        {source: zpool + "/x", size: "1GiB", text: "size"},
		"a zpool of the name":         {pool: zpool, text: "zfs.pool_name"},
		"a reserved name":             {pool: "mirror1", text: "zfs.pool_name"},
		"a device with data":          {source: device, text: "source.wipe"},
		"a file with data":            {source: full, text: "source.wipe"},
		"a device that is not there":  {source: "/dev/nothing/here", text: "not there"},
		"a directory":                 {source: "/tmp", text: "no block device"},
		"a zpool that is not there":   {source: "nosuchpool", text: "no zpool"},
		"a dataset of one":            {source: "nosuchpool/x", text: "no dataset"},
		"a dataset that is not empty": {source: zpool + "/theirs", text: zpool + "/theirs/data"},
		"a zpool that is not empty":   {source: zpool, text: "not empty"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := storage.Config{Name: "p", Dir: t.TempDir(), Source: tt.source, Options: map[string]string{"size": tt.size, "zfs.pool_name": tt.pool}}
			_, err := zfs.Type().Make(t.Context(), cfg)
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	if out := testenv.Run(t, "blkid", "-p", "-o", "value", "-s", "TYPE", device); out != "ext4" {
		t.Errorf("the device now holds %q", out)
	}
}

// TestPoolOnFile is of what only pools on files can: they grow, are missing,
// and have another name one day.
func TestPoolOnFile(t *testing.T) {
	needZFS(t)
	cfg := storage.Config{Name: "cuibgrow", Dir: filepath.Join(t.TempDir(), "p"), Options: map[string]string{"size": "200MiB"}}
	typ := zfs.Type()
	ok(t, typ.Check(t.Context()))
	cfg, err := typ.Make(t.Context(), cfg)
	ok(t, err)
	d := openPool(t, cfg)
	size := func() uint64 {
		t.Helper()
		s, _ := d.(storage.Spacer)
		space, err := s.Space(t.Context())
		ok(t, err)
		return space.TotalBytes
	}
	before := size()
	g, _ := d.(storage.Grower)
	for range 2 {
		ok(t, g.Grow(t.Context(), 400<<20))
		if after := size(); after < before+150<<20 {
			t.Errorf("%d bytes became %d", before, after)
		}
	}
	ok(t, d.Create(t.Context(), c1))
	image := filepath.Join(cfg.Dir, "zfs.img")
	testenv.Run(t, "zpool", "export", "cuibgrow")
	_, err = d.(storage.Spacer).Space(t.Context()) //nolint:forcetypeassert // As above.
	for _, err := range []error{err, d.Delete(t.Context(), c1), d.Delete(t.Context(), snap)} {
		if !errs.Is(err, errs.Unavailable) {
			t.Errorf("without the zpool: %v", err)
		}
	}
	ok(t, os.Rename(image, image+".away"))
	if _, err := typ.Open(t.Context(), cfg); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "zfs.img") {
		t.Errorf("without its file: %v", err)
	}
	ok(t, os.Rename(image+".away", image))
	testenv.Run(t, "zpool", "import", "-N", "-d", image, "cuibgrow", "cuibother")
	d = openPool(t, cfg)
	ok(t, d.Delete(t.Context(), c1))
	ok(t, typ.Remove(t.Context(), cfg))
	if out := testenv.Run(t, "zpool", "list", "-H"); out != "" {
		t.Errorf("the zpools are %q", out)
	}
}

// mountElsewhere has a process mount a dataset in a mount namespace of its
// own, until release is called.
func mountElsewhere(t *testing.T, dataset string) (release func()) {
	t.Helper()
	script := "mount --make-rprivate / && mount -t zfs " + dataset + " " + t.TempDir() + " && echo ready && exec sleep 1000"
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	release = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // It was killed.
	}
	t.Cleanup(release)
	_, err = out.Read(make([]byte, 1))
	ok(t, err)
	return release
}

// TestHeld deletes a volume, and removes a pool, while others have a mount of
// it. Those that are copies of the driver's own go with its mount point.
func TestHeld(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Create(t.Context(), c2))
	releaseSnap := mountElsewhere(t, cfg.Source+"/containers/c1@snapshot-s0")
	ok(t, d.Delete(t.Context(), snap))
	ok(t, d.Snapshot(t.Context(), snap)) // Nothing is in the way of the next.
	ok(t, d.Delete(t.Context(), snap))
	release := mountElsewhere(t, cfg.Source+"/containers/c1")
	ok(t, d.Delete(t.Context(), c1))
	ok(t, d.Create(t.Context(), c1))
	ok(t, d.Delete(t.Context(), c1))
	if left := volumes(t, cfg.Source); !slices.ContainsFunc(left, func(name string) bool { return strings.Contains(name, "/deleted/containers/c1-") }) {
		t.Errorf("the pool holds %q", left)
	}
	ok(t, d.Delete(t.Context(), c2))
	if err := zfs.Type().Remove(t.Context(), cfg); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "(sleep)") {
		t.Errorf("to remove the pool: %v", err)
	}
	releaseSnap()
	release()
	cfg, err := zfs.Type().Make(t.Context(), cfg) // What Remove left of it is no hindrance.
	ok(t, err)
	d = openPool(t, cfg)
	sweeper, _ := d.(storage.Sweeper)
	ok(t, sweeper.Sweep(t.Context()))
	wantNothing(t, cfg)
	ok(t, zfs.Type().Remove(t.Context(), cfg))
}

// wantNothing waits until a pool is as it was when it was made.
func wantNothing(t *testing.T, cfg storage.Config) {
	t.Helper()
	var left []string
	defer func() {
		if len(left) > 0 {
			t.Errorf("the pool holds %q", left)
		}
	}()
	testenv.Eventually(t, "the pool is not empty", func() bool {
		left = volumes(t, cfg.Source)
		return len(left) == 0
	})
}

func get(t *testing.T, property, dataset string) string {
	t.Helper()
	return testenv.Run(t, "zfs", "get", "-H", "-p", "-o", "value", property, dataset)
}

// TestDependents deletes what others are clones of.
func TestDependents(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	in := func(name string) string { return cfg.Source + "/" + name }
	ok(t, d.Create(t.Context(), img))
	write(t, d, img, "image")
	ok(t, d.Clone(t.Context(), c1, img))
	if got := get(t, "origin", in("containers/c1")); got != in("images/0123456789abcdef@readonly") {
		t.Errorf("an instance is a clone of %q", got)
	}
	if got := get(t, "mountpoint", in("containers/c1")) + get(t, "canmount", in("containers/c1")); got != "legacynoauto" {
		t.Errorf("its mount point is %q", got)
	}
	ok(t, d.Delete(t.Context(), img))
	ok(t, d.Create(t.Context(), img)) // Nothing is in the way of the next.
	write(t, d, img, "other")
	wantFile(t, d, c1, "image")

	ok(t, d.Clone(t.Context(), c2, c1))
	ok(t, d.Delete(t.Context(), c1))
	if got := get(t, "origin", in("containers/c2")); !strings.HasPrefix(got, in("deleted/images/0123456789abcdef-")) {
		t.Errorf("the clone of what was deleted is one of %q", got)
	}
	wantFile(t, d, c2, "image")

	ok(t, d.Clone(t.Context(), c1, c2))
	ok(t, d.Clone(t.Context(), c3, c2))
	ok(t, d.Delete(t.Context(), c2))
	wantFile(t, d, c3, "image")
	ok(t, d.Delete(t.Context(), c3))
	ok(t, d.Delete(t.Context(), c1))
	ok(t, d.Delete(t.Context(), img))
	wantNothing(t, cfg)
}

// TestImageChanges clones an image before and after it was changed.
func TestImageChanges(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	ok(t, d.Create(t.Context(), img))
	write(t, d, img, "one")
	ok(t, d.Clone(t.Context(), c1, img))
	write(t, d, img, "two")
	ok(t, d.Clone(t.Context(), c2, img))
	wantFile(t, d, c1, "one")
	wantFile(t, d, c2, "two")
	// The daemon dies while the image is mounted, and then the machine.
	dir, err := d.Mount(t.Context(), img, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("three"), 0o600))
	ok(t, mounts.Unmount(dir))
	d = openPool(t, cfg)
	ok(t, d.Delete(t.Context(), c2))
	ok(t, d.Clone(t.Context(), c2, img))
	wantFile(t, d, c2, "three")
	for _, v := range []storage.Volume{img, c1, c2} {
		ok(t, d.Delete(t.Context(), v))
	}
	wantNothing(t, cfg)
}

// TestCopies makes copies as the key zfs.clone_copy says.
func TestCopies(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	a, _ := d.(storage.Adjuster)
	ok(t, d.Create(t.Context(), img))
	write(t, d, img, "image")
	ok(t, d.Clone(t.Context(), c1, img))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	for how, want := range map[string]string{"false": "-", "rebase": cfg.Source + "/images/0123456789abcdef@readonly"} {
		ok(t, a.Adjust(t.Context(), map[string]string{"zfs.clone_copy": how}))
		for _, from := range []storage.Volume{c1, snap} {
			ok(t, d.Clone(t.Context(), c2, from))
			if err := d.Clone(t.Context(), c2, from); !errs.Is(err, errs.Conflict) {
				t.Errorf("%s: a copy onto what exists: %v", how, err)
			}
			if got := get(t, "origin", cfg.Source+"/containers/c2"); got != want {
				t.Errorf("%s: the copy is a clone of %q", how, got)
			}
			wantFile(t, d, c2, "one")
			ok(t, d.Delete(t.Context(), c2))
		}
	}
	if err := a.Adjust(t.Context(), map[string]string{"zfs.clone_copy": "maybe"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("to copy in an unknown way: %v", err)
	}
	if err := a.Adjust(t.Context(), map[string]string{"zfs.pool_name": "x"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("to move the pool: %v", err)
	}
	for _, v := range []storage.Volume{img, snap, c1} {
		ok(t, d.Delete(t.Context(), v))
	}
	wantNothing(t, cfg)
}

// TestOptions has volumes with options and limits of each kind.
func TestOptions(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	tuner, _ := d.(storage.Tuner)
	limiter, _ := d.(storage.Limiter)
	ok(t, d.Create(t.Context(), c1))
	dataset := cfg.Source + "/containers/c1"
	const size = "10485760"
	ok(t, limiter.Limit(t.Context(), c1, 10<<20))
	want := func(properties, values string) {
		t.Helper()
		if got := strings.ReplaceAll(get(t, properties, dataset), "\n", " "); got != values {
			t.Errorf("%s: %s, want %s", properties, got, values)
		}
	}
	want("quota,refquota,reservation,refreservation", size+" 0 0 0")
	ok(t, tuner.Tune(t.Context(), c1, map[string]string{
		"zfs.use_refquota": "true", "zfs.reserve_space": "true", "zfs.blocksize": "16KiB", "zfs.compression": "zstd-3",
	}))
	want("quota,refquota,reservation,refreservation", "0 "+size+" 0 "+size)
	want("recordsize,compression", "16384 zstd-3")
	d = openPool(t, cfg)
	tuner, _ = d.(storage.Tuner)
	limiter, _ = d.(storage.Limiter)
	ok(t, limiter.Limit(t.Context(), c1, 20<<20))
	want("refquota,refreservation", "20971520 20971520")
	ok(t, tuner.Tune(t.Context(), c1, map[string]string{"zfs.compression": "lz4"}))
	want("quota,refquota,reservation,refreservation", "20971520 0 0 0")
	want("recordsize,compression", "131072 lz4")
	ok(t, tuner.Tune(t.Context(), c1, nil))
	want("compression", "off")

	dir, err := d.Mount(t.Context(), c1, nil)
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), make([]byte, 5<<20), 0o600))
	ok(t, d.Unmount(t.Context(), c1))
	ok(t, tuner.Tune(t.Context(), c1, map[string]string{"zfs.reserve_space": "true"}))
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Snapshot(t.Context(), snapshot("s1")))
	ok(t, d.Restore(t.Context(), snap)) // To a dataset that is another one.
	want("quota,refquota,reservation", "20971520 0 20971520")
	want("reservation", "20971520")
	ok(t, d.Delete(t.Context(), snap))
	ok(t, d.Delete(t.Context(), snapshot("s1")))
	if err := limiter.Limit(t.Context(), c1, 1<<20); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "holds 5") {
		t.Errorf("a limit below the usage: %v", err)
	}
	want("quota", "20971520")
	ok(t, limiter.Limit(t.Context(), c1, 0))
	want("quota", "0")
	ok(t, d.Delete(t.Context(), c1))
}

// TestRemoveBesideOthers has datasets and zvols of others in the way of a pool
// that would take them with it.
func TestRemoveBesideOthers(t *testing.T) {
	newZpool(t)
	testenv.Run(t, "zfs", "create", "-o", "mountpoint=none", zpool+"/theirs")
	for name, tt := range map[string]struct {
		cfg    storage.Config
		inside []string // What is in the way.
		beside string   // What is not.
	}{
		"a zpool":       {storage.Config{Name: "cuibown", Options: map[string]string{"size": "200MiB"}}, []string{"cuibown/x", "cuibown/custom/x"}, ""},
		"a new dataset": {storage.Config{Name: "p", Source: zpool + "/ours"}, []string{zpool + "/ours/x"}, zpool + "/x"},
		"a dataset":     {storage.Config{Name: "p", Source: zpool + "/theirs"}, []string{zpool + "/theirs/custom/x"}, zpool + "/theirs/x"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tt.cfg
			cfg.Dir = filepath.Join(t.TempDir(), "p")
			cfg, err := zfs.Type().Make(t.Context(), cfg)
			ok(t, err)
			for _, other := range tt.inside {
				for _, create := range [][]string{{"-o", "mountpoint=none"}, {"-s", "-V", "16M"}} {
					testenv.Run(t, slices.Concat([]string{"zfs", "create"}, create, []string{other})...)
					if err := zfs.Type().Remove(t.Context(), cfg); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), other) {
						t.Errorf("with %s: %v", other, err)
					}
					testenv.Run(t, "zfs", "destroy", other)
				}
			}
			if tt.beside != "" {
				testenv.Run(t, "zfs", "create", "-o", "mountpoint=none", tt.beside)
			}
			ok(t, zfs.Type().Remove(t.Context(), cfg))
			if tt.beside != "" {
				testenv.Run(t, "zfs", "destroy", tt.beside)
			}
		})
	}
}
