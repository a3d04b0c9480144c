package guestfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/testenv"
)

// withProc returns a plain file system with a /proc, and with links to it as
// a guest would make them.
func withProc(t *testing.T) *guestfs.FS {
	t.Helper()
	testenv.Kernel(t)
	dir := guestRoot(t)
	proc := filepath.Join(dir, "proc")
	if err := os.MkdirAll(proc, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", proc, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(proc, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for name, target := range map[string]string{"setting": "/proc/sys/vm/swappiness", "settings": "/proc/sys/vm", "log": "/proc/kmsg", "version": "/proc/version"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	fs := guestfs.New(root, nil, nil)
	t.Cleanup(fs.Close)
	return fs
}

// The settings below /proc/sys are the host's, whoever looks at them.
func TestFilesOfTheKernelAreNotChanged(t *testing.T) {
	fs := withProc(t)
	same, err := os.ReadFile("/proc/sys/vm/swappiness") // What it has, should it be written after all.
	if err != nil {
		t.Fatal(err)
	}
	value := string(same)
	mode := keep()
	mode.Mode = 0o644
	modified := keep()
	modified.Modified = time.Now()
	tests := map[string]func() error{
		"write":          func() error { return fs.Write("/setting", strings.NewReader(value), keep()) },
		"append":         func() error { return fs.Append("/setting", strings.NewReader(value), keep()) },
		"write below":    func() error { return fs.Write("/settings/swappiness", strings.NewReader(value), keep()) },
		"truncate":       func() error { return fs.Truncate("/setting", 0) },
		"change mode":    func() error { return fs.Change("/settings/swappiness", mode) },
		"change time":    func() error { return fs.Change("/settings/swappiness", modified) },
		"make":           func() error { return fs.Write("/settings/new", strings.NewReader(value), keep()) },
		"make directory": func() error { return fs.Mkdir("/settings/new", keep()) },
		"make link":      func() error { return fs.Symlink("/settings/new", "x", keep()) },
		"remove":         func() error { return fs.Remove("/settings/swappiness") },
		"rename":         func() error { return fs.Rename("/settings/swappiness", "/settings/new") },
		"read log":       func() error { _, err := fs.Open("/log"); return err },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			err := change()
			if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "file of the kernel") {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := fs.Mkdir("/proc", keep()); err != nil {
		t.Errorf("a /proc that exists and stays: %v", err)
	}
	if text, err := readAll(fs, "/version"); err != nil || !strings.HasPrefix(text, "Linux") {
		t.Errorf("what all may read: got %q, %v", text, err)
	}
}

// A directory of the host that the instance sees stays the host's: links of
// the guest lead the daemon there, but it does no more than the guest could.
func TestFilesOfTheHostStayTheHosts(t *testing.T) {
	testenv.Kernel(t)
	dir := guestRoot(t)
	for _, p := range []string{"", "etc", "etc/hosts", "tmp"} {
		if err := os.Chown(filepath.Join(dir, p), base, base); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"share/secret": 0o600, "share/public": 0o644, "share/shared": 0o666, "closed/x": 0o600} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte("host"), 0o600), os.Chmod(p, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir+"/closed", 0o700), os.Symlink("/share/public", dir+"/etc/link"), os.Symlink("/share", dir+"/etc/dir")); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	fs := guestfs.New(root, idmap.Default(base, 65536), nil)
	defer fs.Close()
	write := func(name string) error { return fs.Write(name, strings.NewReader("guest"), keep()) }
	mode := keep()
	mode.Mode = 0o666
	tests := map[string]struct {
		err error
		ok  bool
	}{
		"read secret":   {err: func() error { _, err := readAll(fs, "/share/secret"); return err }()},
		"read public":   {err: func() error { _, err := readAll(fs, "/etc/link"); return err }(), ok: true},
		"list":          {err: func() error { _, err := fs.ReadDir("/etc/dir"); return err }(), ok: true},
		"list closed":   {err: func() error { _, err := fs.ReadDir("/closed"); return err }()},
		"write":         {err: write("/etc/link")},
		"write shared":  {err: write("/share/shared"), ok: true},
		"make":          {err: write("/etc/dir/new")},
		"make by guest": {err: write("/etc/new"), ok: true},
		"change":        {err: fs.Change("/share/shared", mode)},
		"change link":   {err: fs.Change("/etc/dir/public", mode)},
		"remove":        {err: fs.Remove("/etc/dir/public")},
		"rename":        {err: fs.Rename("/etc/dir/public", "/etc/public")},
	}
	for name, tt := range tests {
		if tt.ok && tt.err != nil || !tt.ok && !errs.Is(tt.err, errs.Denied) {
			t.Errorf("%s: got %v", name, tt.err)
		}
	}
}

func TestAPanicDoesNotKeepTheGuestsIDs(t *testing.T) {
	testenv.Kernel(t)
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fs := guestfs.New(root, idmap.Default(base, 65536), nil)
	defer fs.Close()
	runtime.LockOSThread() // So that it is one thread that is looked at.
	defer runtime.UnlockOSThread()
	func() {
		defer func() { _ = recover() }()
		_ = fs.AsGuest(func() error { panic("test") })
	}()
	if uid, _ := unix.SetfsuidRetUid(-1); uid != os.Geteuid() {
		t.Errorf("files are made as %d after a panic", uid)
	}
}
