package tree_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCopyAsUser(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
	ok(t, os.MkdirAll(filepath.Join(src, "a", "b"), 0o700))
	ok(t, os.WriteFile(filepath.Join(src, "a", "b", "f"), []byte("x"), 0o640))
	ok(t, os.Link(filepath.Join(src, "a", "b", "f"), filepath.Join(src, "second")))
	ok(t, os.Symlink("/nowhere", filepath.Join(src, "link")))
	ok(t, os.Chmod(filepath.Join(src, "a"), 0o500))
	t.Cleanup(func() {
		for _, dir := range []string{src, dst} {
			ok(t, os.Chmod(filepath.Join(dir, "a"), 0o700))
		}
	})
	ok(t, tree.Copy(t.Context(), dst, src))
	if b, err := os.ReadFile(filepath.Join(dst, "second")); err != nil || string(b) != "x" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if to, err := os.Readlink(filepath.Join(dst, "link")); err != nil || to != "/nowhere" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	st, err := os.Stat(filepath.Join(dst, "a"))
	ok(t, err)
	if st.Mode().Perm() != 0o500 {
		t.Errorf("the mode is %v", st.Mode())
	}
	if err := tree.Copy(t.Context(), dst, src); !errors.Is(err, os.ErrExist) {
		t.Errorf("onto what exists: %v", err)
	}
}

func TestCopyIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	src := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(src, "f"), nil, 0o600))
	err := tree.Copy(ctx, filepath.Join(t.TempDir(), "dst"), src)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCopyHoles(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
	f, err := os.Create(filepath.Join(src, "f"))
	ok(t, err)
	for _, at := range []int64{0, 1 << 20, 5<<20 + 3} {
		_, err = f.WriteAt([]byte("data"), at)
		ok(t, err)
	}
	ok(t, errors.Join(f.Truncate(9<<20), f.Close()))
	ok(t, tree.Copy(t.Context(), dst, src))
	a, err := os.ReadFile(filepath.Join(src, "f"))
	ok(t, err)
	b, err := os.ReadFile(filepath.Join(dst, "f"))
	ok(t, err)
	if !bytes.Equal(a, b) {
		t.Error("the copy differs")
	}
	var st unix.Stat_t
	ok(t, unix.Stat(filepath.Join(dst, "f"), &st))
	if st.Blocks > 100 {
		t.Errorf("the copy has %d blocks", st.Blocks)
	}
}

