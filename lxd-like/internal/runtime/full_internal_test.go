package runtime

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/testenv"
)

// TestReplaceFileOnFullDisk takes a change back where there is no space for a
// second file.
func TestReplaceFileOnFullDisk(t *testing.T) {
	testenv.Kernel(t)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := dir + "/file"
	if err := replaceFile(path, []byte("something longer")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/fill", make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("short")); err != nil {
		t.Error(err)
	}
	if err := replaceFile(path, []byte(strings.Repeat("x", 5000))); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if err := replaceFile(dir+"/new", []byte("x")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(path); string(got) != "short" {
		t.Errorf("got %q, %v", got, err)
	}
	if names, err := os.ReadDir(dir); len(names) != 2 {
		t.Errorf("it left something: %v, %v", names, err)
	}
}
