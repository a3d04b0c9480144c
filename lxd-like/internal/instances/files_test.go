package instances_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func keep() guestfs.File { return guestfs.File{UID: -1, GID: -1, Mode: -1} }

func (w *world) files() *guestfs.FS {
	w.tb.Helper()
	fs, err := w.svc.Files(w.tb.Context(), "c1")
	must(w.tb, err)
	return fs
}

func TestFilesOfAStoppedInstance(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	w.create("c1", false)
	if _, err := w.svc.Files(t.Context(), "c9"); !errs.Is(err, errs.NotFound) {
		t.Errorf("no instance: %v", err)
	}
	one, two := w.files(), w.files()
	must(t, one.Write("/new", strings.NewReader("data"), keep()))
	one.Close()
	r, err := two.Open("/new")
	must(t, err)
	if data, err := io.ReadAll(r); err != nil || string(data) != "data" {
		t.Errorf("%q, %v", data, err)
	}
	must(t, r.Close())
	two.Close()
	w.state("c1", "start", false) // It does not wait for the volume to be unmounted by itself.
	if _, err := w.svc.Files(t.Context(), "c1"); !errs.Is(err, errs.Conflict) {
		t.Errorf("the guest's own files: %v", err) // The fake runtime has none.
	}
	w.state("c1", "stop", true)
	w.files().Close()
	w.ok(w.svc.Delete(t.Context(), "c1"))
	if all := w.pool.Mounted(); slices.Contains(all, vol("c1")) {
		t.Errorf("mounted: %v", all)
	}
}

func TestFilesAreUnmountedAfterAWhile(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	w.create("c1", false)
	w.files().Close()
	for slices.Contains(w.pool.Mounted(), vol("c1")) {
		select {
		case <-t.Context().Done():
			t.Fatal("still mounted")
		default:
		}
	}
}

func TestStartWaitsForFilesInUse(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	w.create("c1", false)
	fs := w.files()
	job, err := w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "start"})
	must(t, err)
	var started sync.WaitGroup
	started.Go(func() {
		if err := job.Run(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
	must(t, fs.Write("/late", strings.NewReader("data"), keep()))
	fs.Close()
	started.Wait()
	w.state("c1", "stop", true)

	fs = w.files()
	defer fs.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	job, err = w.svc.SetState(t.Context(), "c1", api.InstanceStatePut{Action: "start"})
	must(t, err)
	if err := job.Run(ctx, nil); !errs.Is(err, errs.Canceled) {
		t.Errorf("started under an open file system: %v", err)
	}
}

func TestTemplates(t *testing.T) {
	testenv.Kernel(t)
	w := newWorld(t)
	w.create("c1", false)
	ctx := t.Context()
	if all, err := w.svc.Templates(ctx, "c1"); err != nil || len(all) != 1 {
		t.Errorf("%q, %v", all, err)
	}
	must(t, w.svc.SetTemplate(ctx, "c1", "a.tpl", "text"))
	if text, err := w.svc.Template(ctx, "c1", "a.tpl"); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	for _, name := range []string{"", "..", "../metadata.yaml", "a/b"} {
		if err := w.svc.SetTemplate(ctx, "c1", name, "text"); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	w.inside(w.pool, vol("c1"), func(root string) string {
		must(t, os.Symlink("/etc/passwd", filepath.Join(root, "../templates/trap")))
		return ""
	})
	if text, err := w.svc.Template(ctx, "c1", "trap"); !errs.Is(err, errs.NotFound) {
		t.Errorf("through a link: %q, %v", text, err)
	}
	must(t, w.svc.DeleteTemplate(ctx, "c1", "a.tpl"))
	if all, err := w.svc.Templates(ctx, "c1"); err != nil || len(all) != 2 {
		t.Errorf("%q, %v", all, err)
	}
}

func TestLogs(t *testing.T) {
	w := newWorld(t)
	w.create("c1", false)
	for _, name := range []string{"logs/c1/exec-output/exec_1.stdout", "run/c1/lxc.log", "run/c1/secret"} {
		must(t, os.MkdirAll(filepath.Join(w.dir, filepath.Dir(name)), 0o700))
		must(t, os.WriteFile(filepath.Join(w.dir, name), []byte("text"), 0o600))
	}
	ctx := t.Context()
	if all, err := w.svc.Logs(ctx, "c1"); err != nil || strings.Join(all, " ") != "exec-output/exec_1.stdout lxc.log" {
		t.Errorf("%q, %v", all, err)
	}
	for name, want := range map[string]errs.Kind{"secret": errs.NotFound, "../c1/lxc.log": errs.NotFound, "": errs.NotFound} {
		if _, err := w.svc.Log(ctx, "c1", name); !errs.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	f, err := w.svc.Log(ctx, "c1", "lxc.log")
	must(t, err)
	must(t, f.Close())
	if err := w.svc.DeleteLog(ctx, "c1", "lxc.log"); !errs.Is(err, errs.Invalid) {
		t.Errorf("delete lxc.log: %v", err)
	}
	must(t, w.svc.DeleteLog(ctx, "c1", "exec-output/exec_1.stdout"))
	if _, err := w.svc.Logs(ctx, "c9"); !errs.Is(err, errs.NotFound) {
		t.Errorf("no instance: %v", err)
	}
}

func TestExecIsRefused(t *testing.T) {
	w := newWorld(t)
	w.create("c1", false)
	for name, tt := range map[string]struct {
		instance string
		req      api.InstanceExecPost
		want     errs.Kind
	}{
		"no instance":     {"c9", api.InstanceExecPost{Command: []string{"x"}}, errs.NotFound},
		"not running":     {"c1", api.InstanceExecPost{Command: []string{"x"}}, errs.Conflict},
		"no command":      {"c1", api.InstanceExecPost{}, errs.Invalid},
		"relative cwd":    {"c1", api.InstanceExecPost{Command: []string{"x"}, Cwd: "a"}, errs.Invalid},
		"bad variable":    {"c1", api.InstanceExecPost{Command: []string{"x"}, Environment: map[string]string{"a=b": ""}}, errs.Invalid},
		"record terminal": {"c1", api.InstanceExecPost{Command: []string{"x"}, Interactive: true, RecordOutput: true}, errs.Invalid},
		"record stream":   {"c1", api.InstanceExecPost{Command: []string{"x"}, WaitForWS: true, RecordOutput: true}, errs.Invalid},
	} {
		if _, err := w.svc.Exec(t.Context(), tt.instance, tt.req); !errs.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.svc.Console(t.Context(), "c1", api.InstanceConsolePost{Type: "vga"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("vga: %v", err)
	}
	if _, err := w.svc.Console(t.Context(), "c1", api.InstanceConsolePost{}); !errs.Is(err, errs.Conflict) {
		t.Errorf("console of a stopped one: %v", err)
	}
}
