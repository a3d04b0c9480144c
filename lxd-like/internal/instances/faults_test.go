package instances_test

import (
	"context"
	"database/sql"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
)

// change is a multi-step action, in a world that prepare has made ready.
type change struct {
	prepare func(w *world)
	act     func(w *world) (ops.Job, error)

	// done reports whether the world is as the action was to make it.
	done func(w *world, dump string) bool

	// onward is for an action that a crash, or a failure too, may leave done
	// in parts: what is then left must satisfy it.
	onward func(w *world, dump string) bool

	// later is for one whose last steps are done when a container has ended,
	// with nobody to tell of a failure but the log.
	later bool
}

func runs(dump, name string) bool { return strings.Contains(dump, "running "+name+" ") }

func has(dump, name string) bool { return strings.Contains(dump, "instance "+name+" ready") }

// gone reports whether nothing is left of an instance. Random ids can have
// its name in them.
func gone(dump, name string) bool {
	return !strings.Contains(dump, "instance "+name+" ") && !strings.Contains(dump, "instance/"+name) && !runs(dump, name)
}

func changes() map[string]change {
	all := map[string]change{
		"create": {
			prepare: func(*world) {},
			act:     func(w *world) (ops.Job, error) { return w.svc.Create(w.tb.Context(), post("c1", false)) },
			done: func(_ *world, dump string) bool {
				return has(dump, "c1") && strings.Contains(dump, "volume instance/c1 ")
			},
		},
		"create, building the image": {
			prepare: func(*world) {},
			act: func(w *world) (ops.Job, error) {
				req := post("c1", false)
				req.Source.Alias = "debian:sid"
				return w.svc.Create(w.tb.Context(), req)
			},
			done: func(_ *world, dump string) bool { return has(dump, "c1") },
		},
		"create empty": {
			prepare: func(*world) {},
			act: func(w *world) (ops.Job, error) {
				return w.svc.Create(w.tb.Context(), api.InstancesPost{Name: "c1", Source: api.InstanceSource{Type: "none"}})
			},
			done: func(_ *world, dump string) bool { return has(dump, "c1") },
		},
		"launch": {
			prepare: func(*world) {},
			act:     func(w *world) (ops.Job, error) { return w.svc.Create(w.tb.Context(), post("c1", true)) },
			done:    func(_ *world, dump string) bool { return has(dump, "c1") && runs(dump, "c1") },
			// One that does not start was created all the same.
			onward: func(_ *world, dump string) bool { return has(dump, "c1") && !runs(dump, "c1") },
		},
		"start": {
			prepare: func(w *world) { w.create("c1", false) },
			act:     setState("start"),
			done:    func(_ *world, dump string) bool { return runs(dump, "c1") && strings.Contains(dump, "power RUNNING") },
			// Names that networks know, and a directory for logs, are no harm.
			onward: func(_ *world, dump string) bool {
				return has(dump, "c1") && !strings.Contains(dump, "mounted with ids")
			},
		},
		"stop": {
			prepare: func(w *world) { w.create("c1", true) },
			act: func(w *world) (ops.Job, error) {
				return w.svc.SetState(w.tb.Context(), "c1", api.InstanceStatePut{Action: "stop", Force: true})
			},
			done: func(_ *world, dump string) bool { return !runs(dump, "c1") && strings.Contains(dump, "power STOPPED") },
			// What was to end and did not goes on.
			onward: func(_ *world, dump string) bool { return runs(dump, "c1") },
			later:  true,
		},
		"delete": {
			prepare: func(w *world) { w.create("c1", false); w.snapshot("s1"); w.snapshot("s2") },
			act:     func(w *world) (ops.Job, error) { return w.svc.Delete(w.tb.Context(), "c1") },
			done: func(_ *world, dump string) bool {
				return gone(dump, "c1")
			},
			// It is whole, but for snapshots that are gone.
			onward: func(_ *world, dump string) bool {
				return has(dump, "c1") && strings.Contains(dump, "volume instance/c1 ") &&
					strings.Count(dump, "snapshot s") == strings.Count(dump, "volume instance/c1@s")
			},
		},
		"restart": {
			prepare: func(w *world) { w.create("c1", true) },
			act: func(w *world) (ops.Job, error) {
				return w.svc.SetState(w.tb.Context(), "c1", api.InstanceStatePut{Action: "restart", Force: true})
			},
			done: func(_ *world, dump string) bool { return runs(dump, "c1") && strings.Contains(dump, "power RUNNING") },
			// What has ended and does not start again stays stopped, and whole.
			onward: func(_ *world, dump string) bool {
				return has(dump, "c1") && !strings.Contains(dump, "mounted with ids")
			},
			later: true,
		},
		"rename": {
			prepare: func(w *world) { w.create("c1", false); w.snapshot("s1"); w.write("c1", "mine") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.Rename(w.tb.Context(), "c1", api.InstancePost{Name: "c2"})
			},
			done: func(_ *world, dump string) bool {
				return has(dump, "c2") && strings.Contains(dump, "volume instance/c2 says mine") && gone(dump, "c1")
			},
		},
		"copy": {
			prepare: func(w *world) { w.create("c1", true); w.snapshot("s1"); w.snapshot("s2") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.Create(w.tb.Context(), api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c1"}})
			},
			done: func(_ *world, dump string) bool {
				return has(dump, "c2") && strings.Contains(dump, "volume instance/c2@s1") && !strings.Contains(dump, "true]")
			},
		},
		"reinstate": {
			prepare: func(w *world) { w.doc = w.document() },
			act: func(w *world) (ops.Job, error) {
				return job(func() error {
					return w.svc.Reinstate(w.tb.Context(), instances.Reinstatement{Document: w.doc, Fill: fills()}, nil)
				}), nil
			},
			done: func(_ *world, dump string) bool {
				return has(dump, "c1") && strings.Contains(dump, "volume instance/c1@s2") && strings.Contains(dump, "profile extra")
			},
			// Profiles that were made for it outlive a crash, and are no harm.
			onward: func(_ *world, dump string) bool {
				return gone(dump, "c1") && strings.Contains(dump, "profile extra")
			},
		},
		"read it still": {
			prepare: func(w *world) { w.create("c1", true); w.snapshot("s1") },
			act: func(w *world) (ops.Job, error) {
				return job(func() error {
					return w.svc.Stilled(w.tb.Context(), "c1", func(context.Context, string) error { return nil })
				}), nil
			},
			done: func(_ *world, dump string) bool { return has(dump, "c1") && !strings.Contains(dump, ".still") },
			// What cannot be deleted is, at the next start.
			onward: func(_ *world, dump string) bool { return has(dump, "c1") && frozen(dump) == 0 },
		},
		"copy to another pool": {
			prepare: func(w *world) { w.say("c1", "1", "s1", "2", "s2", "3"); w.state("c1", "start", false) },
			act:     func(w *world) (ops.Job, error) { return w.svc.Create(w.tb.Context(), copyTo("c2", "q")) },
			done: func(_ *world, dump string) bool {
				return has(dump, "c2") && strings.Contains(dump, "q volume instance/c2 says 3") &&
					strings.Contains(dump, "q volume instance/c2@s1 says 1") && !strings.Contains(dump, ".copy") && frozen(dump) == 0
			},
			// A hidden snapshot can stay until the next start.
			onward: func(w *world, dump string) bool { return whole("c1")(w, dump) || whole("c1", "c2")(w, dump) },
		},
		"refresh": {
			prepare: func(w *world) {
				w.say("c1", "1", "s1", "2")
				w.ok(w.svc.Create(w.tb.Context(), copyTo("c2", "p")))
				w.say("", "3", "s2", "4")
			},
			act: func(w *world) (ops.Job, error) {
				req := copyTo("c2", "p")
				req.Source.Refresh = true
				return w.svc.Create(w.tb.Context(), req)
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "volume instance/c2 says 4") && strings.Contains(dump, "volume instance/c2@s2 says 3") &&
					strings.Count(dump, "snapshot s2 ready") == 2
			},
			onward: whole("c1", "c2"),
		},
		"refresh in another pool": {
			prepare: func(w *world) {
				w.say("c1", "1", "s1", "2")
				w.ok(w.svc.Create(w.tb.Context(), copyTo("c2", "q")))
				w.say("", "3", "s2", "4")
				w.state("c1", "start", false)
			},
			act: func(w *world) (ops.Job, error) {
				req := copyTo("c2", "q")
				req.Source.Refresh = true
				return w.svc.Create(w.tb.Context(), req)
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "q volume instance/c2 says 4") && strings.Contains(dump, "q volume instance/c2@s2 says 3") &&
					strings.Count(dump, "snapshot s2 ready") == 2
			},
			onward: whole("c1", "c2"),
		},
		"move and rename": {
			prepare: func(w *world) { w.say("c1", "1", "s1", "2", "s2", "3") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.Rename(w.tb.Context(), "c1", api.InstancePost{Name: "c2", Pool: "q", Migration: true})
			},
			done:   moved("c2"),
			onward: func(w *world, dump string) bool { return moved("c2")(w, unleft(dump)) },
		},
		"rebuild": {
			prepare: func(w *world) { w.create("c1", false); w.write("c1", "mine") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.Rebuild(w.tb.Context(), "c1", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "image", Alias: "debian"}})
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "volume instance/c1 says \n") && !strings.Contains(dump, ".old") && !strings.Contains(dump, ".new")
			},
			// The old root can outlive a failure to delete it, until the next start.
			onward: func(_ *world, dump string) bool { return strings.Contains(dump, "volume instance/c1 says \n") },
		},
		"rebuild with snapshots": {
			prepare: func(w *world) { w.say("c1", "1", "s1", "mine") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.Rebuild(w.tb.Context(), "c1", api.InstanceRebuildPost{Source: api.InstanceSource{Type: "image", Alias: "debian"}})
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "volume instance/c1 says \n") && strings.Contains(dump, "volume instance/c1@s1 says 1") &&
					!strings.Contains(dump, ".new") && !strings.Contains(dump, "volatile.refreshing") && !strings.Contains(dump, "@.")
			},
			// The new root can outlive a failure to delete it, until the next start.
			onward: func(_ *world, dump string) bool {
				return strings.Contains(dump, "volume instance/c1 says \n") && strings.Contains(dump, "volume instance/c1@s1 says 1")
			},
		},
		"create snapshot": {
			prepare: func(w *world) { w.create("c1", true) },
			act: func(w *world) (ops.Job, error) {
				return w.svc.CreateSnapshot(w.tb.Context(), "c1", api.InstanceSnapshotsPost{})
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "snapshot snap0 ready") && strings.Contains(dump, "volume instance/c1@snap0") && frozen(dump) == 0
			},
		},
		"replace snapshot": {
			prepare: func(w *world) { w.create("c1", false); w.snapshot("s1"); w.write("c1", "new") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.CreateSnapshot(w.tb.Context(), "c1", api.InstanceSnapshotsPost{Name: "s1", Replace: true})
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "snapshot s1 ready") && strings.Contains(dump, "volume instance/c1@s1 says new") && !strings.Contains(dump, ".was-")
			},
			// The old one can stay, hidden, until the next start.
			onward: func(_ *world, dump string) bool {
				return strings.Contains(dump, "snapshot s1 ready") && strings.Contains(dump, "volume instance/c1@s1 says new") && strings.Contains(dump, "snapshot .was-s1 pending")
			},
		},
		"rename snapshot": {
			prepare: func(w *world) { w.create("c1", false); w.snapshot("s1") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.RenameSnapshot(w.tb.Context(), "c1", "s1", api.InstanceSnapshotPost{Name: "s2"})
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "snapshot s2 ready") && strings.Contains(dump, "@s2") && !strings.Contains(dump, "s1 ")
			},
		},
		"delete snapshot": {
			prepare: func(w *world) { w.create("c1", false); w.snapshot("s1") },
			act:     func(w *world) (ops.Job, error) { return w.svc.DeleteSnapshot(w.tb.Context(), "c1", "s1") },
			done:    func(_ *world, dump string) bool { return has(dump, "c1") && !strings.Contains(dump, "s1") },
		},
		"delete snapshots": {
			prepare: func(w *world) { w.create("c1", false); w.snapshot("s1"); w.snapshot("s2"); w.snapshot("s3") },
			act: func(w *world) (ops.Job, error) {
				return w.svc.DeleteSnapshots(w.tb.Context(), "c1", []string{"s1", "s3"})
			},
			done: func(_ *world, dump string) bool {
				return has(dump, "c1") && strings.Contains(dump, "snapshot s2 ready") && !strings.Contains(dump, "s1") && !strings.Contains(dump, "s3")
			},
			// Those that were deleted before the failure are gone.
			onward: func(_ *world, dump string) bool {
				return strings.Contains(dump, "snapshot s2 ready") && strings.Contains(dump, "snapshot s3 ready") && !strings.Contains(dump, "s1")
			},
		},
		"restore": {
			prepare: func(w *world) {
				w.create("c1", false)
				w.write("c1", "old")
				w.snapshot("s1")
				w.write("c1", "new")
			},
			act: func(w *world) (ops.Job, error) {
				return w.update(w.tb.Context(), "c1", api.InstancePut{Restore: "c1/s1"})
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "volume instance/c1 says old") && !strings.Contains(dump, "volatile.restoring")
			},
		},
		"add and change devices": {
			prepare: func(w *world) { w.create("c1", true) },
			act: func(w *world) (ops.Job, error) {
				return job(func() error {
					return w.updateNow(w.tb.Context(), "c1", api.InstancePut{
						Profiles: []string{"default"},
						Config:   api.ConfigMap{"limits.memory": "64MiB"},
						Devices: api.DevicesMap{
							"data": {"type": "disk", "path": "/data", "source": w.dir},
							"null": {"type": "unix-char", "path": "/dev/nothing", "source": "/dev/null"},
							"eth1": {"type": "nic", "network": "n"},
							"root": {"type": "disk", "path": "/", "pool": "p", "size": "1GiB"},
						},
					})
				}), nil
			},
			done: func(w *world, dump string) bool {
				return strings.Contains(dump, "/data /dev/nothing eth0") && strings.Contains(dump, "67108864") &&
					len(w.nets.hosts) == 2 && w.pool.Limited(vol("c1")) == 1<<30
			},
		},
		"update a profile": {
			prepare: func(w *world) { w.create("c1", true); w.create("c2", true); w.create("c3", false) },
			act: func(w *world) (ops.Job, error) {
				return job(func() error {
					return w.svc.UpdateProfile(w.tb.Context(), "default", api.ProfilePut{
						Config: api.ConfigMap{"limits.processes": "77", "security.guestapi": "false"},
						Devices: api.DevicesMap{
							"root": {"type": "disk", "path": "/", "pool": "p"},
							"data": {"type": "disk", "path": "/data", "source": w.dir},
						},
					})
				}), nil
			},
			done: func(w *world, dump string) bool {
				return strings.Count(dump, " 77 0 []} /data false") == 2 && len(w.nets.hosts) == 0
			},
		},
	}
	maps.Copy(all, projectChanges())
	return all
}

