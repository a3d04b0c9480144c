package files_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/client/cmd/cuib/internal/files"
)

// holey makes a file of the size with words at places.
func holey(t *testing.T, name string, size int64, words map[int64]string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at, word := range words {
		if _, err := f.WriteAt([]byte(word), at); err != nil {
			t.Fatal(err)
		}
	}
}

// same compares two files, the second of which is to take less room on the disk
// than most.
func same(t *testing.T, a, b string, most int64) {
	t.Helper()
	x, err := os.ReadFile(a)
	y, err2 := os.ReadFile(b)
	if err != nil || err2 != nil || !bytes.Equal(x, y) {
		t.Errorf("%s differs from %s, of %d and %d bytes (%v, %v)", b, a, len(y), len(x), err, err2)
	}
	var st unix.Stat_t
	if err := unix.Stat(b, &st); err != nil || st.Blocks*512 > most {
		t.Errorf("%s takes %d bytes (%v), want %d at most", b, st.Blocks*512, err, most)
	}
}

func TestHoles(t *testing.T) {
	const size = 8 << 20
	tests := map[string]struct {
		size  int64
		words map[int64]string
	}{
		"nothing":             {0, nil},
		"no hole":             {3, map[int64]string{0: "abc"}},
		"only a hole":         {size + 5, nil},
		"a hole at its end":   {size, map[int64]string{0: "begin"}},
		"a hole at its start": {size + 3, map[int64]string{size: "end"}},
		"holes between":       {size, map[int64]string{4095: "over a page", 1 << 20: strings.Repeat("much", 40<<10), 5<<20 + 17: "x"}},
	}
	c, dir := guest(t)
	here := t.TempDir()
	p := files.Pusher{FS: c, To: files.Path{File: dir, IsDir: true}, Attributes: files.Attributes{UID: -1, GID: -1}}
	for name, test := range tests {
		from := filepath.Join(here, name)
		holey(t, from, test.size, test.words)
		if err := p.File(from); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, from, filepath.Join(dir, name), 512<<10)
		back := filepath.Join(here, "back")
		if err := os.WriteFile(back, bytes.Repeat([]byte("old"), 3<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := files.PullFile(c, filepath.Join(dir, name), back, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, from, back, 512<<10)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	if err := (files.Puller{FS: c}).Tree(dir, tree); err != nil {
		t.Error(err)
	}
	for name := range tests {
		same(t, filepath.Join(here, name), filepath.Join(tree, filepath.Base(dir), name), 512<<10)
	}
}

// What is appended to, or no file, gets its zeros, and of a file that somebody
// has begun to read the rest.
func TestHolesWhereNoneCanBe(t *testing.T) {
	c, dir := guest(t)
	holey(t, dir+"/zeros", 64<<10, nil)
	log := filepath.Join(t.TempDir(), "log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for range 2 {
		if _, err := files.Pull(c, dir+"/zeros", out, nil); err != nil {
			t.Fatal(err)
		}
	}
	same(t, log, log, 1<<20)
	if info, err := out.Stat(); err != nil || info.Size() != 128<<10 {
		t.Errorf("it has %v bytes (%v)", info, err)
	}
	f, err := os.Open(dir + "/zeros")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(1000, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	p := files.Pusher{FS: c, To: files.Path{File: dir + "/rest"}, Attributes: files.Attributes{UID: -1, GID: -1}}
	if err := p.Stream("x", f, 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir + "/rest"); err != nil || info.Size() != 63<<10+24 {
		t.Errorf("it has %v bytes (%v)", info, err)
	}
}
