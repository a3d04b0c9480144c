package mounts_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
)

var ids = idmap.Map{{UID: true, GID: true, Inside: 0, Host: 1500000, Size: 65536}}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dirs makes directories in a new one.
func dirs(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		ok(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	return dir
}

func owner(t *testing.T, path string) int {
	t.Helper()
	var st unix.Stat_t
	ok(t, unix.Lstat(path, &st))
	return int(st.Uid)
}

func TestUserNS(t *testing.T) {
	testenv.Kernel(t)
	for range 3 {
		ns, err := mounts.UserNS(ids)
		ok(t, err)
		ok(t, ns.Close())
	}
	_, err := mounts.UserNS(idmap.Map{{UID: true, Inside: 0, Host: 1, Size: 1}})
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("without groups: %v", err)
	}
	overlapping := idmap.Map{ids[0], ids[0]}
	if _, err := mounts.UserNS(overlapping); !errors.Is(err, unix.EINVAL) {
		t.Errorf("with the same ids twice: %v", err)
	}
}

func TestManyUserNS(t *testing.T) {
	testenv.Kernel(t)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		ok(t, err)
		return len(fds)
	}
	before := open()
	for i := range 200 {
		ns, err := mounts.UserNS(idmap.Map{{UID: true, GID: true, Inside: 0, Host: int64(2000000 + i), Size: 1}})
		ok(t, err)
		ok(t, ns.Close())
	}
	if n := open() - before; n > 70 {
		t.Errorf("%d descriptors more are open", n)
	}
}

// bind mounts the directory src on dst too.
func bind(src, dst string, o mounts.Options) error {
	f, err := mounts.Tree(src, o)
	if err != nil {
		return err
	}
	defer f.Close()
	return mounts.Attach(f, dst)
}

