package archive_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// pack makes a tar of headers; the data of a file is its name.
func pack(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
func dir(name string) tar.Header  { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
func symlink(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func link(name, to string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

func TestExtractStaysInside(t *testing.T) {
	tests := map[string]struct {
		headers []tar.Header
		bad     string // What the error names; unpacked if empty.
		files   string // What is below the target then.
	}{
		"plain":                   {[]tar.Header{dir("./"), dir("a/"), file("a/b"), link("a/c", "a/b"), symlink("d", "a")}, "", "a a/b a/c d"},
		"directories not listed":  {[]tar.Header{file("a/b/c")}, "", "a a/b a/b/c"},
		"double dot":              {[]tar.Header{file("../x")}, `"../x"`, ""},
		"double dot within":       {[]tar.Header{file("a/../../x")}, `"a/../../x"`, ""},
		"absolute":                {[]tar.Header{file("/x")}, "", "x"},
		"symlink to the host":     {[]tar.Header{symlink("a", "HOST"), file("a/x")}, `"a/x"`, ""},
		"symlink up":              {[]tar.Header{symlink("a", "../../../.."), file("a/x")}, "", "a x"},
		"symlink chain":           {[]tar.Header{dir("d"), symlink("d/a", ".."), symlink("b", "d/a/d/a/.."), file("b/x")}, "", "b d d/a x"},
		"symlink replaced by dir": {[]tar.Header{symlink("a", "HOST"), dir("a"), file("a/x")}, "", "a a/x"},
		"write through a symlink": {[]tar.Header{symlink("a", "HOST/x"), file("a")}, "", "a"},
		"symlink loop":            {[]tar.Header{symlink("a", "a"), file("a/x")}, `"a/x"`, ""},
		"hard link to the host":   {[]tar.Header{link("a", "HOST/secret")}, "secret", ""},
		"hard link up":            {[]tar.Header{link("a", "../secret")}, `"../secret"`, ""},
		"hard link by a symlink":  {[]tar.Header{symlink("h", "HOST"), link("a", "h/secret")}, `"a"`, ""},
		"hard link to a symlink":  {[]tar.Header{symlink("h", "HOST/secret"), link("a", "h"), file("a")}, "", "a h"},
		"hard link to nothing":    {[]tar.Header{link("a", "b")}, "b", ""},
		"file as a directory":     {[]tar.Header{file("a"), file("a/b")}, `"a/b"`, ""},
		"file over a directory":   {[]tar.Header{dir("a"), file("a/b"), file("a")}, `"a"`, ""},
		"devices":                 {[]tar.Header{{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}, {Typeflag: tar.TypeChar, Name: "mem", Devmajor: 1}, file("x")}, "", "x"},
		"fifo":                    {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "f"}}, "", "f"},
		"the same file twice":     {[]tar.Header{file("a"), file("a")}, "", "a"},
		"overlay's attributes": {[]tar.Header{
			{Typeflag: tar.TypeDir, Name: "a", PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.redirect": "/x", "SCHILY.xattr.user.overlay.opaque": "y"}},
		}, "", "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			host, dest := filepath.Join(base, "host"), filepath.Join(base, "dest")
			for _, d := range []string{host, dest} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(host, "secret"), []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			for i := range tt.headers {
				tt.headers[i].Name = strings.ReplaceAll(tt.headers[i].Name, "HOST", host)
				tt.headers[i].Linkname = strings.ReplaceAll(tt.headers[i].Linkname, "HOST", host)
			}
			err := archive.Extract(t.Context(), bytes.NewReader(pack(t, tt.headers...)), archive.Root{Dir: dest})
			if tt.bad != "" && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.bad)) {
				t.Errorf("got %v, want an error that names %s", err, tt.bad)
			}
			if tt.bad == "" && err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(list(t, host), " "); got != "secret" {
				t.Errorf("on the host are now: %s", got)
			}
			if data, err := os.ReadFile(filepath.Join(host, "secret")); err != nil || string(data) != "secret" {
				t.Errorf("the host's file: %q, %v", data, err)
			}
			if tt.bad != "" {
				return
			}
			got := strings.Join(list(t, dest), " ")
			if got != tt.files {
				t.Errorf("got %s, want %s", got, tt.files)
			}
			noOverlayAttrs(t, dest)
		})
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if path != dir {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func noOverlayAttrs(t *testing.T, dir string) {
	t.Helper()
	for _, name := range list(t, dir) {
		buf := make([]byte, 1024)
		n, err := unix.Llistxattr(filepath.Join(dir, name), buf)
		if err == nil && bytes.Contains(buf[:n], []byte("overlay")) {
			t.Errorf("%s has attributes %q", name, buf[:n])
		}
	}
}

// tree makes a directory with one of each thing that an archive keeps.
func tree(t *testing.T) string {
	t.Helper()
	src := t.TempDir()
	script := `set -e; cd "$1"; umask 022
		mkdir -p bin etc/x var/empty dev; chmod 1777 var/empty; chmod 711 etc/x
		echo hi > bin/tool; chmod 4755 bin/tool; ln bin/tool bin/same; ln -s ../bin/tool etc/link; ln -s /nowhere etc/dangling
		mkfifo etc/fifo; truncate -s 1M etc/holes; printf x | dd of=etc/holes bs=1 seek=700000 conv=notrunc status=none
		chown 1000:1001 etc/x; chown -h 5:6 etc/link; touch -d @1000000001.25 bin/tool; touch -h -d @5 etc/link; 
		mknod dev/null c 1 3; mknod dev/sda b 8 0
		setcap cap_net_raw+ep bin/same 2>&1 || true
		find . ! -name link ! -name tool ! -name same -exec touch -h -d @77 {} +`
	testenv.Run(t, "sh", "-c", script, "sh", src)
	must(t, unix.Setxattr(filepath.Join(src, "etc/x"), "user.note", []byte("\x00bin"), 0))
	must(t, unix.Setxattr(filepath.Join(src, "etc/x"), "trusted.overlay.opaque", []byte("y"), 0))
	must(t, unix.Setxattr(filepath.Join(src, "bin/tool"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	testenv.Run(t, "touch", "-d", "@1000000001", filepath.Join(src, "bin/tool"))
	testenv.Run(t, "touch", "-d", "@77", filepath.Join(src, "bin"), filepath.Join(src, "etc/x"))
	return src
}

// describe lists what is in a directory, without devices.
func describe(t *testing.T, dir string) string {
	t.Helper()
	out := testenv.Run(t, "sh", "-c", `cd "$1" && find . ! -type b ! -type c ! -path ./dev -printf '%p %y %m %U:%G %n %l %T@ ' \( -type f -printf '%s' -o -true \) -printf '\n' | sort &&
		getfattr -h -R -d -m '^(user|security\.capability|trusted)' . 2>&1 | grep -v trusted.overlay && sha256sum etc/holes bin/tool`, "sh", dir)
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestUnpackKeepsEverything(t *testing.T) {
	testenv.Kernel(t, "tar", "getfattr", "mksquashfs", "unsquashfs", "xz", "zstd", "bzip2")
	src := tree(t)
	want := describe(t, src)
	tarArgs := []string{"tar", "--xattrs", "--xattrs-include=*", "--format=pax", "--sparse", "-C", src}
	for format, flag := range map[archive.Format]string{archive.Tar: "", archive.Gzip: "--gzip", archive.Xz: "--xz", archive.Zstd: "--zstd", archive.Bzip2: "--bzip2"} {
		t.Run(string(format), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a")
			args := append([]string{}, tarArgs...)
			if flag != "" {
				args = append(args, flag)
			}
			testenv.Run(t, append(args, "-cf", file, ".")...)
			f, err := os.Open(file)
			must(t, err)
			defer f.Close()
			got, err := archive.Walk(t.Context(), f, func(string, *tar.Header, io.Reader) error { return nil })
			if err != nil || got != format {
				t.Fatalf("it is a %q, %v", got, err)
			}
			_, err = f.Seek(0, 0)
			must(t, err)
			dest := t.TempDir()
			must(t, archive.Extract(t.Context(), f, archive.Root{Dir: dest}))
			same(t, dest, want)
			var st unix.Stat_t
			must(t, unix.Stat(filepath.Join(dest, "etc/holes"), &st))
			if st.Blocks*512 > st.Size/2 {
				t.Errorf("a file of %d bytes with holes occupies %d", st.Size, st.Blocks*512)
			}
			for part := range 4 {
				damaged(t, file, part)
			}
		})
	}
	t.Run("squashfs", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "a")
		testenv.Run(t, "mksquashfs", src, file, "-quiet", "-no-progress", "-comp", "zstd")
		f, err := os.Open(file)
		must(t, err)
		defer f.Close()
		st, err := f.Stat()
		must(t, err)
		must(t, archive.CheckSquashfs(f, st.Size()))
		if err := archive.CheckSquashfs(f, 100); !errs.Is(err, errs.Invalid) {
			t.Errorf("cut off: %v", err)
		}
		dest := t.TempDir()
		must(t, archive.Unsquash(t.Context(), file, dest))
		same(t, dest, want)

		data, err := os.ReadFile(file)
		must(t, err)
		for i := range data[96 : len(data)/2] { // The superblock is before that.
			data[96+i] = 0xa5
		}
		must(t, os.WriteFile(file, data, 0o600))
		err = archive.Unsquash(t.Context(), file, t.TempDir())
		if !errs.Is(err, errs.Invalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("damaged: %v", err)
		}
	})
}

func same(t *testing.T, dest, want string) {
	t.Helper()
	if got := describe(t, dest); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	noOverlayAttrs(t, dest)
	for _, name := range []string{"dev/null", "dev/sda"} {
		if _, err := os.Lstat(filepath.Join(dest, name)); err == nil {
			t.Errorf("device %s was unpacked", name)
		}
	}
}

// damaged checks that an archive that is cut off is refused.
func damaged(t *testing.T, file string, part int) {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	cut := data[:len(data)*part/4]
	err = archive.Extract(t.Context(), bytes.NewReader(cut), archive.Root{Dir: t.TempDir()})
	if !errs.Is(err, errs.Invalid) {
		t.Errorf("%d of %d bytes: %v", len(cut), len(data), err)
	}
}

func TestExtractRejects(t *testing.T) {
	for name, data := range map[string]string{
		"nothing":  "",
		"a text":   strings.Repeat("hello ", 100),
		"squashfs": "hsqs" + strings.Repeat("x", 500),
		"gzip":     "\x1f\x8b" + strings.Repeat("x", 500),
		"zstd":     "\x28\xb5\x2f\xfd" + strings.Repeat("x", 500),
		"xz":       "\xfd7zXZ\x00" + strings.Repeat("x", 500),
		"bzip2":    "BZh" + strings.Repeat("x", 500),
		"tar":      strings.Repeat("\x00", 257) + "ustar" + strings.Repeat("x", 500),
	} {
		if name == "xz" {
			if _, err := exec.LookPath("xz"); err != nil {
				continue
			}
		}
		err := archive.Extract(t.Context(), strings.NewReader(data), archive.Root{Dir: t.TempDir()})
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExtractPlaces(t *testing.T) {
	dest := t.TempDir()
	data := pack(t, file("a"), file("b"), link("c", "a"))
	err := archive.Extract(t.Context(), bytes.NewReader(data), archive.Root{Dir: dest, Place: func(name string) string {
		if name == "b" {
			return ""
		}
		return "in/" + name
	}})
	must(t, err)
	if got := strings.Join(list(t, dest), " "); got != "in in/a in/c" {
		t.Errorf("got %s", got)
	}
	data = pack(t, tar.Header{Typeflag: tar.TypeReg, Name: "old", ModTime: time.Unix(1, 0)})
	must(t, archive.Extract(t.Context(), bytes.NewReader(data), archive.Root{Dir: dest}))
	if st, err := os.Stat(filepath.Join(dest, "old")); err != nil || st.ModTime().Unix() != 1 {
		t.Errorf("time %v, %v", st.ModTime(), err)
	}
}

func TestRootsAreApart(t *testing.T) {
	outer := t.TempDir()
	inner := filepath.Join(outer, "rootfs")
	must(t, os.Mkdir(inner, 0o755))
	data := pack(t, file("top"), symlink("rootfs/up", ".."), file("rootfs/up/top"), file("rootfs/up/new"))
	err := archive.Extract(t.Context(), bytes.NewReader(data),
		archive.Root{Dir: inner, Place: func(name string) string {
			rest, ok := strings.CutPrefix(name, "rootfs/")
			if !ok {
				return ""
			}
			return rest
		}},
		archive.Root{Dir: outer})
	must(t, err)
	if got := strings.Join(list(t, outer), " "); got != "rootfs rootfs/new rootfs/top rootfs/up top" {
		t.Errorf("got %s", got)
	}
	if text, err := os.ReadFile(filepath.Join(outer, "top")); err != nil || string(text) != "top" {
		t.Errorf("got %q, %v", text, err)
	}
}

func FuzzWalk(f *testing.F) {
	var small bytes.Buffer
	w := tar.NewWriter(&small)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a/../b", Size: 1, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(small.Bytes())
	f.Add(append(small.Bytes(), make([]byte, 1536)...))
	for _, magic := range []string{"", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd", "BZh9", "hsqs"} {
		f.Add([]byte(magic + strings.Repeat("\x00", 300)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.HasPrefix(data, []byte("\xfd7zXZ")) {
			t.Skip() // A process for each.
		}
		_, err := archive.Walk(t.Context(), bytes.NewReader(data), func(name string, _ *tar.Header, _ io.Reader) error {
			if name == "" || filepath.IsAbs(name) || name != filepath.Clean(name) || strings.HasPrefix(name, "..") {
				t.Errorf("name %q", name)
			}
			return nil
		})
		if err != nil && !errs.Is(err, errs.Invalid) {
			t.Errorf("got %v", err)
		}
	})
}
