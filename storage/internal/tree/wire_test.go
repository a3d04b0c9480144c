package tree_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// grown makes a tree with some of everything that a user can make.
func grown(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(in("a/b/c"), 0o750))
	must(os.WriteFile(in("a/f"), []byte("text"), 0o640))
	must(os.Link(in("a/f"), in("a/b/hard")))
	must(os.Symlink("../f", in("a/b/sym")))
	must(unix.Mkfifo(in("a/fifo"), 0o600))
	must(os.WriteFile(in("big"), bytes.Repeat([]byte("0123456789abcdef"), 40000), 0o600))
	must(os.WriteFile(in("odd\n\xff name"), nil, 0o4755))
	f, err := os.Create(in("sparse"))
	must(err)
	_, err = f.WriteAt([]byte("end"), 3<<20)
	must(errors.Join(err, f.Truncate(5<<20), f.Close()))
	must(unix.UtimesNanoAt(unix.AT_FDCWD, in("a/b/c"), []unix.Timespec{{Sec: -5, Nsec: 6}, {Sec: -7, Nsec: 8}}, 0))
	return dir
}

func wantAlike(t *testing.T, a, b string) {
	t.Helper()
	ok(t, tree.Diff(t.Context(), a, b, func(c storage.Change) error {
		t.Errorf("%s %q", c.Op, c.Path)
		return nil
	}))
	ok(t, filepath.WalkDir(a, func(path string, e os.DirEntry, err error) error {
		rel, _ := filepath.Rel(a, path)
		var x, y unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &x), unix.Lstat(filepath.Join(b, rel), &y)); err != nil {
			return err
		}
		if x.Mtim != y.Mtim || e.Type() == 0 && x.Nlink != y.Nlink {
			t.Errorf("%q: times %v and %v, %d and %d links", rel, x.Mtim, y.Mtim, x.Nlink, y.Nlink)
		}
		if !e.Type().IsRegular() {
			return nil
		}
		one, err := os.ReadFile(path)
		two, err2 := os.ReadFile(filepath.Join(b, rel))
		if !bytes.Equal(one, two) {
			t.Errorf("%q differs", rel)
		}
		return errors.Join(err, err2)
	}))
}

