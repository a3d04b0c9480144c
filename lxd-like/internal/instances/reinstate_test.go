package instances_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// document is what was written down of an instance that is gone since.
func (w *world) document() api.Document {
	w.tb.Helper()
	must(w.tb, w.svc.CreateProfile(w.tb.Context(), api.ProfilesPost{Name: "extra", ProfilePut: api.ProfilePut{Config: api.ConfigMap{"user.extra": "1"}}}))
	req := post("c1", false)
	req.Profiles = []string{"default", "extra"}
	w.ok(w.svc.Create(w.tb.Context(), req))
	w.write("c1", "mine")
	w.snapshot("s1")
	w.snapshot("s2")
	doc, err := w.svc.Document(w.tb.Context(), "c1")
	must(w.tb, err)
	w.ok(w.svc.Delete(w.tb.Context(), "c1"))
	must(w.tb, w.svc.DeleteProfile(w.tb.Context(), "extra"))
	text, err := doc.YAML()
	must(w.tb, err)
	doc, err = api.ParseDocument(text)
	must(w.tb, err)
	return doc
}

// fills makes what documents say, as archives do.
func fills() func(context.Context, storage.Driver, storage.Volume) error {
	return func(ctx context.Context, d storage.Driver, v storage.Volume) error {
		if err := d.Create(ctx, v); err != nil {
			return err
		}
		dir, err := d.Mount(ctx, v, nil)
		if err != nil {
			return err
		}
		err = errors.Join(
			os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755),
			os.WriteFile(filepath.Join(dir, "rootfs/word"), []byte("mine"), 0o600),
			d.Unmount(ctx, v))
		for _, s := range []string{"s1", "s2"} {
			if err == nil {
				err = d.Snapshot(ctx, storage.Volume{Kind: v.Kind, Name: v.Name, Snapshot: s})
			}
		}
		return err
	}
}

func ofTheHost(key, _ string) bool {
	return strings.HasPrefix(key, "volatile.idmap") || strings.HasSuffix(key, ".host_name")
}

func TestReinstate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	doc := w.document()
	r := instances.Reinstatement{Document: doc, Fill: fills()}
	must(t, w.svc.CheckReinstate(ctx, r))
	must(t, w.svc.Reinstate(ctx, r, nil))
	back, err := w.svc.Document(ctx, "c1")
	must(t, err)
	for _, d := range []api.Document{doc, back} { // What belongs to the host is no business of a document.
		maps.DeleteFunc(d.Instance.Config, ofTheHost)
		maps.DeleteFunc(d.Instance.ExpandedConfig, ofTheHost)
		for _, s := range d.Snapshots {
			maps.DeleteFunc(s.Config, ofTheHost)
			maps.DeleteFunc(s.ExpandedConfig, ofTheHost)
		}
	}
	was, err := doc.YAML()
	must(t, err)
	is, err := back.YAML()
	must(t, err)
	if string(was) != string(is) {
		t.Errorf("got\n%s\nwant\n%s", is, was)
	}
	if got := w.read(vol("c1")); got != "mine" {
		t.Errorf("it says %q", got)
	}
	if err := w.svc.Reinstate(ctx, r, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("again: %v", err)
	}

	r.Name, r.Config, r.Devices = "c2", api.ConfigMap{"user.new": "2", "image.os": ""}, api.DevicesMap{"root": {"type": "disk", "path": "/", "pool": "p", "size": "1GiB"}}
	must(t, w.svc.Reinstate(ctx, r, nil))
	c2, err := w.svc.Get(ctx, "c2")
	must(t, err)
	c1 := back.Instance
	if c2.Config["volatile.uuid"] == c1.Config["volatile.uuid"] || c2.Config["volatile.eth0.hwaddr"] == c1.Config["volatile.eth0.hwaddr"] {
		t.Errorf("the second has the identity of the first: %v", c2.Config)
	}
	if c2.Config["user.new"] != "2" || c2.Config["image.os"] != "" || w.pool.Limited(vol("c2")) != 1<<30 {
		t.Errorf("what was asked for: %v", c2.Config)
	}
	w.state("c1", "start", false)
	w.state("c2", "start", false)
}

func TestReinstateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.document()
	for name, c := range map[string]struct {
		change func(r *instances.Reinstatement)
		kind   errs.Kind
		says   string
	}{
		"nothing":           {func(r *instances.Reinstatement) { r.Document.Instance = nil }, errs.Invalid, "of no instance"},
		"a virtual machine": {func(r *instances.Reinstatement) { r.Document.Instance.Type = "virtual-machine" }, errs.Unsupported, "containers only"},
		"a bad name":        {func(r *instances.Reinstatement) { r.Document.Instance.Name = "../c1" }, errs.Invalid, "instance name"},
		"a bad snapshot":    {func(r *instances.Reinstatement) { r.Document.Snapshots[0].Name = ".hidden" }, errs.Invalid, "snapshot name"},
		"one twice":         {func(r *instances.Reinstatement) { r.Document.Snapshots[0].Name = "s2" }, errs.Invalid, "named twice"},
		"a bad key":         {func(r *instances.Reinstatement) { r.Document.Instance.Config["no.key"] = "1" }, errs.Invalid, "no.key"},
		"a bad device":      {func(r *instances.Reinstatement) { r.Document.Instance.Devices["x"] = api.ConfigMap{"type": "y"} }, errs.Invalid, "x"},
		"no profile":        {func(r *instances.Reinstatement) { r.Document.Profiles = nil }, errs.Invalid, `profile "extra"`},
		"a bad profile":     {func(r *instances.Reinstatement) { r.Document.Profiles[1].Config["no.key"] = "1" }, errs.Invalid, "no.key"},
		"no pool":           {func(r *instances.Reinstatement) { r.Pool = "other" }, errs.Invalid, `"other" not found`},
	} {
		text, err := good.YAML()
		must(t, err)
		doc, err := api.ParseDocument(text)
		must(t, err)
		r := instances.Reinstatement{Document: doc, Fill: fills()}
		c.change(&r)
		before := w.dump()
		err = w.svc.CheckReinstate(t.Context(), r)
		if !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.svc.Reinstate(t.Context(), r, nil); err == nil {
			t.Errorf("%s: it was made", name)
		}
		if after := w.dump(); after != before {
			t.Errorf("%s: left\n%s", name, after)
		}
	}
}

// What the document says of a host that is another one is no obstacle.
func TestReinstateElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := w.document()
	doc.Profiles[1].Devices = api.DevicesMap{"eth1": {"type": "nic", "network": "gone"}}
	doc.Instance.Devices["root"] = api.ConfigMap{"type": "disk", "path": "/", "pool": "gone", "size": "2GiB"}
	must(t, w.svc.Reinstate(t.Context(), instances.Reinstatement{Document: doc, Fill: fills()}, nil))
	in, err := w.svc.Get(t.Context(), "c1")
	must(t, err)
	if in.Devices["root"]["pool"] != "p" || w.pool.Limited(vol("c1")) != 2<<30 {
		t.Errorf("its root: %v", in.Devices)
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := w.document()
	unmute := w.Mute()
	must(t, fills()(t.Context(), w.pool, vol("c1")))
	unmute()
	doc.Instance.Config["no.key"] = "1" // Better registered than refused.
	must(t, w.svc.Adopt(t.Context(), doc))
	if dump := w.dump(); !has(dump, "c1") || !strings.Contains(dump, "snapshot s2 ready") || !strings.Contains(dump, "profile extra") {
		t.Errorf("got\n%s", dump)
	}
	if err := w.svc.Adopt(t.Context(), doc); !errs.Is(err, errs.Conflict) {
		t.Errorf("again: %v", err)
	}
	must(t, w.updateNow(t.Context(), "c1", api.InstancePut{Profiles: []string{"default"}}))
	w.state("c1", "start", false)
	w.boot()
	if dump := w.dump(); !has(dump, "c1") || !runs(dump, "c1") {
		t.Errorf("after a start of the daemon:\n%s", dump)
	}
}

func TestStilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.create("c1", false)
	w.write("c1", "old")
	w.state("c1", "start", false)
	w.snapshot("s1")
	before := w.dump()
	err := w.svc.Stilled(ctx, "c1", func(_ context.Context, dir string) error {
		word, err := os.ReadFile(filepath.Join(dir, "rootfs/word"))
		if string(word) != "old" {
			t.Errorf("it says %q", word)
		}
		snaps, serr := w.svc.Snapshots(ctx, "c1")
		if must(t, serr); len(snaps) != 1 {
			t.Errorf("snapshots: %v", snaps)
		}
		full, serr := w.svc.GetFull(ctx, "c1")
		if must(t, serr); len(full.Snapshots) != 1 {
			t.Errorf("snapshots: %v", full.Snapshots)
		}
		return errors.Join(err, testenv.ErrBoom)
	})
	if !errors.Is(err, testenv.ErrBoom) {
		t.Errorf("got %v, want what the reader says", err)
	}
	if after := w.dump(); after != before {
		t.Errorf("left\n%s\nbefore\n%s", after, before)
	}
	if all := w.pool.Mounted(); len(all) != 1 {
		t.Errorf("mounted: %v", all)
	}
}

// A crash while it is read leaves nothing behind the next start.
func TestStilledIsLeftByACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	before := w.dump()
	reading, read := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- w.svc.Stilled(t.Context(), "c1", func(context.Context, string) error { close(reading); <-read; return nil })
	}()
	select {
	case <-reading:
	case <-time.After(testenv.Patience):
		t.Fatal("it does not begin")
	}
	job, err := w.svc.Delete(t.Context(), "c1")
	if err := canceled(t, job, err); !errs.Is(err, errs.Canceled) {
		t.Errorf("delete while it is read: %v", err)
	}
	w.boot()
	if after := w.dump(); after != before || len(w.pool.Mounted()) > 0 {
		t.Errorf("left\n%s\nbefore\n%s\nmounted %v", after, before, w.pool.Mounted())
	}
	close(read)
	must(t, <-done)
}
