package instances_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func (w *world) diff(from, to string) string {
	w.tb.Helper()
	var all []string
	must(w.tb, w.svc.Diff(w.tb.Context(), "c1", from, to, func(c api.FileChange) error {
		all = append(all, fmt.Sprintf("%.1s %s %s", c.Op, c.Type, c.Path))
		return nil
	}))
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestDiff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.say("c1", "1", "s1", "22")
	w.inside(w.pool, vol("c1"), func(root string) string {
		must(t, os.Mkdir(filepath.Join(root, "dir"), 0o755))
		must(t, os.Symlink("x", filepath.Join(root, "dir", "link")))
		must(t, os.WriteFile(filepath.Join(root, "..", "other"), nil, 0o600)) // It is not the guest's.
		return ""
	})
	w.say("", "22", "s2", "333")
	w.state("c1", "start", false)
	if got, want := w.diff("s1", "s2"), "a directory /dir, a symlink /dir/link, m file /word"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := w.diff("", ""), "a file /etc/hostname, m file /word"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := w.diff("s1", ""), "a directory /dir, a file /etc/hostname, a symlink /dir/link, m file /word"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	none := func(api.FileChange) error { return nil }
	w.create("c2", false)
	for _, c := range [][3]string{{"c9"}, {"c2"}, {"c1", "s9"}, {"c1", "s1", "s9"}, {"c1", ".x"}} {
		if err := w.svc.Diff(ctx, c[0], c[1], c[2], none); !errs.Is(err, errs.NotFound) {
			t.Errorf("%v: %v", c, err)
		}
	}
	var busy error
	drop := func() { _, busy = w.do(w.svc.DeleteSnapshot(w.tb.Context(), "c1", "s1")) }
	err := w.svc.Diff(ctx, "c1", "s1", "", func(api.FileChange) error { drop(); return busy })
	if !errs.Is(err, errs.Conflict) {
		t.Errorf("the snapshot is deleted meanwhile: %v", err)
	}
	w.ok(w.svc.DeleteSnapshot(ctx, "c1", "s1"))
}