func written(t testing.TB, o tree.WriteOptions, dir string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := o.Write(t.Context(), &buf, dir); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestWire(t *testing.T) {
	src, dst, before := grown(t), t.TempDir(), filepath.Join(t.TempDir(), "before")
	ok(t, tree.Copy(t.Context(), before, src))
	whole := written(t, tree.WriteOptions{}, src)
	if len(whole) > 1<<20 {
		t.Errorf("holes were sent: %d bytes", len(whole))
	}
	ok(t, tree.ReadOptions{}.Read(t.Context(), bufio.NewReader(bytes.NewReader(whole)), dst))
	wantAlike(t, src, dst)
	if !bytes.Equal(whole, written(t, tree.WriteOptions{}, dst)) {
		t.Error("the stream of the copy is another")
	}

	in := func(name string) string { return filepath.Join(src, name) }
	ok(t, os.RemoveAll(in("a/b/c")))
	ok(t, os.WriteFile(in("a/b/c"), []byte("was a directory"), 0o600))
	ok(t, os.Remove(in("a/fifo")))
	ok(t, os.MkdirAll(in("a/fifo/x"), 0o700))
	ok(t, os.Link(in("a/f"), in("third")))
	ok(t, os.Chmod(in("big"), 0o644))
	ok(t, os.Chmod(in("a"), 0o700))
	part := written(t, tree.WriteOptions{Before: before}, src)
	ok(t, tree.ReadOptions{}.Read(t.Context(), bufio.NewReader(bytes.NewReader(part)), dst))
	wantAlike(t, src, dst)
	ok(t, os.RemoveAll(before))
	ok(t, tree.Copy(t.Context(), before, src))
	if none := written(t, tree.WriteOptions{Before: before}, src); len(none) > 100 {
		t.Errorf("%d bytes of nothing", len(none))
	}
}

func TestWireRefuses(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	ok(t, os.Mkdir(outside, 0o700))
	text := func(s string) string { return string(append([]byte{byte(len(s))}, s...)) }
	const attrs = "\x00\x00\x00\x00\x00\x00" // Mode, owner, time, no extended attributes.
	for name, stream := range map[string]string{
		"nothing":                        "",
		"no end":                         "d" + text("d"),
		"unknown kind":                   "x" + text("d") + "e",
		"absolute path":                  "d" + text("/d") + "e",
		"path that leads out":            "d" + text("../d") + "e",
		"path that leads out later":      "d" + text("a/../../d") + "e",
		"path with NUL":                  "d" + text("a\x00b") + "e",
		"the root removed":               "r" + text(".") + "e",
		"empty path":                     "d" + text("") + "e",
		"directory that is not there":    "d" + text("a/b") + "e",
		"through a link":                 "l" + text("l") + attrs + text(outside) + "d" + text("l/d") + "e",
		"hard link out of it":            "h" + text("h") + text("../outside") + "e",
		"hard link to a directory":       "d" + text("d") + "h" + text("h") + text("d") + "e",
		"hard link through a link":       "l" + text("l") + attrs + text(outside) + "h" + text("h") + text("l/x") + "e",
		"attributes of a link":           "l" + text("l") + attrs + text(outside) + "a" + text("l") + "\x80\x80\x01\x00\x00\x00\x00\x00e",
		"file of unknown type":           "s" + text("s") + attrs + "\x00e",
		"data behind the end":            "f" + text("f") + attrs + "\x02" + "\x03\x00abc\x00e",
		"data that goes back":            "f" + text("f") + attrs + "\x09" + "\x03\x03abc\x01\x02x\x00e",
		"data that is too much":          "f" + text("f") + attrs + "\x02" + "\xff\xff\xff\xff\x7f\x00abc\x00e",
		"number that is too large":       "f" + text("f") + attrs + "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01e",
		"path that is too long":          "d\xff\xff\xff\x7fe",
		"too many attributes":            "a" + text(".") + "\x80\x80\x01\x00\x00\x00\x00\xff\xff\x7fe",
		"attribute without a name":       "a" + text(".") + "\x80\x80\x01\x00\x00\x00\x00\x01\x00\x00e",
		"attribute that is too large":    "a" + text(".") + "\x80\x80\x01\x00\x00\x00\x00\x01" + text("user.x") + "\xff\xff\x7fe",
		"time that is none":              "f" + text("f") + "\x00\x00\x00\x00\xff\xff\xff\xff\x0f\x00\x00\x00e",
		"link without an end":            "l" + text("l") + attrs + "\x09short",
		"attribute that no file has":     "f" + text("f") + "\x00\x00\x00\x00\x00\x01" + text("user.") + text("x") + "\x00\x00e",
		"attribute that no link has":     "l" + text("l") + "\x00\x00\x00\x00\x00\x01" + text("user.x") + text("x") + text("to") + "e",
		"size that no file has":          "f" + text("f") + attrs + "\xff\xff\xff\xff\xff\xff\xff\xff\x3f\x00e",
		"a file where a directory is in": "f" + text("f") + attrs + "\x00\x00" + "d" + text("f/d") + "e",
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dst")
			ok(t, os.Mkdir(dir, 0o700))
			err := tree.ReadOptions{}.Read(t.Context(), bufio.NewReader(bytes.NewReader([]byte(stream))), dir)
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("got %v", err)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("outside: %v, %v", left, err)
			}
		})
	}
}

// FuzzRead looks for a stream that touches what is outside, or that is not
// what an error says is wrong.
func FuzzRead(f *testing.F) {
	f.Setenv("TMPDIR", testenv.Memory())
	small := f.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(small, "d"), 0o700), os.WriteFile(filepath.Join(small, "d/f"), []byte("x"), 0o600),
		os.Link(filepath.Join(small, "d/f"), filepath.Join(small, "h")), os.Symlink("d", filepath.Join(small, "l"))); err != nil {
		f.Fatal(err)
	}
	f.Add(written(f, tree.WriteOptions{}, small))
	f.Add([]byte("d\x01de"))
	f.Add([]byte("l\x01l\x00\x00\x00\x00\x00\x00\x01/h\x01h\x01lr\x01le"))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "dst")
		ok(t, os.Mkdir(dir, 0o700))
		err := tree.ReadOptions{}.Read(t.Context(), bufio.NewReader(bytes.NewReader(data)), dir)
		switch {
		case err == nil:
			_ = written(t, tree.WriteOptions{}, dir)
		case !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported) && !errors.Is(err, unix.ENOSPC):
			t.Errorf("got %v, which does not blame the stream", err)
		}
		if left, err := os.ReadDir(base); err != nil || fmt.Sprint(len(left)) != "1" {
			t.Errorf("outside: %v, %v", left, err)
		}
	})
}
