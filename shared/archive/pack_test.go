package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// packed makes a tar of a directory.
func packed(t *testing.T, dir string) []byte {
	t.Helper()
	var buf bytes.Buffer
	p := archive.NewPacker(t.Context(), &buf)
	must(t, p.File("note", []byte("text"), time.Unix(5, 0)))
	must(t, p.Tree(dir, "in"))
	must(t, p.Close())
	return buf.Bytes()
}

// inside is the place of what packed has below "in".
func inside(name string) string {
	if name == "in" {
		return "."
	}
	rest, _ := strings.CutPrefix(name, "in/")
	if rest == name {
		return ""
	}
	return rest
}

func TestPackKeepsEverything(t *testing.T) {
	testenv.Kernel(t, "tar", "getfattr", "setfattr", "xz", "bzip2")
	src := tree(t)
	testenv.Run(t, "sh", "-ec", `cd "$1"
		truncate -s 3M etc/all-hole; printf x > etc/ends-in-hole; truncate -s 2M etc/ends-in-hole
		printf y > 0NU.sparse.realsize; truncate -s 1M 0NU.sparse.realsize
		setfattr -n user.1NU.sparse.name -v 0NU.sparse.major 0NU.sparse.realsize
		long=$(printf 'd%.0s' $(seq 200)); mkdir $long; echo x > $long/$long; printf 'a\nb' > "$(printf 'new\nline \377')"
		ln etc/link etc/link-again; chown 3000000:70000 "$long"; touch -d @-5 $long/$long; touch -d @4102444800.5 etc/ends-in-hole
		find . -newer etc/fifo ! -path './bin/*' ! -name $long -exec touch -h -d @77.125 {} +; touch -h -d @77 .`, "sh", src)
	want := describe(t, src)
	plain := packed(t, src)
	for _, format := range []archive.Format{archive.Tar, archive.Gzip, archive.Zstd, archive.Xz, archive.Bzip2} {
		t.Run(string(format), func(t *testing.T) {
			r, err := archive.Compress(t.Context(), bytes.NewReader(plain), format)
			must(t, err)
			data, err := io.ReadAll(r)
			must(t, errors.Join(err, r.Close()))
			if got, err := archive.Walk(t.Context(), bytes.NewReader(data), func(string, *tar.Header, io.Reader) error { return nil }); err != nil || got != format {
				t.Errorf("it is a %q, %v", got, err)
			}
			dest := t.TempDir()
			must(t, archive.Extract(t.Context(), bytes.NewReader(data), archive.Root{Dir: dest, Place: inside}))
			same(t, dest, want)
			stillSparse(t, dest)
		})
	}
	t.Run("by tar", func(t *testing.T) {
		dest := t.TempDir()
		file := filepath.Join(t.TempDir(), "a")
		must(t, os.WriteFile(file, plain, 0o600))
		testenv.Run(t, "tar", "--xattrs", "--xattrs-include=*", "--exclude=in/dev/*", "-C", dest, "-xpf", file)
		same(t, filepath.Join(dest, "in"), want)
		stillSparse(t, filepath.Join(dest, "in"))
	})
}

func stillSparse(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"etc/holes", "etc/all-hole", "etc/ends-in-hole", "0NU.sparse.realsize"} {
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, name), &st))
		if st.Blocks*512 > st.Size/2 {
			t.Errorf("%s of %d bytes with holes occupies %d", name, st.Size, st.Blocks*512)
		}
	}
}

func TestPackLeavesOut(t *testing.T) {
	testenv.Kernel(t, "python3")
	src := t.TempDir()
	// Sockets that are links of each other, and devices that are.
	testenv.Run(t, "python3", "-c", `import os, socket, sys
os.chdir(sys.argv[1])
s = socket.socket(socket.AF_UNIX)
s.bind("sock")
os.link("sock", "sock2")
os.mknod("dev", 0o020600, 0)
os.link("dev", "dev2")
open("file", "w").close()`, src)
	dest := t.TempDir()
	must(t, archive.Extract(t.Context(), bytes.NewReader(packed(t, src)), archive.Root{Dir: dest, Place: inside}))
	if got := strings.Join(list(t, dest), " "); got != "file" {
		t.Errorf("got %s", got)
	}
}

func TestPackFails(t *testing.T) {
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), make([]byte, 1<<20), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := archive.NewPacker(ctx, io.Discard).Tree(src, "in"); !errs.Is(err, errs.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	must(t, os.Symlink(src, filepath.Join(src, "link")))
	if err := archive.NewPacker(t.Context(), io.Discard).Tree(filepath.Join(src, "link"), "in"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a link: %v", err)
	}
	must(t, unix.Setxattr(filepath.Join(src, "f"), "user.a=b", []byte("x"), 0))
	if err := archive.NewPacker(t.Context(), io.Discard).Tree(src, "in"); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "user.a=b") {
		t.Errorf("an attribute with =: %v", err)
	}
	fd, err := unix.Open(src, unix.O_DIRECTORY, 0)
	must(t, err)
	for range 2100 {
		must(t, unix.Mkdirat(fd, "d", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_DIRECTORY, 0)
		must(t, errors.Join(err, unix.Close(fd)))
		fd = next
	}
	must(t, unix.Close(fd))
	must(t, os.Remove(filepath.Join(src, "f")))
	if err := archive.NewPacker(t.Context(), io.Discard).Tree(src, "in"); !errs.Is(err, errs.Unsupported) {
		t.Errorf("a deep directory: %v", err)
	}
}

// badReader fails.
type badReader struct{}

func (badReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestCompressFails(t *testing.T) {
	testenv.Kernel(t, "xz", "bzip2")
	for _, format := range []archive.Format{archive.Tar, archive.Gzip, archive.Zstd, archive.Xz, archive.Bzip2} {
		r, err := archive.Compress(t.Context(), badReader{}, format)
		must(t, err)
		if _, err := io.ReadAll(r); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s: got %v", format, err)
		}
		must(t, r.Close())
	}
	if _, err := archive.Compress(t.Context(), badReader{}, archive.Squashfs); !errs.Is(err, errs.Invalid) {
		t.Errorf("squashfs: %v", err)
	}
}