func frozen(dump string) int {
	n := 0
	for line := range strings.Lines(dump) {
		if strings.HasPrefix(line, "running") && strings.HasSuffix(line, " true\n") {
			n++
		}
	}
	return n
}

func setState(action string) func(w *world) (ops.Job, error) {
	return func(w *world) (ops.Job, error) {
		return w.svc.SetState(w.tb.Context(), "c1", api.InstanceStatePut{Action: action})
	}
}

// TestFailsAnywhere fails each step of each change that has several: what is
// left is what was before.
func TestFailsAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range changes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				w := newWorld(t)
				c.prepare(w)
				before := w.dump()
				w.Arm(n, false)
				_, err := w.do(c.act(w))
				if !w.Disarm() {
					must(t, err)
					if after := w.dump(); !c.done(w, after) {
						t.Fatalf("it is not done:\n%s", after)
					}
					return
				}
				w.rt.exits.Wait()
				after := w.dump()
				if err == nil && !c.done(w, after) && (c.onward == nil || !c.onward(w, after)) {
					t.Fatalf("call %d failed, and nobody says so:\n%s", n, after)
				}
				if err != nil && after != before && (c.onward == nil || !c.onward(w, after)) {
					t.Fatalf("call %d failed (%v), and left something:\n%s\nbefore:\n%s", n, err, after, before)
				}
				if !c.later && len(w.pool.Mounted()) > strings.Count(after, "running") {
					t.Fatalf("call %d left mounts: %v", n, w.pool.Mounted())
				}
			}
		})
	}
}

