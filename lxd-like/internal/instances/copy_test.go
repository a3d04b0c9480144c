package instances_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// say creates an instance, unless the name is empty, and has c1 hold one word
// after the other, with snapshots between: word, snapshot, word ...
func (w *world) say(name string, words ...string) {
	w.tb.Helper()
	if name != "" {
		w.create(name, false)
	}
	for i, word := range words {
		if i%2 == 0 {
			w.write("c1", word)
		} else {
			w.snapshot(word)
		}
	}
}

func copyTo(name, pool string) api.InstancesPost {
	return api.InstancesPost{
		Name: name, Source: api.InstanceSource{Type: "copy", Source: "c1"},
		InstancePut: api.InstancePut{Devices: api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": pool}}},
	}
}

// whole reports whether instances are there with as many volumes as records,
// and nothing is frozen or half made but for what is hidden.
func whole(names ...string) func(*world, string) bool {
	return func(_ *world, dump string) bool {
		if frozen(dump) > 0 || strings.Contains(dump, "pending\n") && !strings.Contains(dump, "snapshot .") {
			return false
		}
		for _, name := range names {
			if !has(dump, name) {
				return false
			}
		}
		for line := range strings.Lines(dump) {
			line = strings.TrimPrefix(line, "q ")
			if rest, ok := strings.CutPrefix(line, "volume instance/"); ok && !strings.Contains(rest, "@.") {
				name, _, _ := strings.Cut(rest, " ")
				name, _, _ = strings.Cut(name, "@")
				if !slices.Contains(names, name) {
					return false
				}
			}
		}
		return true
	}
}

// moved reports whether c1 is in the other pool by that name, and nothing else
// is left.
func moved(name string) func(*world, string) bool {
	return func(_ *world, dump string) bool {
		return strings.Contains(dump, "instance "+name+" ready q") && strings.Contains(dump, "q volume instance/"+name+" says 3") &&
			strings.Contains(dump, "q volume instance/"+name+"@s1 says 1") && strings.Contains(dump, "q volume instance/"+name+"@s2 says 2") &&
			!strings.Contains(dump, "\nvolume instance/c1") && !strings.Contains(dump, "volatile.mov") && strings.Count(dump, "instance c") == 1
	}
}

// unleft takes from a dump what is left where an instance was before a move.
func unleft(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		if !strings.HasPrefix(line, "volume instance/c1") && !strings.Contains(line, "volatile.moved") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestCopyToAnotherPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.say("c1", "1", "s1", "2", "s2", "3")
	w.state("c1", "start", false)
	w.ok(w.svc.Create(ctx, copyTo("c2", "q")))
	req := copyTo("c3", "q")
	req.Source.InstanceOnly = true
	w.ok(w.svc.Create(ctx, req))
	req = copyTo("c4", "q")
	req.Source.Source = "c1/s1"
	w.ok(w.svc.Create(ctx, req))
	dump := w.dump()
	for _, want := range []string{
		"q volume instance/c2 says 3", "q volume instance/c2@s1 says 1", "q volume instance/c2@s2 says 2",
		"q volume instance/c3 says 3", "q volume instance/c4 says 1",
	} {
		if !strings.Contains(dump, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if got := w.snapshots("c3") + w.snapshots("c4"); got != "" || w.snapshots("c2") != "s1 s2" {
		t.Errorf("snapshots: %q", got)
	}
	if strings.Contains(dump, ".copy") || frozen(dump) > 0 || len(w.other.Mounted())+len(w.pool.Mounted()) != 1 {
		t.Errorf("left:\n%s\nmounted %v %v", dump, w.pool.Mounted(), w.other.Mounted())
	}
	w.ok(w.update(ctx, "c2", api.InstancePut{Restore: "s1"})) // Whose configuration says the other pool.
	if got := w.readIn(w.other, vol("c2")); got != "1" {
		t.Errorf("it says %q", got)
	}
	w.ok(w.svc.Create(ctx, api.InstancesPost{Name: "c5", Source: api.InstanceSource{Type: "copy", Source: "c2/s2"}}))
	if got := w.readIn(w.other, vol("c5")); got != "2" {
		t.Errorf("it says %q", got)
	}
	for _, name := range []string{"c2", "c5"} {
		w.state(name, "start", false)
	}
}

// What is copied cannot go meanwhile, and goes on.
func TestSourceOfACopy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.say("c1", "1", "s1", "2", "s2", "3")
	var busy map[string]error
	state := ""
	meanwhile := func() { busy, state = w.disturb() }
	w.other.Fail = func(method string) error {
		if method == "Snapshot" && busy == nil {
			meanwhile()
		}
		return nil
	}
	w.ok(w.svc.Create(ctx, copyTo("c2", "q")))
	if !runs(state, "c1") || len(busy) != 6 {
		t.Fatalf("c1 does not start while it is copied:\n%s", state)
	}
	for name, err := range busy {
		if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "is being copied") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := w.snapshots("c2"); got != "s1 s2" {
		t.Errorf("the copy has %q", got)
	}
	w.ok(w.svc.DeleteSnapshot(ctx, "c1", "s2"))
	w.ok(w.svc.Delete(ctx, "c1"))
}

// disturb starts and stops c1 and tries to take away what is copied of it. It
// returns what that says, and how all is while c1 runs.
func (w *world) disturb() (busy map[string]error, running string) {
	w.tb.Helper()
	ctx := w.tb.Context()
	busy = map[string]error{}
	w.state("c1", "start", false)
	w.snapshot("s3")
	running = w.dump()
	_, busy["read a snapshot"] = w.svc.Stored(ctx, "c1/s1")
	_, busy["delete a snapshot"] = w.do(w.svc.DeleteSnapshot(ctx, "c1", "s2"))
	_, busy["rename a snapshot"] = w.do(w.svc.RenameSnapshot(ctx, "c1", "s1", api.InstanceSnapshotPost{Name: "s4"}))
	w.state("c1", "stop", true)
	_, busy["restore"] = w.do(w.update(ctx, "c1", api.InstancePut{Restore: "s1"}))
	_, busy["delete"] = w.do(w.svc.Delete(ctx, "c1"))
	_, busy["rename"] = w.do(w.svc.Rename(ctx, "c1", api.InstancePost{Name: "c9"}))
	return busy, running
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	for _, pool := range []string{"p", "q"} {
		t.Run(pool, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ctx := t.Context()
			d := w.pool
			if pool == "q" {
				d = w.other
			}
			w.say("c1", "1", "s1", "2", "s2", "3")
			refresh := copyTo("c2", pool)
			refresh.Source.Refresh = true
			refresh.Description = "the copy"
			w.ok(w.svc.Create(ctx, refresh)) // It is not there: it is made.
			w.ok(w.svc.DeleteSnapshot(ctx, "c2", "s1"))
			w.say("", "4", "s3", "5")
			w.ok(w.svc.DeleteSnapshot(ctx, "c1", "s2"))
			refresh.Source.RefreshExclude = true
			refresh.Description = "another"
			w.ok(w.svc.Create(ctx, refresh)) // The source has s2 no more, but s1 is older.
			if got, says := w.snapshots("c2"), w.readIn(d, vol("c2")); got != "s2 s3" || says != "5" {
				t.Errorf("it has %q and says %q:\n%s", got, says, w.dump())
			}
			c2, err := w.svc.Get(ctx, "c2")
			if must(t, err); c2.Description != "the copy" {
				t.Errorf("its configuration is not its own any more: %q", c2.Description)
			}
			w.say("", "6", "s4", "7")
			w.ok(w.svc.Create(ctx, refresh))
			if got := w.snapshots("c2"); got != "s2 s3 s4" {
				t.Errorf("older snapshots came: %q", got)
			}
			if says := w.readIn(d, storage.Volume{Kind: storage.Instance, Name: "c2", Snapshot: "s4"}); says != "6" {
				t.Errorf("s4 says %q", says)
			}
			w.state("c2", "start", false)
			if _, err := w.do(w.svc.Create(ctx, refresh)); !errs.Is(err, errs.Conflict) {
				t.Errorf("while it runs: %v", err)
			}
			refresh.Name = "c1"
			if _, err := w.do(w.svc.Create(ctx, refresh)); !errs.Is(err, errs.Invalid) {
				t.Errorf("from itself: %v", err)
			}
		})
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.say("c1", "1", "s1", "2", "s2", "3")
	w.state("c1", "start", false)
	_, err := w.do(w.svc.Rename(ctx, "c1", api.InstancePost{Pool: "q", Migration: true}))
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("while it runs: %v", err)
	}
	w.state("c1", "stop", true)
	before, err := w.svc.Get(ctx, "c1")
	must(t, err)
	for _, req := range []api.InstancePost{{Pool: "p"}, {Pool: "nope"}, {Migration: true}, {Pool: "q", Name: "-"}} {
		if _, err := w.do(w.svc.Rename(ctx, "c1", req)); err == nil {
			t.Errorf("%+v is possible", req)
		}
	}
	w.ok(w.svc.Rename(ctx, "c1", api.InstancePost{Pool: "q", Migration: true}))
	after, err := w.svc.Get(ctx, "c1")
	must(t, err)
	for _, key := range []string{"volatile.uuid", "volatile.eth0.hwaddr", "volatile.idmap.base"} {
		if before.Config[key] == "" || before.Config[key] != after.Config[key] {
			t.Errorf("%s was %q and is %q", key, before.Config[key], after.Config[key])
		}
	}
	w.ok(w.update(ctx, "c1", api.InstancePut{Restore: "s1"}))
	w.state("c1", "start", false)
	w.state("c1", "stop", true)
	w.ok(w.svc.Rename(ctx, "c1", api.InstancePost{
		Name: "c2", Pool: "p", InstanceOnly: true, Config: api.ConfigMap{"user.x": "1"}, Profiles: []string{"default"},
		Devices: api.DevicesMap{},
	}))
	dump := w.dump()
	if !strings.Contains(dump, "\nvolume instance/c2 says 1") || strings.Contains(dump, "s1") || strings.Contains(dump, "q volume") || !gone(dump, "c1") {
		t.Errorf("moved back and renamed:\n%s", dump)
	}
	c2, err := w.svc.Get(ctx, "c2")
	must(t, err)
	if c2.Config["user.x"] != "1" || c2.Config["volatile.uuid"] != before.Config["volatile.uuid"] || len(c2.Devices) != 0 {
		t.Errorf("got %+v", c2)
	}
	w.ok(w.svc.Rename(ctx, "c2", api.InstancePost{Name: "c3", Config: api.ConfigMap{"user.x": "2"}, Migration: true}))
	if c3, err := w.svc.Get(ctx, "c3"); err != nil || c3.Config["user.x"] != "2" {
		t.Errorf("got %+v, %v", c3, err)
	}
	w.state("c3", "start", false)
}

// A volume in the way of a move can be anybody's.
func TestMoveReplacesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.say("c1", "1")
	must(t, w.other.Create(t.Context(), vol("c1")))
	before := w.dump()
	if _, err := w.do(w.svc.Rename(t.Context(), "c1", api.InstancePost{Pool: "q"})); !errs.Is(err, errs.Conflict) {
		t.Errorf("got %v", err)
	}
	w.boot()
	if after := w.dump(); after != before {
		t.Errorf("left\n%s", after)
	}
}

