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
	_ = unix.Close(at)
	return dir
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
	if err := tree.Copy(t.Context(), to, dir); !errs.Is(err, errs.Unsupported) {
		t.Errorf("copy: %v", err)
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
