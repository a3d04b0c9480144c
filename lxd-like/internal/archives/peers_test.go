package archives_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage"
)

const peers = "../../../tests/testdata/backups"

func readPeers(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(peers, name))
	must(tb, err)
	return data
}

// TestPeers brings in what LXD and Incus made.
func TestPeers(t *testing.T) {
	for _, p := range pools(t) {
		for _, name := range []string{"lxd-dir.tar.zst", "incus-dir.tar.zst", "lxd-only.tar.gz", "incus-only.tar.gz", "lxd-btrfs-optimized.tar.xz", "incus-btrfs-optimized.tar.xz"} {
			if strings.Contains(name, "optimized") && p.driver != "btrfs" {
				continue
			}
			t.Run(p.driver+"/"+name, func(t *testing.T) {
				v := storage.Volume{Kind: storage.Instance, Name: strings.ReplaceAll(name, ".", "-")}
				a := restore(t, p, readPeers(t, name), v)
				if a.Document.Instance.Config["user.key"] != "val" || len(a.Document.Snapshots) != len(a.Snapshots) || len(a.Document.Profiles) != 1 {
					t.Errorf("the document is %+v", a.Document)
				}
				hello := map[string]string{"snap0": "hello\n", "snap1": "two\n", "": "two\n"}
				for _, snapshot := range append([]string{""}, a.Snapshots...) {
					v.Snapshot = snapshot
					at := mount(t, p, v)
					checkPeers(t, filepath.Join(at, "rootfs"), hello[snapshot])
					_, err := os.Lstat(filepath.Join(at, "rootfs/root/new"))
					if (err == nil) != (snapshot == "") {
						t.Errorf("state %q: root/new: %v", snapshot, err)
					}
					if _, err := os.Stat(filepath.Join(at, "templates/hostname.tpl")); err != nil {
						t.Error(err)
					}
					must(t, p.Unmount(t.Context(), v))
				}
			})
		}
		for _, name := range []string{"lxd-volume.tar.bz2", "incus-volume.tar.bz2", "lxd-volume-optimized.tar.lzma", "incus-volume-optimized.tar.lzma"} {
			if strings.Contains(name, "optimized") && p.driver != "btrfs" {
				continue
			}
			t.Run(p.driver+"/"+name, func(t *testing.T) {
				v := storage.Volume{Kind: storage.Custom, Name: strings.ReplaceAll(name, ".", "-")}
				a := restore(t, p, readPeers(t, name), v)
				if len(a.Snapshots) != 1 || a.Document.Volume.Name != a.Name {
					t.Errorf("%+v", a.Index)
				}
				at := mount(t, p, v)
				if data, err := os.ReadFile(filepath.Join(at, "file")); string(data) != "data\n" && !a.Optimized {
					t.Errorf("%q, %v", data, err)
				}
				if st, err := os.Stat(at); err != nil || !a.Optimized && st.Mode().Perm() != 0o751 {
					t.Errorf("%v, %v", st.Mode(), err)
				}
			})
		}
	}
}

// checkPeers checks what the README beside the backups says.
func checkPeers(t *testing.T, root, hello string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "etc/hello"))
	if err != nil || string(data) != hello {
		t.Errorf("etc/hello: %q, %v, want %q", data, err, hello)
	}
	var st, hard unix.Stat_t
	must(t, unix.Lstat(filepath.Join(root, "etc/hello"), &st))
	must(t, unix.Lstat(filepath.Join(root, "root/hard"), &hard))
	if st.Ino != hard.Ino || hello == "hello\n" && (st.Uid != 1000 || st.Gid != 1000) {
		t.Errorf("etc/hello: %+v", st)
	}
	got := attrs(t, filepath.Join(root, "root/xattr"))
	for _, want := range []string{`user.foo="bar"`, "security.capability=", "system.posix_acl_access="} {
		if !strings.Contains(got, want) {
			t.Errorf("attributes %s, want %s", got, want)
		}
	}
	if to, err := os.Readlink(filepath.Join(root, "root/soft")); err != nil || to != "../etc/hello" {
		t.Errorf("%s, %v", to, err)
	}
	if st, err := os.Lstat(filepath.Join(root, "root/fifo")); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("%v, %v", st, err)
	}
	for _, name := range []string{"d/empty", "d/\xff odd"} {
		if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
}