// TestCrashesAnywhere ends the daemon before each step of each change: the
// next daemon finishes it or takes it back.
func TestCrashesAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range changes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				w := newWorld(t)
				c.prepare(w)
				before := w.dump()
				w.Arm(n, true)
				survived, err := w.do(c.act(w))
				if !w.Disarm() {
					must(t, err)
					return
				}
				if survived && !c.later {
					t.Fatalf("call %d did not end the daemon", n)
				}
				w.pool = reopen(w)
				w.boot()
				w.rt.exits.Wait()
				after := w.dump()
				if after != before && !c.done(w, after) && (c.onward == nil || !c.onward(w, after)) && !unwound(before, after) {
					t.Fatalf("a crash at call %d left something:\n%s\nbefore:\n%s", n, after, before)
				}
				if strings.Contains(after, "pending") {
					t.Fatalf("a crash at call %d left something half made:\n%s", n, after)
				}
			}
		})
	}
}

// TestDatabaseFails fails the write that each change ends with.
func TestDatabaseFails(t *testing.T) {
	t.Parallel()
	for name, trigger := range map[string]string{
		"create":                    "UPDATE OF status ON instances",
		"start":                     "UPDATE OF last_used ON instances",
		"rename":                    "UPDATE OF name ON instances",
		"move to a project":         "UPDATE OF profiles ON snapshots",
		"move to a project, pool":   "UPDATE OF profiles ON snapshots",
		"copy":                      "UPDATE OF status ON instances",
		"create snapshot":           "UPDATE OF status ON snapshots",
		"replace snapshot":          "UPDATE OF status ON snapshots",
		"rename snapshot":           "UPDATE OF name ON snapshots",
		"add and change devices":    "UPDATE OF architecture ON instances",
		"update a profile":          "UPDATE ON profiles",
		"create, before the rest":   "INSERT ON instances",
		"delete":                    "UPDATE OF status ON instances",
		"delete, the last":          "DELETE ON instances",
		"delete snapshot, the last": "DELETE ON snapshots",
		"stop":                      "UPDATE OF config ON instances",
		"rebuild":                   "UPDATE OF config ON instances",
		"rebuild, the last":         "UPDATE OF config ON instances WHEN NEW.config NOT LIKE '%volatile.rebuilding%'",
		"restore":                   "UPDATE OF config ON instances",
		"restore, the last":         "UPDATE OF config ON instances WHEN NEW.config NOT LIKE '%volatile.restoring%'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			name, part, _ := strings.Cut(name, ", ")
			c := changes()[name]
			w := newWorld(t)
			c.prepare(w)
			before := w.dump()
			conn, err := sql.Open("sqlite3", filepath.Join(w.dir, "cuib.db"))
			must(t, err)
			t.Cleanup(func() { must(t, conn.Close()) })
			_, err = conn.ExecContext(t.Context(), "CREATE TRIGGER t BEFORE "+trigger+" BEGIN SELECT RAISE(ABORT, 'boom'); END")
			must(t, err)
			_, err = w.do(c.act(w))
			if err == nil || !strings.Contains(err.Error(), "boom") || strings.Contains(err.Error(), "undo") && part != "the last" {
				t.Errorf("got %v, want the failure alone", err)
			}
			w.rt.exits.Wait()
			if part == "the last" { // What was there is gone: the same again finishes it.
				_, err = conn.ExecContext(t.Context(), "DROP TRIGGER t")
				must(t, err)
				w.ok(c.act(w))
				if after := w.dump(); !c.done(w, after) {
					t.Errorf("it is not done:\n%s", after)
				}
				return
			}
			if after := w.dump(); after != before && (c.onward == nil || !c.onward(w, after)) {
				t.Errorf("it left something:\n%s\nbefore:\n%s", after, before)
			}
			if len(w.pool.Mounted()) > strings.Count(before, "running") {
				t.Errorf("it left mounts: %v", w.pool.Mounted())
			}
		})
	}
}

// unwound compares without what runs: what was changed in a running
// container is not taken back, as nobody knows any more what it was.
func unwound(before, after string) bool {
	return settled(before) == settled(after)
}

func settled(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if !strings.HasPrefix(line, "running") && !strings.HasPrefix(line, "no network") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func (w *world) snapshot(name string) {
	w.tb.Helper()
	w.ok(w.svc.CreateSnapshot(w.tb.Context(), "c1", api.InstanceSnapshotsPost{Name: name}))
}
