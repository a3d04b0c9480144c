package instances_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cuib/cuib/shared/api"
)

// TestLateDisk gives a running instance a disk when its source appears, also
// after a restart of the daemon.
func TestLateDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	must(t, w.setDevices(api.DevicesMap{
		"a": {"type": "disk", "source": a, "path": "/a", "required": "false"},
		"b": {"type": "disk", "source": b, "path": "/b", "optional": "true"},
	}))
	w.state("c1", "start", false)
	late := func(want ...string) {
		t.Helper()
		w.svc.AddLate(t.Context())
		if got := w.rt.running["c1"].late; !slices.Equal(got, want) {
			t.Errorf("mounted late: %q, want %q", got, want)
		}
	}
	late()
	must(t, os.Mkdir(a, 0o700))
	late("/a")
	late("/a") // Once.
	w.boot()
	must(t, os.Mkdir(b, 0o700))
	w.svc.AddLate(t.Context()) // It looked at what there was when it came: that is for the runtime to know.
	must(t, w.setDevices(api.DevicesMap{}))
	if got := w.rt.running["c1"].spec.Mounts; len(got) != 0 {
		t.Errorf("mounts: %v", got)
	}
}
