package volumes_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/storage"
)

// change is a multi-step action, in a world that prepare has made ready.
type change struct {
	prepare func(w *world)
	act     func(w *world) error

	// done reports whether the world is as the action was to make it.
	done func(w *world, dump string) bool

	// onward is for an action that a crash, or a failure too, may leave done
	// in parts: what is then left must satisfy it.
	onward func(dump string) bool
}

func has(words ...string) func(*world, string) bool {
	return func(_ *world, dump string) bool {
		for _, word := range words {
			if !strings.Contains(dump, word) {
				return false
			}
		}
		return true
	}
}

func never(string) bool { return false }

func filled(w *world) {
	w.create("v")
	w.snapshot("s1")
	w.write("v", "later")
	w.snapshot("s2")
	w.write("v", "now")
}

func copyPost(name string, refresh bool) api.StorageVolumesPost {
	return api.StorageVolumesPost{Name: name, Source: api.StorageVolumeSource{Type: "copy", Name: "v", Pool: "p", Refresh: refresh}}
}

const copied = "says now"

func changes() map[string]change {
	return map[string]change{
		"create": {
			prepare: func(*world) {},
			act: func(w *world) error {
				return w.svc.Create(w.tb.Context(), "p", post("v", api.ConfigMap{"size": "1MiB", "fake.colour": "red"}))
			},
			done: has("volume p/v ready", "custom/v says  1048576 map[fake.colour:red]"),
		},
		"import a disc": {
			prepare: func(*world) {},
			act: func(w *world) error {
				return w.run(w.svc.ImportISO(w.tb.Context(), "p", "v", strings.NewReader("x")))
			},
			done: has("volume p/v ready iso", "custom/v says"),
		},
		"reinstate": {
			prepare: filled,
			act: func(w *world) error {
				doc, err := w.svc.Document(w.tb.Context(), "p", "v")
				if err != nil {
					return err
				}
				return w.svc.Reinstate(w.tb.Context(), volumes.Reinstatement{Document: doc, Name: "w", Pool: "q", Fill: refill}, nil)
			},
			done: has("volume q/w ready", "q custom/w says", "q custom/w@s1", "q custom/w@s2"),
		},
		"delete": {
			prepare: filled,
			act:     func(w *world) error { return w.svc.Delete(w.tb.Context(), ref("p", "v")) },
			done:    func(_ *world, dump string) bool { return dump == "" },
			// It is whole, but for snapshots that are gone.
			onward: func(dump string) bool {
				return strings.Contains(dump, "volume p/v ready") && strings.Contains(dump, "custom/v says now") &&
					strings.Count(dump, "  snapshot s") == strings.Count(dump, "custom/v@s")
			},
		},
		"rename": {
			prepare: func(w *world) {
				filled(w)
				w.addInstance("c1", "v")
				w.addInstance("c2", "v/s1")
			},
			act:  func(w *world) error { return w.svc.Rename(w.tb.Context(), ref("p", "v"), "w") },
			done: has("volume p/w ready", "custom/w says now", "custom/w@s1 says v", "source:w type", "source:w/s1 type"),
		},
		"update": {
			prepare: func(w *world) {
				must(w.tb, w.svc.Create(w.tb.Context(), "p", post("v", api.ConfigMap{"size": "1MiB", "fake.colour": "red"})))
			},
			act: func(w *world) error {
				put := api.StorageVolumePut{Description: "d", Config: api.ConfigMap{"size": "2MiB", "fake.colour": "blue"}}
				return w.svc.Update(w.tb.Context(), ref("p", "v"), put)
			},
			done: has("filesystem d map[fake.colour:blue size:2MiB]", "2097152 map[fake.colour:blue]"),
		},
		"create snapshot": {
			prepare: filled,
			act: func(w *world) error {
				return w.run(w.svc.CreateSnapshot(w.tb.Context(), ref("p", "v"), api.StorageVolumeSnapshotsPost{Name: "s3"}))
			},
			done: has("snapshot s3 ready", "custom/v@s3 says now"),
		},
		"replace snapshot": {
			prepare: filled,
			act: func(w *world) error {
				return w.run(w.svc.CreateSnapshot(w.tb.Context(), ref("p", "v"), api.StorageVolumeSnapshotsPost{Name: "s1", Replace: true}))
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "snapshot s1 ready") && strings.Contains(dump, "custom/v@s1 says now") && !strings.Contains(dump, ".was-")
			},
			// The old one can stay, hidden, until the next start.
			onward: func(dump string) bool {
				return strings.Contains(dump, "snapshot s1 ready") && strings.Contains(dump, "custom/v@s1 says now") && strings.Contains(dump, "snapshot .was-s1 pending")
			},
		},
		"rename snapshot": {
			prepare: filled,
			act: func(w *world) error {
				return w.run(w.svc.RenameSnapshot(w.tb.Context(), ref("p", "v"), "s1", api.StorageVolumeSnapshotPost{Name: "s3"}))
			},
			done: has("snapshot s3 ready", "custom/v@s3 says v"),
		},
		"delete snapshot": {
			prepare: filled,
			act: func(w *world) error {
				return w.run(w.svc.DeleteSnapshot(w.tb.Context(), ref("p", "v"), "s1"))
			},
			done: func(_ *world, dump string) bool { return !strings.Contains(dump, "s1") },
		},
		"restore": {
			prepare: filled,
			act: func(w *world) error {
				return w.svc.Update(w.tb.Context(), ref("p", "v"), api.StorageVolumePut{Restore: "s1"})
			},
			done: func(w *world, dump string) bool {
				return has("custom/v says v", "custom/v@s2 says later")(w, dump) && !strings.Contains(dump, "volatile")
			},
		},
		"copy": {
			prepare: filled,
			act:     func(w *world) error { return w.run(w.svc.Copy(w.tb.Context(), "p", copyPost("w", false))) },
			done:    has("volume p/w ready", "p custom/w "+copied, "p custom/w@s1 says v", "p custom/w@s2 says later"),
		},
		"copy to another pool": {
			prepare: filled,
			act:     func(w *world) error { return w.run(w.svc.Copy(w.tb.Context(), "q", copyPost("w", false))) },
			done:    has("volume q/w ready", "q custom/w "+copied, "q custom/w@s1 says v", "q custom/w@s2 says later"),
		},
		"refresh": {
			prepare: func(w *world) {
				w.create("v")
				w.snapshot("s1")
				must(w.tb, w.run(w.svc.Copy(w.tb.Context(), "q", copyPost("w", false))))
				w.write("v", "later")
				w.snapshot("s2")
				w.write("v", "now")
			},
			act:  func(w *world) error { return w.run(w.svc.Copy(w.tb.Context(), "q", copyPost("w", true))) },
			done: has("q custom/w "+copied, "q custom/w@s1 says v", "q custom/w@s2 says later"),
			// All of it is there, but for new snapshots.
			onward: func(dump string) bool { return strings.Contains(dump, "q custom/w "+copied) },
		},
		"move": {
			prepare: func(w *world) {
				filled(w)
				w.addInstance("c1", "v")
			},
			act: func(w *world) error {
				return w.run(w.svc.Move(w.tb.Context(), ref("p", "v"), api.StorageVolumePost{Name: "w", Pool: "q"}))
			},
			done: func(w *world, dump string) bool {
				return has("volume q/w ready", "q custom/w says now", "q custom/w@s1 says v", "pool:q source:w type")(w, dump) &&
					!strings.Contains(dump, "p custom/v")
			},
			// It has moved, and what is left of it goes with the next start.
			onward: func(dump string) bool {
				return strings.Contains(dump, "volume q/w ready") && strings.Contains(dump, "volume p/v pending")
			},
		},
		"move to a project": {
			prepare: filled,
			act: func(w *world) error {
				return w.run(w.svc.Move(w.tb.Context(), ref("p", "v"), api.StorageVolumePost{Name: "x%v", Project: "x"}))
			},
			done: func(w *world, dump string) bool {
				return has("volume p/x%v ready", "p custom/x%v says now", "p custom/x%v@s1 says v")(w, dump) && !strings.Contains(dump, "custom/v")
			},
		},
		"look at it while it stands still": {
			prepare: filled,
			act: func(w *world) error {
				return w.svc.Stilled(w.tb.Context(), "p", "v", func(context.Context, string) error { return nil })
			},
			done: func(_ *world, dump string) bool { return !strings.Contains(dump, "still") },
			// What cannot be deleted is deleted at the next start.
			onward: func(dump string) bool { return strings.Contains(dump, "snapshot .still") },
		},
	}
}

