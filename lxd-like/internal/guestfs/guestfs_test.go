package guestfs_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/testenv"
)

const base = 1_234_567

// mapped shows dir with its owners mapped, as an instance's root is shown.
func mapped(tb testing.TB, dir string) *os.File {
	tb.Helper()
	cmd := exec.Command("sleep", "60")
	ids := []syscall.SysProcIDMap{{HostID: base, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	ns, err := os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
	if err != nil {
		tb.Fatal(err)
	}
	defer ns.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		tb.Fatal(err)
	}
	return os.NewFile(uintptr(tree), dir)
}

// each runs a test on a plain directory, as of an instance that is stopped,
// and on a mapped one.
func each(t *testing.T, test func(t *testing.T, fs *guestfs.FS, dir string)) {
	t.Helper()
	eachEntered(t, func(t *testing.T, enter func() (*guestfs.FS, error), dir string) {
		fs, err := enter()
		if err != nil {
			t.Fatal(err)
		}
		defer fs.Close()
		test(t, fs, dir)
	})
}

func eachEntered(t *testing.T, test func(t *testing.T, enter func() (*guestfs.FS, error), dir string)) {
	t.Helper()
	testenv.Kernel(t)
	t.Run("plain", func(t *testing.T) {
		dir := guestRoot(t)
		test(t, func() (*guestfs.FS, error) {
			root, err := os.Open(dir)
			return guestfs.New(root, nil, nil), err
		}, dir)
	})
	t.Run("mapped", func(t *testing.T) {
		dir := guestRoot(t)
		tree := mapped(t, dir)
		defer tree.Close()
		var entered atomic.Int32
		test(t, func() (*guestfs.FS, error) {
			fd, err := unix.FcntlInt(tree.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			entered.Add(1)
			return guestfs.New(os.NewFile(uintptr(fd), dir), idmap.Default(base, 65536), func() { entered.Add(-1) }), err
		}, dir)
		if n := entered.Load(); n != 0 {
			t.Errorf("entered %d times more than left", n)
		}
	})
}

// guestRoot makes DIR/root, beside DIR/outside, which is not the guest's.
func guestRoot(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, data := range map[string]string{"outside/secret": "secret", "root/etc/hosts": "hosts", "root/tmp/x": "x"} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(data), 0o644)); err != nil {
			tb.Fatal(err)
		}
	}
	return filepath.Join(dir, "root")
}

func keep() guestfs.File { return guestfs.File{UID: -1, GID: -1, Mode: -1} }

