package storagetest

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
)

var mountTests = []test{
	{"owners are mapped", testOwnersAreMapped},
	{"a guest's root does what root does", testGuest},
	{"nobody else gets to a mount", testMountIsRoots},
	{"mount twice", testMountTwice},
	{"mount with other ids", testMountOtherIDs},
	{"a mount outlives the process", testMountOutlives},
	{"snapshots are read-only", testReadOnlySnapshots},
	{"unmount leaves no mount point", testUnmountLeavesNothing},
	{"all kinds of files are kept", testFilesKept},
	{"snapshot while mounted", testSnapshotMounted},
	{"clone while mounted", testCloneMounted},
	{"nothing is done to a mounted volume", testMountedIsLeftAlone},
	{"limit", testLimit},
	{"limits outlive a restore", testLimitRestore},
	{"a full volume after a snapshot", testFullSnapshot},
}

// testMountIsRoots has all mount points below a directory that only root can
// enter, also if an earlier version let others in.
func testMountIsRoots(t *testing.T, p Pool) {
	d := p.Driver
	for _, name := range []string{"one", "two"} {
		v := storage.Volume{Kind: storage.Custom, Name: name}
		ok(t, d.Create(t.Context(), v))
		in(t, d, v, func(dir string) {
			above := filepath.Dir(filepath.Dir(dir))
			info, err := os.Stat(above)
			ok(t, err)
			if info.Mode().Perm() != 0o700 {
				t.Errorf("the mode of %s is %v", above, info.Mode())
			}
			ok(t, os.Chmod(above, 0o711)) //nolint:gosec // As it was once.
		})
	}
}

// as runs fn with the file system ids of a user that has no power.
func as(t *testing.T, id int, fn func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore := noResource(t)
	defer restore()

	set := func(id int) {
		_, _ = unix.SetfsgidRetGid(id)
		_, _ = unix.SetfsuidRetUid(id)
	}
	set(id)
	defer set(0)
	fn()
}

// noResource takes the power to exceed quotas from the thread, as guests do
// not have it, and returns what gives it back.
func noResource(t *testing.T) (restore func()) {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	ok(t, unix.Capget(&hdr, &caps[0]))
	less := caps
	less[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	ok(t, unix.Capset(&hdr, &less[0]))
	return func() { ok(t, unix.Capset(&hdr, &caps[0])) }
}

// createAs creates a file below dir as a user of the mapped instance, who
// need not be able to come to dir.
func createAs(t *testing.T, id int, dir, name string) (f *os.File, err error) {
	t.Helper()
	at, err := os.Open(dir)
	ok(t, err)
	defer at.Close()
	as(t, id, func() {
		var fd int
		fd, err = unix.Openat(int(at.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
		f = os.NewFile(uintptr(fd), name)
	})
	return f, err
}

// writeAs writes a file like createAs.
func writeAs(t *testing.T, id int, dir, name string) error {
	t.Helper()
	f, err := createAs(t, id, dir, name)
	if err != nil {
		return err
	}
	_, err = f.WriteString("one")
	return errors.Join(err, f.Close())
}

func mount(t *testing.T, d storage.Driver, v storage.Volume, ids idmap.Map) string {
	t.Helper()
	dir, err := d.Mount(t.Context(), v, ids)
	ok(t, err)
	t.Cleanup(func() { _ = mounts.Unmount(dir) })
	return dir
}

func testOwnersAreMapped(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), img))
	in(t, d, img, func(dir string) {
		ok(t, os.Chmod(dir, 0o755))
		ok(t, os.WriteFile(filepath.Join(dir, "root"), nil, 0o600))
		ok(t, os.WriteFile(filepath.Join(dir, "user"), nil, 0o600))
		ok(t, os.Lchown(filepath.Join(dir, "user"), 1000, 1001))
		ok(t, os.Mkdir(filepath.Join(dir, "home"), 0o700))
		ok(t, os.Lchown(filepath.Join(dir, "home"), 1000, 1000))
	})
	ok(t, d.Clone(t.Context(), c1, img))
	for _, v := range []storage.Volume{img, c1} {
		dir := mount(t, d, v, ids)
		wantOwner(t, filepath.Join(dir, "root"), 1200000, 1200000)
		wantOwner(t, filepath.Join(dir, "user"), 1201000, 1201001)
		ok(t, writeAs(t, 1200000, dir, "new"))
		ok(t, writeAs(t, 1200000, dir, "root"))
		ok(t, writeAs(t, 1201000, dir, "home/new"))
		wantOwner(t, filepath.Join(dir, "new"), 1200000, 1200000)
		ok(t, d.Unmount(t.Context(), v))
		in(t, d, v, func(dir string) {
			wantOwner(t, dir, 0, 0)
			wantOwner(t, filepath.Join(dir, "root"), 0, 0)
			wantOwner(t, filepath.Join(dir, "user"), 1000, 1001)
			wantOwner(t, filepath.Join(dir, "new"), 0, 0)
			wantOwner(t, filepath.Join(dir, "home", "new"), 1000, 1000)
		})
	}
}