// refill makes a volume with the snapshots s1 and s2.
func refill(ctx context.Context, d storage.Driver, v storage.Volume) error {
	if err := d.Create(ctx, v); err != nil {
		return err
	}
	for _, name := range []string{"s1", "s2"} {
		snap := v
		snap.Snapshot = name
		if err := d.Snapshot(ctx, snap); err != nil {
			return err
		}
	}
	return nil
}

// TestFailsAnywhere fails each step of each change that has several: what is
// left is what was before.
func TestFailsAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range changes() {
		if c.onward == nil {
			c.onward = never
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				w := newWorld(t)
				c.prepare(w)
				before := w.dump()
				w.Arm(n, false)
				_, err := w.do(func() error { return c.act(w) })
				reached := w.Disarm()
				after := w.dump()
				if !reached {
					must(t, err)
					if !c.done(w, after) {
						t.Fatalf("it is not done:\n%s", after)
					}
					return
				}
				if err == nil && !c.done(w, after) && !c.onward(after) {
					t.Fatalf("call %d failed, and nobody says so:\n%s", n, after)
				}
				if err != nil && settled(after) != before && !c.onward(after) {
					t.Fatalf("call %d failed (%v), and left something:\n%s\nbefore:\n%s", n, err, after, before)
				}
				// What could not be unmounted is, when it is next touched.
				if m := w.mounted(); len(m) > 1 {
					t.Fatalf("call %d left mounts: %v", n, m)
				}
			}
		})
	}
}