func readAll(fs *guestfs.FS, name string) (string, error) {
	r, err := fs.Open(name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	return string(data), err
}

// owner returns what is on the disk.
func owner(tb testing.TB, p string) (uid, gid uint32, mode os.FileMode) {
	tb.Helper()
	st, err := os.Lstat(p)
	if err != nil {
		tb.Fatal(err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		tb.Fatal("no stat")
	}
	return sys.Uid, sys.Gid, st.Mode()
}

func TestWriteAndRead(t *testing.T) {
	each(t, func(t *testing.T, fs *guestfs.FS, dir string) {
		if err := fs.Write("/etc/new", strings.NewReader("one"), keep()); err != nil {
			t.Fatal(err)
		}
		if uid, gid, mode := owner(t, dir+"/etc/new"); uid != 0 || gid != 0 || mode != 0o644 {
			t.Errorf("new file on disk: %d:%d %v", uid, gid, mode)
		}
		if err := fs.Append("/etc/new", strings.NewReader(" two"), guestfs.File{UID: 33, GID: 44, Mode: 0o4750}); err != nil {
			t.Fatal(err)
		}
		if uid, gid, mode := owner(t, dir+"/etc/new"); uid != 33 || gid != 44 || mode != 0o750|os.ModeSetuid {
			t.Errorf("changed file on disk: %d:%d %v", uid, gid, mode)
		}
		f, err := fs.Stat("/etc/new")
		if err != nil || f.UID != 33 || f.GID != 44 || f.Mode != 0o4750 || f.Type != guestfs.Regular || f.Size != 7 || time.Since(f.Modified) > time.Hour {
			t.Errorf("stat: %+v %v", f, err)
		}
		if got, err := readAll(fs, "/etc/../etc/new"); err != nil || got != "one two" {
			t.Errorf("read %q, %v", got, err)
		}
		if err := fs.Write("/etc/new", strings.NewReader("3"), keep()); err != nil {
			t.Fatal(err)
		}
		if uid, _, _ := owner(t, dir+"/etc/new"); uid != 33 {
			t.Errorf("an overwrite without attributes changed the owner to %d", uid)
		}
		if got, _ := readAll(fs, "/etc/new"); got != "3" {
			t.Errorf("read %q", got)
		}
	})
}

func TestNamesAndDirectories(t *testing.T) {
	each(t, func(t *testing.T, fs *guestfs.FS, dir string) {
		steps := []struct {
			name string
			do   func() error
			want errs.Kind
			ok   bool
		}{
			{"mkdir", func() error { return fs.Mkdir("/srv", guestfs.File{UID: 5, GID: 6, Mode: 0o2770}) }, 0, true},
			{"mkdir again", func() error { return fs.Mkdir("/srv", keep()) }, 0, true},
			{"mkdir over a file", func() error { return fs.Mkdir("/etc/hosts", keep()) }, errs.Conflict, false},
			{"mkdir in nothing", func() error { return fs.Mkdir("/no/dir", keep()) }, errs.NotFound, false},
			{"symlink", func() error { return fs.Symlink("/srv/link", "../etc/hosts", guestfs.File{UID: 7, GID: 8}) }, 0, true},
			{"symlink again", func() error { return fs.Symlink("/srv/link", "../etc/hosts", keep()) }, 0, true},
			{"symlink elsewhere", func() error { return fs.Symlink("/srv/link", "else", keep()) }, errs.Conflict, false},
			{"link", func() error { return fs.Link("/etc/hosts", "/srv/hard") }, 0, true},
			{"rename", func() error { return fs.Rename("/srv/hard", "/srv/hard2") }, 0, true},
			{"remove full", func() error { return fs.Remove("/srv") }, errs.Conflict, false},
			{"remove the root", func() error { return fs.Remove("/") }, errs.Conflict, false},
			{"remove", func() error { return fs.Remove("/srv/hard2") }, 0, true},
			{"remove nothing", func() error { return fs.Remove("/srv/hard2") }, errs.NotFound, false},
			{"write to a directory", func() error { return fs.Write("/srv", strings.NewReader(""), keep()) }, errs.Invalid, false},
			{"owner out of range", func() error { return fs.Change("/etc/hosts", guestfs.File{UID: 1 << 31, GID: -1, Mode: -1}) }, errs.Invalid, false},
		}
		for _, s := range steps {
			err := s.do()
			if dirty := s.name == "owner out of range" && filepath.Base(t.Name()) == "plain"; dirty {
				continue // Without a map every id is one.
			}
			if s.ok != (err == nil) || err != nil && !errs.Is(err, s.want) {
				t.Errorf("%s: %v", s.name, err)
			}
		}
		if uid, gid, mode := owner(t, dir+"/srv"); uid != 5 || gid != 6 || mode != 0o770|os.ModeSetgid|os.ModeDir {
			t.Errorf("directory on disk: %d:%d %v", uid, gid, mode)
		}
		if uid, gid, _ := owner(t, dir+"/srv/link"); uid != 7 || gid != 8 {
			t.Errorf("link on disk: %d:%d", uid, gid)
		}
		if target, err := fs.ReadLink("/srv/link"); err != nil || target != "../etc/hosts" {
			t.Errorf("target %q, %v", target, err)
		}
		if _, err := fs.ReadLink("/etc/hosts"); !errs.Is(err, errs.Invalid) {
			t.Errorf("read link of a file: %v", err)
		}
		if got, err := readAll(fs, "/srv/link"); err != nil || got != "hosts" {
			t.Errorf("through the link: %q, %v", got, err)
		}
		if f, err := fs.Stat("/srv/link"); err != nil || f.Type != guestfs.Symlink {
			t.Errorf("stat of the link: %+v, %v", f, err)
		}
		sub, err := fs.Sub("/srv")
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		if _, err := sub.Stat("/link"); err != nil {
			t.Error(err)
		}
		if _, err := readAll(sub, "/link"); !errs.Is(err, errs.NotFound) { // It leads out.
			t.Errorf("out of a part: %v", err)
		}
		if _, err := fs.Sub("/etc/hosts"); !errs.Is(err, errs.NotFound) {
			t.Errorf("below a file: %v", err)
		}
		if names, err := fs.ReadDir("/"); err != nil || strings.Join(names, " ") != "etc srv tmp" {
			t.Errorf("names %q, %v", names, err)
		}
	})
}

func TestLinksLeadNowhereOutside(t *testing.T) {
	each(t, func(t *testing.T, fs *guestfs.FS, dir string) {
		outside := filepath.Join(filepath.Dir(dir), "outside")
		links := map[string]string{
			"absolute": outside, "relative": "../outside", "deep": "../../../../../../../../../" + outside,
			"file": outside + "/secret", "proc": "/proc/self/root" + outside, "up": "..",
		}
		for name, target := range links {
			if err := os.Symlink(target, filepath.Join(dir, "tmp", name)); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range []string{
			"/tmp/absolute/secret", "/tmp/relative/secret", "/tmp/deep/secret", "/tmp/file", "/tmp/proc/secret",
			"/tmp/up/outside/secret", "/../outside/secret", "../outside/secret", "/tmp/up/../outside/secret", outside + "/secret",
		} {
			if got, err := readAll(fs, p); !errs.Is(err, errs.NotFound) {
				t.Errorf("read %s: %q, %v", p, got, err)
			}
			if err := fs.Write(p, strings.NewReader("bad"), keep()); err == nil {
				t.Errorf("wrote %s", p)
			}
			for what, err := range map[string]error{
				"remove": fs.Remove(p + "/secret"), "mkdir": fs.Mkdir(p+"/dir", keep()), "change": fs.Change(p+"/secret", guestfs.File{UID: 1, GID: 1, Mode: 0}),
				"link": fs.Link(p+"/secret", "/tmp/stolen"), "rename": fs.Rename(p+"/secret", "/tmp/stolen"), "truncate": fs.Truncate(p, 0),
			} {
				if err == nil {
					t.Errorf("%s below %s", what, p)
				}
			}
		}
		if data, err := os.ReadFile(outside + "/secret"); err != nil || string(data) != "secret" {
			t.Errorf("outside was changed: %q, %v", data, err)
		}
		if entries, _ := os.ReadDir(outside); len(entries) != 1 {
			t.Errorf("outside has now %d entries", len(entries))
		}
	})
}

func TestRacesLeadNowhereOutside(t *testing.T) {
	each(t, func(t *testing.T, fs *guestfs.FS, dir string) {
		outside := filepath.Join(filepath.Dir(dir), "outside")
		d, aside, link := dir+"/tmp/d", dir+"/tmp/aside", dir+"/tmp/link"
		if err := errors.Join(os.Mkdir(d, 0o755), os.Symlink(outside, link), os.WriteFile(d+"/secret", []byte("mine"), 0o644)); err != nil {
			t.Fatal(err)
		}
		stop, stopped := make(chan bool), make(chan bool)
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default: // Each of the two is d for a while.
					_ = unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
				}
			}
		}()
		read := 0
		for i := range 3000 {
			name := "/tmp/d/" + strconv.Itoa(i)
			_ = fs.Write(name, strings.NewReader("x"), keep())
			_ = fs.Change("/tmp/d/secret", guestfs.File{UID: 9, GID: 9, Mode: -1})
			_ = fs.Remove(name)
			got, err := readAll(fs, "/tmp/d/secret")
			if err == nil {
				read++
				if got != "mine" {
					t.Fatalf("read %q from outside", got)
				}
			}
		}
		close(stop)
		<-stopped
		if read == 0 {
			t.Error("nothing could be read: the test shows nothing")
		}
		if uid, _, _ := owner(t, outside+"/secret"); uid != 0 {
			t.Errorf("owner outside is %d", uid)
		}
		if entries, _ := os.ReadDir(outside); len(entries) != 1 {
			t.Errorf("outside has now %d entries", len(entries))
		}
		_ = aside
	})
}

