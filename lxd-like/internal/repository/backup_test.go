package repository_test

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, data, 0o644))
}

// noise returns data that no compression makes smaller.
func noise(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(out) // It never fails.
	return out
}

// menagerie makes one of each kind of file in dir.
func menagerie(t *testing.T, dir string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	write(t, in("file"), []byte("hello"))
	must(t, os.Link(in("file"), in("hard link")))
	must(t, os.Symlink("/etc/passwd", in("symlink")))
	must(t, os.Lchown(in("symlink"), 77, 88))
	write(t, in("we\nird \xff * [x] $HOME"), noise(100))
	must(t, os.Mkdir(in("dir"), 0o700))
	must(t, os.Chown(in("dir"), 1000, 65534))
	must(t, os.Chmod(in("dir"), 0o3770))
	must(t, unix.Setxattr(in("dir"), "user.dir", []byte("d"), 0))
	write(t, in("suid"), []byte("#!/bin/sh"))
	must(t, os.Chmod(in("suid"), os.ModeSetuid|0o755))
	write(t, in("ids"), noise(5000))
	must(t, os.Chown(in("ids"), 65535, 12345))
	must(t, unix.Setxattr(in("ids"), "user.note", []byte("a\x00b"), 0))
	must(t, unix.Setxattr(in("ids"), "trusted.note", []byte("t"), 0))
	testenv.Run(t, "setfacl", "-m", "u:5000:rwx", in("file"))
	testenv.Run(t, "setfacl", "-d", "-m", "g:600:rx", in("dir"))
	write(t, in("ping"), noise(3000))
	testenv.Run(t, "setcap", "cap_net_raw+ep", in("ping"))
	must(t, unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(in("disk"), unix.S_IFBLK|0o640, int(unix.Mkdev(7, 300))))
	must(t, unix.Mkfifo(in("pipe"), 0o600))
	write(t, in("empty"), nil)
	old := time.Unix(-5, 123456789)
	must(t, os.Chtimes(in("empty"), old, old))
	must(t, os.Mkdir(in("locked"), 0o000))
	for range 50 {
		dir = filepath.Join(dir, strings.Repeat("d", 50))
	}
	must(t, os.MkdirAll(dir, 0o755))
}

func TestRestoreIsTrue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo()
	d := w.instance("c1")
	menagerie(t, filepath.Join(d, "rootfs"))
	must(t, os.Chmod(d, 0o711))
	must(t, os.Chown(d, 3, 4))
	must(t, unix.Setxattr(d, "user.root", []byte("1"), 0))
	made := w.backUp("instances/c1")[0]
	if made.Source != "instances/c1" || made.Host != "h1" || made.Added <= 0 || made.Size <= 8100 {
		t.Errorf("made %+v", made)
	}
	wantErr(t, w.restore(api.RepositoryRestorePost{ID: made.ID}), errs.Conflict, "exists already")
	must(t, w.restore(api.RepositoryRestorePost{ID: made.ID, Name: "c2"}))
	wantSame(t, w.restored(storage.Instance, "c2"), d)
	w.forget("c1")
	must(t, w.restore(api.RepositoryRestorePost{From: "instances/c1"}))
	wantSame(t, w.restored(storage.Instance, "c1"), d)
	if left := mountsBelow(t, w.dir); len(left) > 0 {
		t.Errorf("still mounted: %v", left)
	}
}

func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	var out []string
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], dir+"/state/repositories") {
			out = append(out, f[4])
		}
	}
	return out
}

func TestSparse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo()
	d := w.volume("v")
	f, err := os.Create(filepath.Join(d, "sparse"))
	must(t, err)
	must(t, f.Truncate(64<<20))
	_, err = f.WriteAt([]byte("middle"), 33<<20)
	must(t, err)
	must(t, f.Close())
	w.backUp("volumes/p/v")
	must(t, w.restore(api.RepositoryRestorePost{From: "volumes/p/v", Name: "v2"}))
	back := w.restored(storage.Custom, "v2")
	wantSame(t, back, d)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(back, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("the sparse file has %d bytes on the disk", st.Blocks*512)
	}
}

