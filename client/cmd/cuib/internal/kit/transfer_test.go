package kit_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
)

func env(t *testing.T) *kit.Env {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	return &kit.Env{World: kit.World{In: null, Out: null, Err: null}}
}

func TestSave(t *testing.T) {
	broken := errors.New("broken off")
	for name, tt := range map[string]struct {
		target  string // Below the directory.
		content string
		fails   error
		want    string // File.
	}{
		"gzip":      {"", "\x1f\x8b\x08rest", nil, "web.tar.gz"},
		"zstd":      {"", "\x28\xb5\x2f\xfdrest", nil, "web.tar.zst"},
		"plain":     {"", "backup/index.yaml", nil, "web.tar"},
		"short":     {"", "x", nil, "web.tar"},
		"file":      {"name", "x", nil, "name"},
		"replaced":  {"old", "x", nil, "old"},
		"broken":    {"old", "x", broken, ""},
		"directory": {"dir", "BZh9", nil, "dir/web.tar.bz2"},
		"no place":  {"nosuch/web", "x", os.ErrNotExist, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := errors.Join(os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o600), os.Mkdir(filepath.Join(dir, "dir"), 0o700)); err != nil {
				t.Fatal(err)
			}
			err := env(t).Save(t.Context(), kit.Download{
				What: "web", Name: "web", Target: filepath.Join(dir, tt.target),
				Fill: func(_ context.Context, w io.Writer) error {
					for _, b := range []byte(tt.content) { // Byte by byte, as a pipe may.
						if _, err := w.Write([]byte{b}); err != nil {
							return err
						}
					}
					return tt.fails
				},
			})
			if !errors.Is(err, tt.fails) {
				t.Fatalf("got %v, want %v", err, tt.fails)
			}
			if tt.want != "" {
				if got, err := os.ReadFile(filepath.Join(dir, tt.want)); err != nil || string(got) != tt.content {
					t.Errorf("%s has %q, %v", tt.want, got, err)
				}
			} else if got, err := os.ReadFile(filepath.Join(dir, "old")); err != nil || string(got) != "old" {
				t.Errorf("what was there has %q, %v", got, err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".cuib-new-*")); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// TestSavePlain has a file that is no archive keep its name, and one that is no
// regular file be written to and not be replaced.
func TestSavePlain(t *testing.T) {
	dir := t.TempDir()
	save := func(target string) error {
		return env(t).Save(t.Context(), kit.Download{
			What: "hosts", Name: "hosts", Target: target, Plain: true, Doing: "Restoring", Done: "Restored",
			Fill: func(_ context.Context, w io.Writer) error {
				_, err := io.WriteString(w, "BZh9")
				return err
			},
		})
	}
	if err := save(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "hosts")); err != nil || string(got) != "BZh9" {
		t.Errorf("got %q, %v", got, err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := save(fifo); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(r, got); err != nil || string(got) != "BZh9" {
		t.Errorf("the pipe got %q, %v", got, err)
	}
	if info, err := os.Stat(fifo); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe is now %v, %v", info.Mode(), err)
	}
}

// TestStuckPipes has the other end of a pipe do nothing: an interruption ends
// it.
func TestStuckPipes(t *testing.T) {
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	e := env(t)
	_, e.Out = pipe()
	ctx, cancel := context.WithCancel(t.Context())
	err := e.Save(ctx, kit.Download{What: "web", Target: "-", Fill: func(_ context.Context, w io.Writer) error {
		for range 64 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return err
			}
			cancel()
		}
		return nil
	}})
	if err == nil {
		t.Error("an export to a pipe that nobody reads succeeds")
	}

	e = env(t)
	e.In, _ = pipe()
	ctx, cancel = context.WithCancel(t.Context())
	_, err = e.Send(ctx, "-", func(_ context.Context, r io.Reader) (*client.Operation, error) {
		cancel()
		_, err := r.Read(make([]byte, 1))
		return nil, err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an import from a pipe that nobody writes to ends with %v", err)
	}
}