func TestSpecialFilesAreNotOpened(t *testing.T) {
	each(t, func(t *testing.T, fs *guestfs.FS, dir string) {
		if err := errors.Join(
			unix.Mkfifo(dir+"/tmp/fifo", 0o666),
			unix.Mknod(dir+"/tmp/full", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 7))),
		); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", dir+"/tmp/s")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, name := range []string{"/tmp/fifo", "/tmp/full", "/tmp/s"} {
			if _, err := fs.Open(name); !errs.Is(err, errs.Invalid) {
				t.Errorf("open %s: %v", name, err)
			}
			if err := fs.Write(name, strings.NewReader("x"), keep()); !errs.Is(err, errs.Invalid) {
				t.Errorf("write %s: %v", name, err)
			}
			if f, err := fs.Stat(name); err != nil || f.Type != "" {
				t.Errorf("stat %s: %+v, %v", name, f, err)
			}
			if err := fs.Remove(name); err != nil {
				t.Errorf("remove %s: %v", name, err)
			}
		}
	})
}

type brokenReader struct{ n int }

func (b *brokenReader) Read(p []byte) (int, error) {
	if b.n--; b.n < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return len(p), nil
}

func TestBrokenUploadLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, fs *guestfs.FS, dir string) {
		if err := fs.Write("/etc/new", &brokenReader{2}, keep()); !errs.Is(err, errs.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(dir + "/etc/new"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file is there: %v", err)
		}
		if err := fs.Write("/etc/new", strings.NewReader("x"), guestfs.File{UID: -1, GID: -1, Mode: 0o600}); err != nil {
			t.Errorf("then a whole one: %v", err)
		}
	})
}