func wantOwner(t *testing.T, path string, uid, gid uint32) {
	t.Helper()
	if st := stat(t, path); st.Uid != uid || st.Gid != gid {
		t.Errorf("%s belongs to %d:%d, want %d:%d", path, st.Uid, st.Gid, uid, gid)
	}
}

func testMountTwice(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	first, second := mount(t, d, c1, ids), mount(t, d, c1, ids)
	if first != second {
		t.Errorf("mounted on %s, then on %s", first, second)
	}
	ok(t, d.Unmount(t.Context(), c1))
	ok(t, d.Unmount(t.Context(), c1))
	wantUnmounted(t, first)
}

func wantUnmounted(t *testing.T, dir string) {
	t.Helper()
	mounted, err := mounts.Mounted(dir)
	ok(t, err)
	if mounted {
		t.Errorf("%s is still mounted", dir)
	}
}

func testMountOtherIDs(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	mount(t, d, c1, ids)
	for _, other := range []idmap.Map{nil, {{UID: true, GID: true, Inside: 0, Host: 1300000, Size: 65536}}} {
		_, err := d.Mount(t.Context(), c1, other)
		wantKind(t, err, errs.Conflict)
	}
}

func testMountOutlives(t *testing.T, p Pool) {
	ok(t, p.Driver.Create(t.Context(), c1))
	dir := mount(t, p.Driver, c1, ids)
	ok(t, writeAs(t, 1200000, dir, "f"))

	d := p.Reopen(t)
	again, err := d.Mount(t.Context(), c1, ids)
	ok(t, err)
	if again != dir {
		t.Errorf("mounted on %s, then on %s", dir, again)
	}
	_, err = d.Mount(t.Context(), c1, nil)
	wantKind(t, err, errs.Conflict)
	ok(t, d.Unmount(t.Context(), c1))
	wantFile(t, d, c1, "one")
}

func testReadOnlySnapshots(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), img))
	write(t, d, img, "one")
	ok(t, d.Clone(t.Context(), c1, img))
	for _, s := range []string{"0", "1", "2"} {
		v := storage.Volume{Kind: c1.Kind, Name: c1.Name, Snapshot: s}
		ok(t, d.Snapshot(t.Context(), v))
		for _, m := range []idmap.Map{nil, ids} {
			dir := mount(t, d, v, m)
			if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing to %s: got %v", v, err)
			}
			ok(t, d.Unmount(t.Context(), v))
		}
		write(t, d, c1, s)
	}
}

func testUnmountLeavesNothing(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	dir := mount(t, d, c1, ids)
	parent := filepath.Dir(dir)
	ok(t, d.Unmount(t.Context(), c1))
	if _, err := os.Stat(dir); err == nil && !strings.HasPrefix(dir, p.Dir) {
		t.Errorf("%s is still there", dir)
	}
	for _, name := range list(t, parent) {
		if strings.HasPrefix(name, "@") {
			t.Errorf("%s is still there", filepath.Join(parent, name))
		}
	}
}

// capability is that of a program that may bind low ports, as setcap sets it.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func plant(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	ok(t, os.Mkdir(at("d"), 0o700))
	ok(t, os.WriteFile(at("d/prog"), []byte("#!"), 0o600))
	ok(t, unix.Setxattr(at("d/prog"), "security.capability", []byte(capability), 0))
	ok(t, unix.Setxattr(at("d/prog"), "user.note", []byte("kept"), 0))
	ok(t, os.Link(at("d/prog"), at("link")))
	ok(t, os.Symlink("d/prog", at("sym")))
	ok(t, os.Lchown(at("sym"), 5, 6))
	ok(t, os.WriteFile(at("suid"), nil, 0o600))
	ok(t, os.Lchown(at("suid"), 7, 8))
	ok(t, unix.Chmod(at("suid"), 0o6755))
	ok(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	ok(t, unix.Mkfifo(at("fifo"), 0o640))
	ok(t, unix.Chmod(at("d"), 0o1777))
	f, err := os.Create(at("sparse"))
	ok(t, err)
	_, err = f.WriteAt([]byte("end"), 64<<20)
	ok(t, err)
	ok(t, f.Close())
	ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, at("suid"), []unix.Timespec{{Sec: 1}, {Sec: 2, Nsec: 3}}, 0))
}

