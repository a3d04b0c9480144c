package instances_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// TestReplaceSnapshot replaces a snapshot that is there, one that is not, and one
// whose predecessor could not be deleted.
func TestReplaceSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	replace := func(text string) {
		t.Helper()
		w.write("c1", text)
		w.ok(w.svc.CreateSnapshot(t.Context(), "c1", api.InstanceSnapshotsPost{Name: "s", Description: text, Replace: true}))
		snap, err := w.svc.Snapshot(t.Context(), "c1", "s")
		must(t, err)
		if snap.Description != text || !strings.Contains(w.dump(), "volume instance/c1@s says "+text) {
			t.Errorf("after %q there is\n%s", text, w.dump())
		}
	}
	replace("first")
	before := w.dump()
	replace("second")
	_, err := w.do(w.svc.CreateSnapshot(t.Context(), "c1", api.InstanceSnapshotsPost{Name: "s"}))
	if !errs.Is(err, errs.Conflict) {
		t.Errorf("one of that name, not to replace the other: %v", err)
	}
	w.Arm(6, false) // When all is done but its deletion.
	replace("third")
	if !w.Disarm() || !strings.Contains(w.dump(), "c1@.was-s says second") {
		t.Fatalf("the old one could be deleted:\n%s", w.dump())
	}
	replace("first")
	if after := w.dump(); after != before {
		t.Errorf("there was\n%sand is\n%s", before, after)
	}
}
