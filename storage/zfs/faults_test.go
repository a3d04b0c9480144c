package zfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/zfs"
)

// A wrapper is in the place of the program zfs. It counts the runs, and has
// some of them fail.
type wrapper struct{ dir string }

func newWrapper(t *testing.T) wrapper {
	t.Helper()
	program, err := exec.LookPath("zfs")
	ok(t, err)
	w := wrapper{t.TempDir()}
	script := `#!/bin/sh
cd ` + w.dir + `
read -r n <n; read -r from to <fail
n=$((n + 1)); echo $n >n
if [ $n -ge $from ] && [ $n -le $to ]; then echo "injected" >&2; exit 1; fi
exec ` + program + ` "$@"
`
	ok(t, os.WriteFile(filepath.Join(w.dir, "zfs"), []byte(script), 0o755))
	w.fail(t, 0, 0)
	t.Setenv("PATH", w.dir+":"+os.Getenv("PATH"))
	return w
}

// fail has the runs from one to another fail, counted from now.
func (w wrapper) fail(t *testing.T, from, to int) {
	t.Helper()
	ok(t, os.WriteFile(filepath.Join(w.dir, "n"), []byte("0\n"), 0o600))
	ok(t, os.WriteFile(filepath.Join(w.dir, "fail"), fmt.Appendf(nil, "%d %d\n", from, to), 0o600))
}

// runs returns how often the program was run since then.
func (w wrapper) runs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "n"))
	ok(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	ok(t, err)
	return n
}

// forever is later than all runs.
const forever = 1 << 30

// state returns all volumes and snapshots with what their files hold.
func state(t *testing.T, d storage.Driver) string {
	t.Helper()
	vols, err := d.List(t.Context())
	ok(t, err)
	var all []string
	for _, v := range vols {
		dir, err := d.Mount(t.Context(), v, nil)
		ok(t, err)
		text, err := os.ReadFile(filepath.Join(dir, "f"))
		ok(t, err)
		ok(t, d.Unmount(t.Context(), v))
		all = append(all, v.String()+"="+string(text))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// A faultCase is a change of several steps, and how what it changed becomes as
// it was.
type faultCase struct {
	name string
	do   func(d storage.Driver) error
	undo func(d storage.Driver)
}

// whole is state with what guests have made.
func whole(t *testing.T, cfg storage.Config, d storage.Driver) string {
	t.Helper()
	return strings.Join(append([]string{state(t, d)}, guests(t, cfg.Source)...), " ")
}

// TestFaults fails each program of each change of several steps, and has the
// daemon die before each. What a guest has stays what it is.
func TestFaults(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	w := newWrapper(t)
	userns := userNamespace(t)
	second := snapshot("s1")
	for _, tt := range []faultCase{
		{
			"restore what is not the newest",
			func(d storage.Driver) error { return d.Restore(t.Context(), snap) },
			func(d storage.Driver) { ok(t, d.Restore(t.Context(), second)) },
		},
		{
			"copy a snapshot",
			func(d storage.Driver) error {
				return d.Clone(t.Context(), storage.Volume{Kind: c2.Kind, Name: c2.Name, Snapshot: "s2"}, snap)
			},
			func(d storage.Driver) {
				ok(t, d.Delete(t.Context(), storage.Volume{Kind: c2.Kind, Name: c2.Name, Snapshot: "s2"}))
			},
		},
		{
			"delete what has clones",
			func(d storage.Driver) error { return d.Delete(t.Context(), c2) },
			func(d storage.Driver) {
				ok(t, d.Delete(t.Context(), c3))
				ok(t, d.Rename(t.Context(), c4, c2.Name))
				ok(t, d.Clone(t.Context(), c3, c2))
				ok(t, d.Clone(t.Context(), c4, c2))
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.each(t, cfg, tt, func(d storage.Driver) { fill(t, d); give(t, cfg, d, userns) })
		})
	}
}

// each makes a change of what prepare made again and again: with each of its
// programs failing, and with all from each on.
func (w wrapper) each(t *testing.T, cfg storage.Config, tt faultCase, prepare func(d storage.Driver)) {
	t.Helper()
	t.Cleanup(func() { w.fail(t, 0, 0); clean(t, cfg.Source) })
	for _, dies := range []bool{false, true} {
		clean(t, cfg.Source)
		d := openPool(t, cfg)
		prepare(d)
		for n := 1; ; n++ {
			before := whole(t, cfg, d)
			last := n
			if dies {
				last = forever
			}
			idle(t, cfg)
			w.fail(t, n, last)
			err := tt.do(d)
			// What a daemon does in the background dies with it, too, and fails as well.
			idle(t, cfg)
			came := w.runs(t) >= n
			w.fail(t, 0, 0)
			if err != nil && !strings.Contains(err.Error(), "injected") {
				t.Fatalf("step %d: %v", n, err)
			}
			if dies {
				d = openPool(t, cfg)
			}
			sweep(t, d)
			after := whole(t, cfg, d)
			wantOwners(t, cfg)
			t.Logf("step %d, dies %v: %v", n, dies, err)
			if err != nil && after == before {
				continue
			}
			if err != nil && !dies {
				t.Fatalf("step %d failed (%v), and left %s of %s", n, err, after, before)
			}
			if !came {
				again(t, cfg, d, tt.do, after)
				if n < 2 {
					t.Errorf("only %d steps could fail", n-1)
				}
				break
			}
			tt.undo(d)
		}
	}
}

// idle waits for what drivers do in the background.
func idle(t *testing.T, cfg storage.Config) {
	t.Helper()
	ok(t, zfs.Idle(t.Context(), cfg.Source))
}

func sweep(t *testing.T, d storage.Driver) {
	t.Helper()
	sweeper, _ := d.(storage.Sweeper)
	ok(t, sweeper.Sweep(t.Context()))
}

// again checks that what was done stays so.
func again(t *testing.T, cfg storage.Config, d storage.Driver, do func(storage.Driver) error, want string) {
	t.Helper()
	if err := do(d); err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
		t.Errorf("to do it again: %v", err)
	}
	sweep(t, d)
	if got := whole(t, cfg, d); got != want {
		t.Errorf("it became %s, and then %s", want, got)
	}
}

// fill makes c1 with the snapshots s0 and s1, and c2 with two clones.
func fill(t *testing.T, d storage.Driver) {
	t.Helper()
	ok(t, d.Create(t.Context(), c1))
	write(t, d, c1, "one")
	ok(t, d.Snapshot(t.Context(), snap))
	write(t, d, c1, "two")
	ok(t, d.Snapshot(t.Context(), snapshot("s1")))
	ok(t, d.Clone(t.Context(), c2, c1))
	ok(t, d.Clone(t.Context(), c3, c2))
	ok(t, d.Clone(t.Context(), c4, c2))
}