func TestSFTP(t *testing.T) {
	eachEntered(t, func(t *testing.T, enter func() (*guestfs.FS, error), dir string) {
		server, conn := net.Pipe()
		served := make(chan error, 1)
		go func() { served <- guestfs.ServeSFTP(server, enter) }()
		c, err := sftp.NewClientPipe(conn, conn)
		if err != nil {
			t.Fatal(err)
		}
		sftpSteps(t, c, dir)
		_ = c.Close()
		_ = conn.Close()
		if err := <-served; err != nil {
			t.Errorf("served: %v", err)
		}
	})
}

func sftpSteps(t *testing.T, c *sftp.Client, dir string) {
	t.Helper()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	w, err := c.OpenFile("/etc/big", os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	check("create", err)
	_, err = w.ReadFrom(bytes.NewReader(big))
	check("write", err)
	check("chmod", w.Chmod(0o640))
	check("chown", w.Chown(33, 44))
	check("close", w.Close())
	if uid, gid, mode := owner(t, dir+"/etc/big"); uid != 33 || gid != 44 || mode != 0o640 {
		t.Errorf("on disk: %d:%d %v", uid, gid, mode)
	}
	a, err := c.OpenFile("/etc/big", os.O_WRONLY|os.O_APPEND)
	check("append", err)
	_, err = a.Write([]byte("end"))
	check("append", err)
	check("append", a.Close())
	r, err := c.Open("/etc/big")
	check("open", err)
	got, err := io.ReadAll(r)
	check("read", err)
	check("close", r.Close())
	if !bytes.Equal(got, append(big, "end"...)) {
		t.Errorf("read %d bytes, which differ", len(got))
	}
	check("mkdir", c.MkdirAll("/srv/a/b"))
	check("symlink", c.Symlink("../../etc/big", "/srv/a/link"))
	if target, err := c.ReadLink("/srv/a/link"); err != nil || target != "../../etc/big" {
		t.Errorf("link to %q, %v", target, err)
	}
	if st, err := c.Lstat("/srv/a/link"); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("lstat %v, %v", st, err)
	}
	st, err := c.Stat("/srv/a/link")
	check("stat", err)
	if sys, ok := st.Sys().(*sftp.FileStat); !ok || sys.UID != 33 || st.Size() != 1_000_003 {
		t.Errorf("stat %+v", st)
	}
	check("rename", c.Rename("/srv/a/link", "/srv/a/link2"))
	if err := c.Rename("/srv/a/link2", "/etc/hosts"); err == nil {
		t.Error("renamed over a file")
	}
	check("posix rename", c.PosixRename("/srv/a/link2", "/etc/hosts"))
	check("chtimes", c.Chtimes("/etc/big", time.Unix(1000, 0), time.Unix(2000, 0)))
	check("truncate", c.Truncate("/etc/big", 5))
	if st, err := os.Stat(dir + "/etc/big"); err != nil || st.Size() != 5 {
		t.Errorf("truncated: %v, %v", st, err)
	}
	if entries, err := c.ReadDir("/srv"); err != nil || len(entries) != 1 || !entries[0].IsDir() {
		t.Errorf("entries %v, %v", entries, err)
	}
	d, err := c.Open("/srv")
	check("open a directory", err)
	if st, err := d.Stat(); err != nil || !st.IsDir() {
		t.Errorf("stat of the open directory: %v, %v", st, err)
	}
	check("close a directory", d.Close())
	check("remove", c.RemoveDirectory("/srv/a/b"))
	if _, err := c.Stat("/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat of nothing: %v", err)
	}
	if _, err := c.OpenFile("/tmp/x", os.O_RDWR|os.O_CREATE|os.O_EXCL); err == nil {
		t.Error("made a file that exists")
	}
}