func TestPoolAppears(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.say("c1", "1", "s1", "2")
	w.ok(w.svc.Create(ctx, copyTo("c2", "q")))
	w.ok(w.svc.Create(ctx, copyTo("c3", "q")))
	w.state("c1", "start", false)
	w.state("c2", "start", false)
	for _, name := range []string{"c1", "c2"} { // The host goes down.
		delete(w.rt.running, name)
	}
	w.Arm(2, true) // In the middle of a copy.
	_, _ = w.do(w.svc.Create(ctx, copyTo("c4", "q")))
	w.Disarm()
	must(t, w.other.Unmount(ctx, vol("c2")))
	w.pools.names = []string{"p"}
	w.boot()
	w.autostart()
	if dump := w.dump(); !runs(dump, "c1") || runs(dump, "c2") || !strings.Contains(dump, "c4 pending") {
		t.Errorf("without the pool:\n%s", dump)
	}
	w.pools.names = []string{"p", "q"}
	if _, err := w.do(w.svc.SetState(ctx, "c3", api.InstanceStatePut{Action: "start"})); !errs.Is(err, errs.Unavailable) {
		t.Errorf("before it is put right: %v", err)
	}
	must(t, w.svc.PoolAppeared(ctx, "q"))
	must(t, w.svc.PoolAppeared(ctx, "q"))
	must(t, w.svc.PoolAppeared(ctx, "p"))
	if dump := w.dump(); !runs(dump, "c1") || !runs(dump, "c2") || runs(dump, "c3") || !gone(dump, "c4") {
		t.Errorf("with the pool:\n%s", dump)
	}
	w.state("c3", "start", false)
}