// TestCopyWide copies more directories than there are processors, each in and
// beside others, with files that have names in all of them.
func TestCopyWide(t *testing.T) {
	testenv.Kernel(t)
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for i := range 300 {
		dir := filepath.Join(src, fmt.Sprint(i%7), fmt.Sprint(i%5), fmt.Sprint(i))
		ok(t, os.MkdirAll(dir, 0o755))
		ok(t, os.WriteFile(filepath.Join(dir, "own"), []byte(dir), 0o640))
		first := filepath.Join(src, fmt.Sprint(i%7), "first")
		if i < 7 {
			ok(t, os.WriteFile(first, []byte(first), 0o600))
		}
		ok(t, os.Link(first, filepath.Join(dir, "shared")))
		ok(t, unix.Lsetxattr(dir, "trusted.number", fmt.Append(nil, i), 0))
		ok(t, unix.Lchown(dir, i, 2*i))
		ok(t, os.Chmod(dir, os.FileMode(0o500+i%8)))
		ok(t, os.Chtimes(dir, time.Time{}, time.Unix(int64(i), 5)))
	}
	ok(t, tree.Copy(t.Context(), dst, src))
	ok(t, tree.Diff(t.Context(), src, dst, func(c storage.Change) error {
		t.Errorf("%s %s", c.Op, c.Path)
		return nil
	}))
	for i := range 300 {
		at := filepath.Join(dst, fmt.Sprint(i%7), fmt.Sprint(i%5), fmt.Sprint(i))
		st, err := os.Stat(at)
		ok(t, err)
		if !st.ModTime().Equal(time.Unix(int64(i), 5)) {
			t.Errorf("%s is of %v", at, st.ModTime())
		}
		if same(t, filepath.Join(at, "shared"), filepath.Join(dst, fmt.Sprint((i+1)%7), "first")) ||
			!same(t, filepath.Join(at, "shared"), filepath.Join(dst, fmt.Sprint(i%7), "first")) {
			t.Errorf("%s has the wrong file", at)
		}
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	sa, err := os.Lstat(a)
	ok(t, err)
	sb, err := os.Lstat(b)
	ok(t, err)
	return os.SameFile(sa, sb)
}

// TestCopyZeros copies what was written as zeros, between what was not.
func TestCopyZeros(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	data := make([]byte, 1<<20+5)
	for _, at := range []int{0, 4095, 4096, 300 << 10, 512<<10 - 1, 512 << 10, 1<<20 + 4} {
		data[at] = 1
	}
	if err := os.WriteFile(filepath.Join(src, "f"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tree.Copy(t.Context(), dst, src); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dst, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Error("the copy differs")
	}
	// Six blocks hold something, and the empty ones between them are many.
	var st unix.Stat_t
	ok(t, unix.Stat(filepath.Join(dst, "f"), &st))
	if st.Blocks*512 > 64<<10 {
		t.Errorf("the copy of six blocks has %d bytes", st.Blocks*512)
	}
}

// TestCopySizes copies files that end in the middle of zeros.
func TestCopySizes(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for _, size := range []int{1, 4095, 4096, 4097, 5000, 8192, 256 << 10, 256<<10 + 1, 300_000} {
		for name, first := range map[string]byte{"zeros": 0, "data": 1} {
			data := make([]byte, size)
			data[0] = first
			ok(t, os.WriteFile(filepath.Join(src, fmt.Sprint(name, size)), data, 0o600))
		}
	}
	ok(t, tree.Copy(t.Context(), dst, src))
	files, err := os.ReadDir(src)
	ok(t, err)
	for _, f := range files {
		want, err := os.ReadFile(filepath.Join(src, f.Name()))
		ok(t, err)
		if got, err := os.ReadFile(filepath.Join(dst, f.Name())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, %v", f.Name(), len(got), err)
		}
	}
}

func TestUsageOfSharedBlocks(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "300M")
	src, dst := filepath.Join(mnt, "src"), filepath.Join(mnt, "dst")
	ok(t, os.Mkdir(src, 0o700))
	const size = 1 << 20
	ok(t, os.WriteFile(filepath.Join(src, "f"), []byte(strings.Repeat("x", size)), 0o600))
	ok(t, os.Link(filepath.Join(src, "f"), filepath.Join(src, "g")))
	testenv.Run(t, "sync", "-f", mnt)
	before, err := tree.Usage(t.Context(), src)
	ok(t, err)
	if before < size || before > size+size/10 {
		t.Errorf("%d bytes of %d", before, size)
	}
	ok(t, tree.Copy(t.Context(), dst, src))
	testenv.Run(t, "sync", "-f", mnt)
	for _, dir := range []string{src, dst} {
		if got, err := tree.Usage(t.Context(), dir); err != nil || got > size/10 {
			t.Errorf("of shared blocks: %d bytes, %v", got, err)
		}
	}
}

// TestCopyShares copies, on a file system that shares blocks, a file that
// cannot share any before one that can: journals of systemd are of that kind.
func TestCopyShares(t *testing.T) {
	mnt := testenv.Mounted(t, "btrfs", "256M")
	src, dst := filepath.Join(mnt, "src"), filepath.Join(mnt, "dst")
	ok(t, os.Mkdir(src, 0o700))
	ok(t, os.WriteFile(filepath.Join(src, "journal"), nil, 0o600))
	testenv.Run(t, "chattr", "+C", filepath.Join(src, "journal"))
	const size = 8 << 20
	for name, n := range map[string]int{"journal": 8 << 10, "large": size} {
		ok(t, os.WriteFile(filepath.Join(src, name), bytes.Repeat([]byte("x"), n), 0o600))
	}
	ok(t, tree.Copy(t.Context(), dst, src))
	ok(t, tree.Sync(mnt))
	used, err := tree.Usage(t.Context(), dst)
	ok(t, err)
	if used > size/2 {
		t.Errorf("the copy has %d bytes of its own", used)
	}
}
