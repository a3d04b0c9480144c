package archives_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/storage"
)

// fill makes files of all kinds in the root of an instance, or in a volume.
func fill(tb testing.TB, root string) {
	tb.Helper()
	join := func(name string) string { return filepath.Join(root, name) }
	for _, d := range []string{"etc", "d/empty", "dev", "gone"} {
		must(tb, os.MkdirAll(join(d), 0o755))
	}
	must(tb, os.WriteFile(join("etc/hello"), []byte("hello\n"), 0o640))
	must(tb, os.Lchown(join("etc/hello"), 1000, 100000))
	must(tb, os.Link(join("etc/hello"), join("hard")))
	must(tb, os.WriteFile(join("gone/file"), []byte("x"), 0o600))
	must(tb, os.WriteFile(join("d/odd name\nnl"), nil, 0o600))
	must(tb, os.WriteFile(join("d/\xff\xfe"), []byte("odd"), 0o600))
	must(tb, os.WriteFile(join(strings.Repeat("n", 255)), []byte("long"), 0o600))
	must(tb, os.Symlink("/etc/shadow", join("link")))
	must(tb, os.Lchown(join("link"), 7, 8))
	must(tb, unix.Mkfifo(join("fifo"), 0o622))
	must(tb, unix.Mknod(join("dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(tb, unix.Mknod(join("dev/sda"), unix.S_IFBLK|0o660, int(unix.Mkdev(8, 0))))
	must(tb, os.WriteFile(join("suid"), []byte("x"), 0o755))
	must(tb, os.Chmod(join("suid"), 0o755|fs.ModeSetuid|fs.ModeSticky))
	// A capability, of version 2: net_raw+ep.
	must(tb, unix.Setxattr(join("suid"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(tb, unix.Setxattr(join("etc"), "user.some", []byte("v\x00w"), 0))
	must(tb, unix.Setxattr(join("etc/hello"), "trusted.some", []byte("t"), 0))
	must(tb, unix.Setxattr(join("d"), "system.posix_acl_default",
		[]byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"), 0))
	f, err := os.Create(join("sparse"))
	must(tb, err)
	_, err = f.WriteAt([]byte("data"), 5<<20)
	must(tb, err)
	must(tb, f.Truncate(10<<20))
	must(tb, f.Close())
	must(tb, os.WriteFile(join("large"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o600))
	must(tb, unix.UtimesNanoAt(unix.AT_FDCWD, join("large"), []unix.Timespec{{Sec: 1e9, Nsec: 5}, {Sec: 1e9, Nsec: 5}}, 0))
	must(tb, os.Chmod(root, 0o751)) //nolint:gosec // It is to be seen again.
}

// alter changes what fill made, in all ways that there are.
func alter(tb testing.TB, root string) {
	tb.Helper()
	join := func(name string) string { return filepath.Join(root, name) }
	must(tb, os.RemoveAll(join("gone")))
	must(tb, os.Remove(join("hard")))
	must(tb, os.WriteFile(join("hard"), []byte("on its own"), 0o600))
	must(tb, os.Remove(join("link")))
	must(tb, os.Mkdir(join("link"), 0o700))
	must(tb, os.WriteFile(join("link/inside"), []byte("i"), 0o600))
	must(tb, os.Remove(join("fifo")))
	must(tb, os.WriteFile(join("fifo"), []byte("a file"), 0o600))
	must(tb, os.RemoveAll(join("d/empty")))
	must(tb, os.Symlink("../etc", join("d/empty")))
	must(tb, unix.Removexattr(join("etc"), "user.some"))
	must(tb, os.Chmod(join("etc"), 0o700)) //nolint:gosec // Likewise.
	must(tb, os.Lchown(join("d"), 5, 6))
	f, err := os.OpenFile(join("large"), os.O_WRONLY, 0)
	must(tb, err)
	_, err = f.WriteAt([]byte("changed"), 300_000)
	must(tb, err)
	must(tb, f.Truncate(900_000))
	must(tb, f.Close())
	must(tb, os.Truncate(join("sparse"), 20<<20))
	must(tb, os.WriteFile(join("new"), []byte("new"), 0o600))
	must(tb, os.Link(join("new"), join("d/new")))
}

// dump describes all that is in a directory.
func dump(tb testing.TB, root string) string {
	tb.Helper()
	var out []string
	links := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		line := fmt.Sprintf("%q %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		case unix.S_IFLNK:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if first, ok := links[st.Ino]; ok && st.Nlink > 1 {
				line += " = " + first
			} else {
				links[st.Ino] = name
			}
		}
		if name != "." {
			line += fmt.Sprintf(" @%d.%d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		out = append(out, line+attrs(tb, path))
		return nil
	})
	must(tb, err)
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func attrs(tb testing.TB, path string) string {
	tb.Helper()
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(path, buf)
	must(tb, err)
	var out []string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name == "" || strings.Contains(name, "overlay") {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(path, name, value)
		must(tb, err)
		out = append(out, fmt.Sprintf(" %s=%q", name, value[:n]))
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// states dumps a volume and its snapshots.
func states(tb testing.TB, d storage.Driver, v storage.Volume, snapshots ...string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	ctx := context.WithoutCancel(tb.Context())
	for _, name := range append([]string{""}, snapshots...) {
		v.Snapshot = name
		at, err := d.Mount(ctx, v, nil)
		must(tb, err)
		held := ""
		if v.Kind == storage.Instance {
			data, err := os.ReadFile(filepath.Join(at, "tpm.t", "tpm2-00.permall"))
			must(tb, err)
			held, at = "its TPM holds "+string(data)+"\n", filepath.Join(at, "rootfs")
		}
		out[name] = held + dump(tb, at)
		v := v
		must(tb, d.Unmount(ctx, v))
	}
	return out
}