// A client that brings the configuration of a copy up to date leaves out the
// root disk that only the copy has.
func TestCopyKeepsItsRootDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.say("c1", "1")
	w.ok(w.svc.Create(t.Context(), copyTo("c2", "q")))
	must(t, w.updateNow(t.Context(), "c2", api.InstancePut{Profiles: []string{"default"}, Config: api.ConfigMap{"user.x": "1"}}))
	c2, err := w.svc.Get(t.Context(), "c2")
	if must(t, err); c2.Devices["root"]["pool"] != "q" || c2.Config["user.x"] != "1" {
		t.Errorf("got %v, %v", c2.Devices, c2.Config)
	}
	err = w.updateNow(t.Context(), "c2", api.InstancePut{Devices: api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "p"}}})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "move the instance") {
		t.Errorf("another pool: %v", err)
	}
	// Or they send all that the source has.
	w.ok(w.svc.Create(t.Context(), copyTo("c3", "p")))
	c3, err := w.svc.Get(t.Context(), "c3")
	must(t, err)
	must(t, w.updateNow(t.Context(), "c2", c3.InstancePut))
	c2, err = w.svc.Get(t.Context(), "c2")
	if must(t, err); c2.Devices["root"]["pool"] != "q" || c2.Config["user.x"] != "" || c2.Config["volatile.uuid"] == c3.Config["volatile.uuid"] {
		t.Errorf("with what another has: %v, %v", c2.Devices, c2.Config)
	}
}