func TestTree(t *testing.T) {
	testenv.Kernel(t)
	dir := dirs(t, "src", "dst")
	src, dst := filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	ok(t, os.WriteFile(filepath.Join(src, "f"), nil, 0o600))
	ok(t, bind(src, dst, mounts.Options{IDs: ids, ReadOnly: true}))
	t.Cleanup(func() { ok(t, mounts.Unmount(dst)) })
	if got := owner(t, filepath.Join(dst, "f")); got != 1500000 {
		t.Errorf("the file belongs to %d", got)
	}
	if err := os.WriteFile(filepath.Join(dst, "g"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v", err)
	}
	if got := owner(t, filepath.Join(src, "f")); got != 0 {
		t.Errorf("the source belongs to %d", got)
	}
}

func TestMountedAndUnmount(t *testing.T) {
	testenv.Kernel(t)
	dir := dirs(t, "src", "dst")
	dst := filepath.Join(dir, "dst")
	want := func(want bool) {
		t.Helper()
		got, err := mounts.Mounted(dst)
		if err != nil || got != want {
			t.Errorf("Mounted() = %v, %v; want %v", got, err, want)
		}
	}
	want(false)
	for range 2 {
		ok(t, bind(filepath.Join(dir, "src"), dst, mounts.Options{}))
	}
	want(true)
	f, err := os.Create(filepath.Join(dst, "busy"))
	ok(t, err)
	ok(t, mounts.Unmount(dst))
	want(false)
	ok(t, f.Close())
	ok(t, mounts.Unmount(dst))
	ok(t, mounts.Detach(dst))
	ok(t, mounts.Unmount(filepath.Join(dir, "none")))
	if got, err := mounts.Mounted(filepath.Join(dir, "none")); got || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	mounts.Settle()
}

func TestOverlay(t *testing.T) {
	testenv.Kernel(t)
	mounts.EachWay(t, func(t *testing.T) {
		dir := dirs(t, "a", "b", "c", "upper", "work", "mnt")
		ok(t, os.WriteFile(filepath.Join(dir, "b", "f"), []byte("b"), 0o644))
		ok(t, os.WriteFile(filepath.Join(dir, "c", "f"), []byte("c"), 0o644))
		mnt := filepath.Join(dir, "mnt")
		mount := func(o mounts.Overlay) {
			t.Helper()
			o.Root = dir
			f, err := o.Mount()
			ok(t, err)
			ok(t, mounts.Attach(f, mnt))
			ok(t, f.Close())
		}
		mount(mounts.Overlay{Lower: []string{"a", "b", "c"}, Upper: "upper", Work: "work", IDs: ids})
		if b, err := os.ReadFile(filepath.Join(mnt, "f")); err != nil || string(b) != "b" {
			t.Errorf("the file holds %q, %v", b, err)
		}
		if got := owner(t, filepath.Join(mnt, "f")); got != 1500000 {
			t.Errorf("the file belongs to %d", got)
		}
		ok(t, os.Chown(filepath.Join(mnt, "f"), 1500007, 1500007))
		ok(t, mounts.Unmount(mnt))
		if got := owner(t, filepath.Join(dir, "upper", "f")); got != 7 {
			t.Errorf("on the disk the file belongs to %d", got)
		}

		mount(mounts.Overlay{Lower: []string{"b", "c"}})
		if err := os.WriteFile(filepath.Join(mnt, "g"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("writing to a read-only overlay: %v", err)
		}
		ok(t, mounts.Unmount(mnt))
	})
}

func TestOverlayOfManyLayers(t *testing.T) {
	testenv.Kernel(t)
	mounts.EachWay(t, func(t *testing.T) {
		var names []string
		for i := range 100 {
			names = append(names, strings.Repeat("x", 16)+string(rune('a'+i/26))+string(rune('a'+i%26)))
		}
		dir := dirs(t, append(names, "upper", "work")...)
		f, err := mounts.Overlay{Root: dir, Lower: names, Upper: "upper", Work: "work", IDs: ids}.Mount()
		ok(t, err)
		ok(t, f.Close())
	})
}

func TestOverlayLeaksNothing(t *testing.T) {
	testenv.Kernel(t)
	mounts.EachWay(t, func(t *testing.T) {
		dir := dirs(t, "a", "upper", "work", "mnt")
		f, err := mounts.Overlay{Root: dir, Lower: []string{"a"}, Upper: "upper", Work: "work", IDs: ids}.Mount()
		ok(t, err)
		info, err := os.ReadFile("/proc/self/mountinfo")
		ok(t, err)
		if strings.Contains(string(info), dir) {
			t.Error("the mounts of its layers are seen")
		}
		if uid, err := unix.SetfsuidRetUid(-1); err != nil || uid != 0 {
			t.Errorf("the file system id is %d, %v", uid, err)
		}
		ok(t, f.Close())
		_, err = mounts.Overlay{Root: dir, Lower: []string{"none"}, Upper: "upper", Work: "work"}.Mount()
		if !errors.Is(err, unix.ENOENT) {
			t.Errorf("with a missing layer: %v", err)
		}
	})
	_, err := mounts.Overlay{Root: t.TempDir(), Lower: []string{"a:b"}}.Mount()
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("with a colon: %v", err)
	}
}

func TestLoop(t *testing.T) {
	testenv.Kernel(t, "mkfs.ext4")
	dir := dirs(t, "mnt")
	img, mnt := filepath.Join(dir, "with space"), filepath.Join(dir, "mnt")
	f, err := os.Create(img)
	ok(t, err)
	ok(t, errors.Join(f.Truncate(16<<20), f.Close()))
	testenv.Run(t, "mkfs.ext4", "-q", img)
	loop, err := mounts.Loop(img)
	ok(t, err)
	ok(t, unix.Mount(loop.Name(), mnt, "ext4", 0, ""))
	ok(t, loop.Close())
	t.Cleanup(func() { ok(t, mounts.Unmount(mnt)) })
	info, err := mounts.Find(mnt)
	ok(t, err)
	if info.Type != "ext4" || info.Source != loop.Name() || !slices.Contains(info.Options, "rw") {
		t.Errorf("Find() = %+v", info)
	}
	again, err := mounts.Loop(img)
	ok(t, err)
	if again.Name() != loop.Name() {
		t.Errorf("a file that is %s already is made %s too", loop.Name(), again.Name())
	}
	ok(t, again.Close())
	ok(t, os.Truncate(img, 32<<20))
	ok(t, mounts.GrowLoop(info.Source))
	if got := strings.TrimSpace(testenv.Run(t, "cat", "/sys/class/block/"+filepath.Base(info.Source)+"/size")); got != "65536" {
		t.Errorf("the device has %s sectors", got)
	}
	if _, err := mounts.Find(dir); !errs.Is(err, errs.NotFound) {
		t.Errorf("Find() of no mount: %v", err)
	}
}

// TestUsers names who has files of a mount open.
func TestUsers(t *testing.T) {
	testenv.Kernel(t, "sleep")
	dir := dirs(t, "in")
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.Dir = filepath.Join(dir, "in")
	ok(t, cmd.Start())
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	users, err := mounts.Users(dir)
	ok(t, err)
	if len(users) != 1 || users[0].PID != cmd.Process.Pid || users[0].Path != cmd.Dir {
		t.Errorf("Users() = %+v", users)
	}
	many := slices.Repeat(users, 5)
	if text := mounts.Names(many); !strings.Contains(text, "(sleep)") || !strings.HasSuffix(text, "; 2 more") {
		t.Errorf("Names() = %s", text)
	}
}

// TestLoopOnReadOnly makes a device of a file that nobody may write.
func TestLoopOnReadOnly(t *testing.T) {
	testenv.Kernel(t, "mkfs.ext4")
	dir := dirs(t, "src", "ro", "mnt")
	ro, mnt := filepath.Join(dir, "ro"), filepath.Join(dir, "mnt")
	img := filepath.Join(dir, "src", "img")
	f, err := os.Create(img)
	ok(t, err)
	ok(t, errors.Join(f.Truncate(16<<20), f.Close()))
	testenv.Run(t, "mkfs.ext4", "-q", img)
	ok(t, bind(filepath.Join(dir, "src"), ro, mounts.Options{ReadOnly: true}))
	t.Cleanup(func() { ok(t, mounts.Unmount(ro)) })
	for range 2 { // The second finds the device of the first.
		loop, err := mounts.Loop(filepath.Join(ro, "img"))
		ok(t, err)
		t.Cleanup(func() { loop.Close() })
		ok(t, unix.Mount(loop.Name(), mnt, "ext4", unix.MS_RDONLY, "noload"))
		ok(t, mounts.Unmount(mnt))
		if err := unix.Mount(loop.Name(), mnt, "ext4", 0, ""); err == nil {
			t.Errorf("it was mounted for writing: %v", mounts.Unmount(mnt))
		}
	}
}
