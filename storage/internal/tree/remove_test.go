package tree_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// deep makes a directory with many in each other, as a guest would.
func deep(t *testing.T, depth int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "deep")
	if err := os.MkdirAll(filepath.Join(dir, "beside/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 40)
	for range depth {
		if err := unix.Mkdirat(at, name, 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(at)
		at = next
	}
	if err := unix.Symlinkat("/", at, "link"); err != nil {
		t.Fatal(err)
	}
	bottom(t, at)
	_ = unix.Close(at)
	return dir
}

// bottom makes a file with two names, and an attribute of the directory.
func bottom(t *testing.T, at int) {
	t.Helper()
	f, err := unix.Openat(at, "one", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.Write(f, []byte("word"))
	if err := errors.Join(err, unix.Close(f), unix.Linkat(at, "one", at, "two", 0)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fchmodat(at, ".", 0o750, 0); err != nil {
		t.Fatal(err)
	}
}

// atBottom looks at what deep has made: how deep it is, whether the file has
// both names, and what the directory's mode is.
func atBottom(t *testing.T, dir string) (depth int, same bool, mode uint32) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for ; ; depth++ {
		next, err := unix.Openat(at, strings.Repeat("d", 40), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			break
		}
		_ = unix.Close(at)
		at = next
	}
	defer func() { _ = unix.Close(at) }()
	var one, two, st, link unix.Stat_t
	err = errors.Join(unix.Fstatat(at, "one", &one, 0), unix.Fstatat(at, "two", &two, 0), unix.Fstat(at, &st),
		unix.Fstatat(at, "link", &link, unix.AT_SYMLINK_NOFOLLOW))
	if err != nil {
		t.Error(err)
	}
	return depth, one.Ino == two.Ino && one.Size == 4 && one.Nlink == 2, st.Mode & 0o7777
}

// A guest can make trees that are deeper than a process can have files open.
func TestDeepTrees(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	dir := deep(t, 3000)
	low := unix.Rlimit{Cur: 1000, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	to := filepath.Join(t.TempDir(), "copy")
	if err := tree.Copy(t.Context(), to, dir); err != nil {
		t.Errorf("copy: %v", err)
	}
	if depth, same, mode := atBottom(t, to); depth != 3000 || !same || mode != 0o750 {
		t.Errorf("the copy is %d deep, with both names: %t, with mode %o", depth, same, mode)
	}
	if names, err := os.ReadDir(to); err != nil || len(names) != 2 {
		t.Errorf("the copy has %v, %v", names, err)
	}
	usage(t, dir, to)
	err := tree.Diff(t.Context(), dir, to, func(storage.Change) error { return nil })
	if !errs.Is(err, errs.Unsupported) {
		t.Errorf("compare: %v", err)
	}
	for _, p := range []string{to, dir, dir} {
		if err := tree.Remove(p); err != nil {
			t.Fatalf("remove: %v", err)
		}
		if _, err := os.Lstat(p); !os.IsNotExist(err) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// usage compares what two trees take on the disk.
func usage(t *testing.T, a, b string) {
	t.Helper()
	x, err := tree.Usage(t.Context(), a)
	y, err2 := tree.Usage(t.Context(), b)
	if err := errors.Join(err, err2); err != nil || x != y {
		t.Errorf("one takes %d bytes, the other %d: %v", x, y, err)
	}
}

// TestDeepTreeThatMoves has a guest move directories while they are measured.
func TestDeepTreeThatMoves(t *testing.T) {
	dir := deep(t, 150)
	name := strings.Repeat("d", 40)
	low := filepath.Join(dir, strings.Repeat(name+"/", 80))
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for at, to := filepath.Join(low, name), filepath.Join(dir, "beside/y"); ; at, to = to, at {
			select {
			case <-done:
				return
			default:
				_ = os.Rename(at, to)
			}
		}
	}()
	for range 200 {
		if _, err := tree.Usage(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	<-stopped
}

// TestRemoveUntil goes on later where it was told to end.
func TestRemoveUntil(t *testing.T) {
	dir := deep(t, 100)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tree.RemoveUntil(ended, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := tree.RemoveUntil(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}

// TestRemoveStuck removes what a privileged guest has made immutable, or to be
// appended to only.
func TestRemoveStuck(t *testing.T) {
	testenv.Kernel(t, "chattr")
	for _, what := range []string{"dir/sub/file", "dir/sub", "dir", "dir/file", "file"} {
		for _, flag := range []string{"+i", "+a", "+ai"} {
			t.Run(what+flag, func(t *testing.T) {
				top := t.TempDir()
				ok(t, os.MkdirAll(filepath.Join(top, "dir/sub"), 0o700))
				for _, name := range []string{"dir/sub/file", "dir/file", "file"} {
					ok(t, os.WriteFile(filepath.Join(top, name), nil, 0o600))
				}
				ok(t, os.Symlink("file", filepath.Join(top, "dir/link")))
				testenv.Run(t, "chattr", flag, filepath.Join(top, what))
				t.Cleanup(func() { testenv.Run(t, "sh", "-c", "chattr -Rf -ai "+top+" || true") })
				for _, name := range []string{"dir", "file"} {
					ok(t, tree.Remove(filepath.Join(top, name)))
				}
				if left, err := os.ReadDir(top); err != nil || len(left) > 0 {
					t.Errorf("left %v, %v", left, err)
				}
			})
		}
	}
}