func TestSecondBackupIsSmall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repo()
	d := w.instance("c1")
	// restic cuts files where their contents say, in a way that is another one
	// in each repository: what is around a change is in pieces of up to 8 MiB.
	const size, most = 64 << 20, 17 << 20
	data := noise(size)
	write(t, filepath.Join(d, "rootfs", "large"), data)
	for i := range 500 {
		write(t, filepath.Join(d, "rootfs", "small", strings.Repeat("x", i%20+1), time.Duration(i).String()), noise(1000+i))
	}
	w.backUp("instances/c1")
	first := usage(t, repo)
	copy(data[20<<20:], noise(1<<20))
	write(t, filepath.Join(d, "rootfs", "large"), data)
	second := w.backUp("instances/c1")[0]
	if grown := usage(t, repo) - first; grown > most || second.Added > most {
		t.Errorf("1 MiB changed, and the repository grew by %d; the backup says %d", grown, second.Added)
	}
	all, err := w.Backups(t.Context(), "r", "instances/c1")
	must(t, err)
	if len(all) != 2 || all[1].Added != second.Added || all[0].Added < size || all[0].Size < size {
		t.Errorf("the list is %+v", all)
	}
	must(t, w.restore(api.RepositoryRestorePost{ID: all[1].ID[:10], Name: "c2"}))
	wantSame(t, w.restored(storage.Instance, "c2"), d)
}

func usage(t *testing.T, dir string) int64 {
	t.Helper()
	var n int64
	for _, f := range strings.Fields(testenv.Run(t, "du", "-sb", dir))[:1] {
		for _, c := range f {
			n = n*10 + int64(c-'0')
		}
	}
	return n
}

func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo()
	root := filepath.Join(w.instance("c1"), "rootfs")
	write(t, filepath.Join(root, "etc", "motd"), []byte("hello\n"))
	must(t, os.Symlink("motd", filepath.Join(root, "etc", "link")))
	l, err := net.Listen("unix", filepath.Join(root, "etc", "socket"))
	must(t, err)
	defer l.Close()
	id := w.backUp("instances/c1")[0].ID
	ctx := t.Context()
	f, _, err := w.Open(ctx, "r", id, "etc/../etc/motd")
	must(t, err)
	data, err := io.ReadAll(f.Data)
	if err != nil || string(data) != "hello\n" || f.Size != 6 || f.Name != "motd" {
		t.Errorf("got %q, %+v, %v", data, f, err)
	}
	f.Data.Close()
	_, files, err := w.Open(ctx, "r", id, "/etc")
	must(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Type+" "+f.Name)
	}
	if !slices.Equal(names, []string{"symlink link", "file motd"}) {
		t.Errorf("got %v", names)
	}
	_, _, err = w.Open(ctx, "r", id, "/etc/link")
	wantErr(t, err, errs.Invalid, "a symlink")
	_, _, err = w.Open(ctx, "r", id, "/../../document.yaml")
	wantErr(t, err, errs.NotFound, "no file")
	_, _, err = w.Open(ctx, "r", "abcdef", "/etc")
	wantErr(t, err, errs.NotFound, `backup "abcdef" not found`)
	host := w.backUp("host")[0].ID
	if _, files, err = w.Open(ctx, "r", host, "/"); err != nil || len(files) != 1 || files[0].Name != "document.yaml" {
		t.Errorf("the host's backup has %v, %v", files, err)
	}
}

func TestWhatCannotBeBackedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repo()
	w.instance("c1")
	ctx := t.Context()
	for source, want := range map[string]struct {
		kind errs.Kind
		text string
	}{
		"instances/none": {errs.NotFound, "instances/none not found"},
		"c1":             {errs.Invalid, "instances/NAME, volumes/POOL/NAME or host"},
		"volumes/p":      {errs.Invalid, "instances/NAME, volumes/POOL/NAME or host"},
		"volumes/p/x":    {errs.NotFound, "volumes/p/x not found"},
	} {
		_, err := w.CreateBackups(ctx, "r", api.RepositoryBackupsPost{Sources: []string{source}})
		wantErr(t, err, want.kind, want.text)
	}
	_, err := w.CreateBackups(ctx, "none", api.RepositoryBackupsPost{})
	wantErr(t, err, errs.NotFound, `repository "none" not found`)
	must(t, os.Rename(repo, repo+".away"))
	err = w.run(w.CreateBackups(ctx, "r", api.RepositoryBackupsPost{Sources: []string{"instances/c1"}}))
	wantErr(t, err, errs.Unavailable, "there is no repository at "+repo)
	if got, err := w.Get(ctx, "r"); err != nil || got.Status != "Unavailable" {
		t.Errorf("got %+v, %v", got, err)
	}
	must(t, os.Rename(repo+".away", repo))
	w.backUp("instances/c1")
	if got, err := w.Get(ctx, "r"); err != nil || got.Status != "Available" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRepositoryIsFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	small := testenv.Mounted(t, "ext4", "16M")
	_, err := w.Create(t.Context(), api.BackupRepositoriesPost{Name: "r", BackupRepositoryPut: api.BackupRepositoryPut{
		Config: api.ConfigMap{"location": filepath.Join(small, "r"), "password": "x"},
	}})
	must(t, err)
	d := w.instance("c1")
	write(t, filepath.Join(d, "rootfs", "little"), []byte("x"))
	first := w.backUp("instances/c1")[0]
	write(t, filepath.Join(d, "rootfs", "large"), noise(40<<20))
	job, err := w.CreateBackups(t.Context(), "r", api.RepositoryBackupsPost{Sources: []string{"instances/c1"}})
	must(t, err)
	op, err := w.ops.Start(t.Context(), job)
	must(t, err)
	// When the disk is full restic 0.14 can wait for itself for ever: it can be
	// ended then.
	hangs := time.AfterFunc(testenv.Patience, func() { _ = op.Cancel() })
	desc := op.Wait(t.Context())
	if hangs.Stop() {
		wantErr(t, errs.FromStatus(int(desc.ErrCode), desc.Err), errs.Unavailable, "no space left on device")
	} else if desc.StatusCode != api.Canceled {
		t.Errorf("the operation was canceled and ended with %+v", desc)
	}
	all, err := w.Backups(t.Context(), "r", "")
	if err != nil || len(all) != 1 || !strings.HasPrefix(all[0].ID, first.ID) {
		t.Errorf("after a failure: %v, %v", all, err)
	}
	must(t, w.restore(api.RepositoryRestorePost{ID: first.ID, Name: "c2"}))
}

func TestPoolIsFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.repo()
	d := w.instance("c1")
	write(t, filepath.Join(d, "rootfs", "large"), noise(40<<20))
	w.backUp("instances/c1")
	small := testenv.Mounted(t, "ext4", "16M")
	w.pool = w.openPool(filepath.Join(small, "pool"))
	err := w.restore(api.RepositoryRestorePost{From: "instances/c1", Name: "c2"})
	wantErr(t, err, errs.Unavailable, "not enough room")
	all, err := w.pool.List(t.Context())
	if err != nil || len(all) != 0 {
		t.Errorf("the pool has %v, %v", all, err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	repo := w.repo()
	write(t, filepath.Join(w.instance("c1"), "rootfs", "f"), noise(1<<20))
	w.backUp("instances/c1")
	ctx := t.Context()
	for _, subset := range []string{"", "all", "100%", "1/1", "10M"} {
		must(t, w.run(w.Verify(ctx, "r", api.RepositoryVerifyPost{ReadData: subset})))
	}
	for _, subset := range []string{"half", "0%", "150%", "-5%", "2/1", "0/3", "10X", "0G", "1GG", "%"} {
		_, err := w.Verify(ctx, "r", api.RepositoryVerifyPost{ReadData: subset})
		wantErr(t, err, errs.Invalid, `got "`+subset+`"`)
	}
	pack := largest(t, filepath.Join(repo, "data"))
	flip(t, pack)
	must(t, w.run(w.Verify(ctx, "r", api.RepositoryVerifyPost{})))
	wantErr(t, w.run(w.Verify(ctx, "r", api.RepositoryVerifyPost{ReadData: "100%"})), errs.Internal, "is damaged")
	wantErr(t, w.restore(api.RepositoryRestorePost{From: "instances/c1", Name: "c2"}), errs.Unavailable, "could not be restored")
	if all, err := w.pool.List(ctx); err != nil || len(all) != 0 {
		t.Errorf("the pool has %v, %v", all, err)
	}
	must(t, os.Remove(pack))
	wantErr(t, w.run(w.Verify(ctx, "r", api.RepositoryVerifyPost{})), errs.Internal, "is damaged")
}

// flip changes one bit of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)/2] ^= 1
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, data, 0o600))
}

func largest(t *testing.T, dir string) string {
	t.Helper()
	var found string
	var size int64
	must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > size {
			found, size = path, info.Size()
		}
		return err
	}))
	return found
}