func wantPlanted(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, want := range map[string]string{"security.capability": capability, "user.note": "kept"} {
		buf := make([]byte, 100)
		n, err := unix.Getxattr(at("d/prog"), name, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%s is %q, %v", name, buf[:max(n, 0)], err)
		}
	}
	if a, b := stat(t, at("d/prog")), stat(t, at("link")); a.Ino != b.Ino {
		t.Errorf("two names are no longer one file")
	}
	wantOwner(t, at("sym"), 5, 6)
	wantOwner(t, at("suid"), 7, 8)
	for name, want := range map[string]uint32{
		"suid": unix.S_IFREG | 0o6755, "null": unix.S_IFCHR | 0o666, "fifo": unix.S_IFIFO | 0o640, "d": unix.S_IFDIR | 0o1777,
	} {
		mode := stat(t, at(name)).Mode
		if name == "null" {
			mode |= 0o666 // Less the umask.
		}
		if mode != want {
			t.Errorf("the mode of %s is %o, want %o", name, mode, want)
		}
	}
	if st := stat(t, at("null")); st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("the device is %x", st.Rdev)
	}
	if st := stat(t, at("suid")); st.Mtim.Sec != 2 || st.Mtim.Nsec != 3 {
		t.Errorf("the time is %v", st.Mtim)
	}
	if st := stat(t, at("sparse")); st.Blocks > 1<<10 || st.Size != 64<<20+3 {
		t.Errorf("the sparse file has %d blocks for %d bytes", st.Blocks, st.Size)
	}
}

func testFilesKept(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	in(t, d, c1, func(dir string) { plant(t, dir) })
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Clone(t.Context(), c2, snap))
	ok(t, d.Clone(t.Context(), c3, c2))
	ok(t, d.Restore(t.Context(), snap))
	for _, v := range []storage.Volume{c1, snap, c2, c3} {
		in(t, d, v, func(dir string) { wantPlanted(t, dir) })
	}
}

// mounted makes a mounted clone of an image, with files of its own and some
// of the image's changed and removed.
func mounted(t *testing.T, d storage.Driver) string {
	t.Helper()
	ok(t, d.Create(t.Context(), img))
	in(t, d, img, func(dir string) {
		ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("image"), 0o600))
		ok(t, os.WriteFile(filepath.Join(dir, "removed"), nil, 0o600))
		ok(t, os.MkdirAll(filepath.Join(dir, "replaced", "deep"), 0o700))
	})
	ok(t, d.Clone(t.Context(), c1, img))
	dir := mount(t, d, c1, nil)
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("one"), 0o600))
	ok(t, os.Remove(filepath.Join(dir, "removed")))
	ok(t, os.RemoveAll(filepath.Join(dir, "replaced")))
	ok(t, os.Mkdir(filepath.Join(dir, "replaced"), 0o700))
	plant(t, dir)
	return dir
}

func wantMounted(t *testing.T, d storage.Driver, v storage.Volume) {
	t.Helper()
	in(t, d, v, func(dir string) {
		wantPlanted(t, dir)
		if _, err := os.Lstat(filepath.Join(dir, "removed")); err == nil {
			t.Errorf("%s: what was removed is there again", v)
		}
		if got := list(t, filepath.Join(dir, "replaced")); len(got) > 0 {
			t.Errorf("%s: the new directory holds %v", v, got)
		}
	})
	wantFile(t, d, v, "one")
}

func testSnapshotMounted(t *testing.T, p Pool) {
	d := p.Driver
	dir := mounted(t, d)
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("two"), 0o600))
	wantMounted(t, d, snap)
	ok(t, d.Clone(t.Context(), c2, snap))
	wantMounted(t, d, c2)
	ok(t, d.Unmount(t.Context(), c1))
	wantFile(t, d, c1, "two")
	ok(t, d.Restore(t.Context(), snap))
	wantMounted(t, d, c1)
}

