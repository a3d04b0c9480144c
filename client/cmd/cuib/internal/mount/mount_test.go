package mount_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/pkg/sftp"

	"github.com/cuib/cuib/client/cmd/cuib/internal/files"
	"github.com/cuib/cuib/client/cmd/cuib/internal/mount"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func guest(t *testing.T) *sftp.Client {
	t.Helper()
	theirs, ours := net.Pipe()
	server, err := sftp.NewServer(theirs)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve() }()
	c, err := files.Open(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), server.Close() })
	return c
}

// TestMount does with the mounted directory what programs do, and looks at the
// directory that is behind it.
func TestMount(t *testing.T) {
	testenv.Kernel(t)
	c, behind, at := guest(t), t.TempDir(), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	mounted, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- mount.Serve(ctx, c, behind, at, func() { close(mounted) }) }()
	select {
	case <-mounted:
	case err := <-ended:
		t.Fatal(err)
	}
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(at, "after"), nil, 0o600); err != nil {
			t.Error("the directory is not free:", err)
		}
		if _, err := os.Stat(filepath.Join(behind, "after")); err == nil {
			t.Error("it is still mounted")
		}
	}()
	for what, err := range map[string]error{
		"write": os.WriteFile(filepath.Join(at, "f"), []byte("hello"), 0o640), "mkdir": os.Mkdir(filepath.Join(at, "d"), 0o711),
		"symlink": os.Symlink("f", filepath.Join(at, "l")),
	} {
		if err != nil {
			t.Fatal(what, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(behind, "f"))
	if err != nil || string(data) != "hello" {
		t.Fatalf("behind is %q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(behind, "f")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("behind has the mode %v, %v", info.Mode(), err)
	}
	if data, err := os.ReadFile(filepath.Join(at, "l")); err != nil || string(data) != "hello" {
		t.Errorf("through the link: %q, %v", data, err)
	}
	steps := []error{
		os.Rename(filepath.Join(at, "f"), filepath.Join(at, "d", "g")),
		os.Truncate(filepath.Join(at, "d", "g"), 2),
		os.Chmod(filepath.Join(at, "d", "g"), 0o600),
		os.Chown(filepath.Join(at, "d", "g"), 5, -1),
		os.Remove(filepath.Join(at, "l")),
	}
	for i, err := range steps {
		if err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(behind, "d", "g")); err != nil || string(data) != "he" {
		t.Errorf("behind is %q, %v", data, err)
	}
	entries, err := os.ReadDir(at)
	if err != nil || len(entries) != 1 || entries[0].Name() != "d" || !entries[0].IsDir() {
		t.Errorf("the directory has %v, %v", entries, err)
	}
	if err := os.Remove(filepath.Join(at, "d")); err == nil {
		t.Error("a full directory was removed")
	}
	if _, err := os.Stat(filepath.Join(at, "none")); !os.IsNotExist(err) {
		t.Errorf("what is not there: %v", err)
	}
}

func TestMountRefuses(t *testing.T) {
	testenv.Kernel(t)
	c := guest(t)
	for dir, kind := range map[string]errs.Kind{"/nosuch": errs.NotFound, "/etc/passwd": errs.Invalid} {
		if err := mount.Serve(t.Context(), c, dir, t.TempDir(), func() {}); !errs.Is(err, kind) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