// settled is a dump without what is deleted at the next start: the snapshots by
// which running copies read.
func settled(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if !strings.Contains(line, "@.copy-") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestCrashesAnywhere ends the daemon before each step of each change: the
// next daemon finishes it or takes it back.
func TestCrashesAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range changes() {
		if c.onward == nil {
			c.onward = never
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				w := newWorld(t)
				c.prepare(w)
				before := w.dump()
				w.Arm(n, true)
				survived, err := w.do(func() error { return c.act(w) })
				if !w.Disarm() {
					must(t, err)
					return
				}
				if survived {
					t.Fatalf("call %d did not end the daemon", n)
				}
				w.boot()
				after := w.dump()
				if after != before && !c.done(w, after) && !c.onward(after) {
					t.Fatalf("a crash at call %d left something:\n%s\nbefore:\n%s", n, after, before)
				}
				if strings.Contains(after, "pending") || strings.Contains(after, "volatile.") {
					t.Fatalf("a crash at call %d left something half made:\n%s", n, after)
				}
				if m := w.mounted(); len(m) > 0 {
					t.Fatalf("a crash at call %d left mounts: %v", n, m)
				}
			}
		})
	}
}

// TestDatabaseFails fails the write that each change ends with.
func TestDatabaseFails(t *testing.T) {
	t.Parallel()
	all := changes()
	for name, trigger := range map[string]string{
		"create":               "UPDATE OF status ON volumes",
		"rename":               "UPDATE OF name ON volumes",
		"update":               "UPDATE OF description ON volumes",
		"create snapshot":      "UPDATE OF status ON volume_snapshots",
		"replace snapshot":     "UPDATE OF status ON volume_snapshots",
		"rename snapshot":      "UPDATE OF name ON volume_snapshots",
		"copy to another pool": "UPDATE OF status ON volumes",
		"move":                 "UPDATE OF status ON volumes",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			all[name].prepare(w)
			before := w.dump()
			w.refuse(trigger)
			if err := all[name].act(w); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("got error %v", err)
			}
			if after := w.dump(); after != before {
				t.Fatalf("it left something:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}