func testCloneMounted(t *testing.T, p Pool) {
	d := p.Driver
	dir := mounted(t, d)
	ok(t, d.Clone(t.Context(), c2, c1))
	ok(t, os.WriteFile(filepath.Join(dir, "f"), []byte("two"), 0o600))
	ok(t, d.Delete(t.Context(), img))
	wantMounted(t, d, c2)
	ok(t, d.Unmount(t.Context(), c1))
	wantFile(t, d, c1, "two")
	ok(t, d.Delete(t.Context(), c1))
	wantMounted(t, d, c2)
}

func testMountedIsLeftAlone(t *testing.T, p Pool) {
	d := p.Driver
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	dir := mount(t, d, c1, nil)
	wantKind(t, d.Restore(t.Context(), snap), errs.Conflict)
	wantKind(t, d.Rename(t.Context(), c1, "c2"), errs.Conflict)
	ok(t, d.Delete(t.Context(), snap))
	wantKind(t, d.Delete(t.Context(), c1), errs.Conflict)
	b, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil || string(b) != "one" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

const limit = 16 << 20

// limited makes a volume with a limit; it returns false if the driver, or the
// file system below, has none.
func limited(t *testing.T, p Pool) bool {
	t.Helper()
	d := p.Driver
	l, can := d.(storage.Limiter)
	if !can {
		return false
	}
	ok(t, d.Create(t.Context(), img))
	write(t, d, img, "image")
	ok(t, d.Clone(t.Context(), c1, img))
	wantKind(t, l.Limit(t.Context(), c2, limit), errs.NotFound)
	err := l.Limit(t.Context(), c1, limit)
	if !p.Limits && errs.Is(err, errs.Unsupported) {
		if !strings.Contains(err.Error(), "quota") {
			t.Errorf("the error does not say what is missing: %v", err)
		}
		return false
	}
	ok(t, err)
	return true
}

// fill writes more than the limit to a volume, as the instance's root, and
// returns how that ends.
func fill(t *testing.T, d storage.Driver, v storage.Volume) (err error) {
	t.Helper()
	dir := mount(t, d, v, ids)
	f, err := createAs(t, 1200000, dir, "big")
	if err == nil {
		as(t, 1200000, func() { err = writeAll(f) })
		err = errors.Join(err, f.Close())
	}
	ok(t, d.Unmount(t.Context(), v))
	return err
}

func writeAll(f *os.File) error {
	chunk := make([]byte, 1<<20)
	for i := 0; i < 2*limit; i += len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func wantFull(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		t.Errorf("writing more than the limit: got %v", err)
	}
}

func testLimit(t *testing.T, p Pool) {
	d := p.Driver
	l, _ := d.(storage.Limiter)
	if !limited(t, p) {
		return
	}
	wantFull(t, fill(t, d, c1))
	ok(t, l.Limit(t.Context(), c1, 0))
	if err := fill(t, d, c1); err != nil {
		t.Errorf("writing without a limit: %v", err)
	}
	ok(t, l.Limit(t.Context(), c1, 4*limit))
	if err := fill(t, d, c1); err != nil {
		t.Errorf("writing below the limit: %v", err)
	}
	ok(t, d.Clone(t.Context(), c2, img))
	if err := fill(t, d, c2); err != nil {
		t.Errorf("a clone has a limit: %v", err)
	}
	ok(t, d.Delete(t.Context(), c1))
}

// testFullSnapshot has a volume that has reached its limit, and can still be
// changed after a snapshot.
func testFullSnapshot(t *testing.T, p Pool) {
	d := p.Driver
	if !limited(t, p) {
		return
	}
	wantFull(t, fill(t, d, c1))
	ok(t, d.Snapshot(t.Context(), snap))
	in(t, d, c1, func(dir string) {
		if err := os.Remove(filepath.Join(dir, "big")); errors.Is(err, unix.EROFS) {
			t.Errorf("the volume is read-only: %v", err)
		}
	})
	ok(t, d.Restore(t.Context(), snap))
	in(t, d, c1, func(dir string) {
		if err := os.Chmod(dir, 0o750); errors.Is(err, unix.EROFS) {
			t.Errorf("the restored volume is read-only: %v", err)
		}
	})
}

func testLimitRestore(t *testing.T, p Pool) {
	d := p.Driver
	if !limited(t, p) {
		return
	}
	ok(t, d.Snapshot(t.Context(), snap))
	wantFull(t, fill(t, d, c1))
	ok(t, d.Restore(t.Context(), snap))
	wantFull(t, fill(t, d, c1))
}
