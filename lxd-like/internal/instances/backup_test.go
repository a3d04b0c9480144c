package instances_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/backups"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var c1Backups = backups.Owner{Instance: "c1"}

// backups returns a service for the backups of the world's instances.
func (w *world) backups() *backups.Service {
	return &backups.Service{
		DB: w.db, Instances: w.svc.Backed(), Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler),
		Algorithm: func(context.Context) (string, error) { return "none", nil },
	}
}

// backUp makes an instance with two snapshots and a backup, and changes it.
func (w *world) backUp() {
	w.tb.Helper()
	w.create("c1", false)
	w.write("c1", "old")
	w.snapshot("s1")
	w.snapshot("s2")
	w.write("c1", "mine")
	w.ok(w.backups().Create(w.tb.Context(), c1Backups, backups.Request{Name: "b"}))
	w.write("c1", "new")
}

func (w *world) archive(s backups.Stream, err error) []byte {
	w.tb.Helper()
	must(w.tb, err)
	defer s.Close()
	var out bytes.Buffer
	must(w.tb, s.Write(w.tb.Context(), &out))
	return out.Bytes()
}

func imports(name string, data []byte) func(*world) (ops.Job, error) {
	return func(w *world) (ops.Job, error) {
		return job(func() error {
			_, err := w.svc.Import(w.tb.Context(), instances.Upload{Data: bytes.NewReader(data), Name: name})
			return err
		}), nil
	}
}

func TestBackups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.backUp()
	b := w.backups()
	data := w.archive(b.Export(ctx, c1Backups, "b"))
	w.ok(imports("c2", data)(w))
	if got := w.read(vol("c2")); got != "mine" {
		t.Errorf("c2 says %q", got)
	}
	if dump := w.dump(); !strings.Contains(dump, "volume instance/c2@s1 says old") || !has(dump, "c2") {
		t.Errorf("got\n%s", dump)
	}
	if got := w.archive(b.Direct(ctx, c1Backups, backups.Request{Only: true})); !slices.Equal(states(t, got), []string{"backup/container"}) {
		t.Errorf("states %v", states(t, got))
	}
	w.ok(w.svc.DeleteSnapshot(ctx, "c1", "s1"))
	if got := states(t, w.archive(b.Export(ctx, c1Backups, "b"))); !slices.Equal(got, []string{"backup/snapshots/s2", "backup/container"}) {
		t.Errorf("states %v", got)
	}
	if _, err := b.Create(ctx, c1Backups, backups.Request{Name: "b"}); !errs.Is(err, errs.Conflict) {
		t.Errorf("got %v", err)
	}
	w.ok(b.Rename(ctx, c1Backups, "b", "b2"))
	w.ok(b.Create(ctx, c1Backups, backups.Request{Expires: time.Now().Add(time.Hour)}))
	all, err := b.List(ctx, c1Backups)
	must(t, err)
	if len(all) != 2 || all[0].Name != "b2" || all[1].Name != "backup0" {
		t.Errorf("got %+v", all)
	}
	must(t, b.Recover(ctx))
	w.boot() // What backups are made of stays.
	b = w.backups()
	w.archive(b.Export(ctx, c1Backups, "b2"))
	must(t, b.Tick(ctx, time.Now().Add(2*time.Hour)))
	w.ok(b.Delete(ctx, c1Backups, "b2"))
	if dump := w.dump(); strings.Contains(dump, ".backup") {
		t.Errorf("left is\n%s", dump)
	}
	w.ok(b.Create(ctx, c1Backups, backups.Request{}))
	w.ok(w.svc.Delete(ctx, "c1"))
	if dump := w.dump(); !gone(dump, "c1") {
		t.Errorf("left is\n%s", dump)
	}
}

// states are the states in an archive, in order.
func states(t *testing.T, data []byte) (names []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		must(t, err)
		if before, ok := strings.CutSuffix(h.Name, "/rootfs/"); ok {
			names = append(names, before)
		}
	}
}

func TestBackupsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("c1", false)
	b := w.backups()
	for want, req := range map[string]backups.Request{
		"name is \"a/b\"":                 {Name: "a/b"},
		"name is \".b\"":                  {Name: ".b"},
		"name is \"a%b\"":                 {Name: "a%b"}, // It would be that of something in the project a.
		"name is \"a\\nb\"":               {Name: "a\nb"},
		"compression algorithm \"zip\"":   {Compression: "zip"},
		"option \"--rm\" is not one that": {Compression: "zstd --rm"},
	} {
		_, err := b.Create(t.Context(), c1Backups, req)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := b.Create(t.Context(), backups.Owner{Instance: "no"}, backups.Request{}); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := b.Export(t.Context(), c1Backups, "no"); !errs.Is(err, errs.NotFound) {
		t.Errorf("got %v", err)
	}
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.backUp()
	data := w.archive(w.backups().Export(t.Context(), c1Backups, "b"))
	before := w.dump()
	for want, up := range map[string]instances.Upload{
		`instance "c1" exists already`:   {Data: bytes.NewReader(data)},
		`storage pool "x" not found`:     {Data: bytes.NewReader(data), Name: "c2", Pool: "x"},
		"cut off":                        {Data: bytes.NewReader(data[:len(data)-1024]), Name: "c2"},
		"not an archive":                 {Data: strings.NewReader("x"), Name: "c2"},
		`"nonsense"`:                     {Data: bytes.NewReader(data), Name: "c2", Config: api.ConfigMap{"nonsense": "x"}},
		`"-c2"`:                          {Data: bytes.NewReader(data), Name: "-c2"},
		`the connection was closed here`: {Data: io.MultiReader(bytes.NewReader(data[:5000]), broken{}), Name: "c2"},
	} {
		_, err := w.svc.Import(t.Context(), up)
		if err == nil || errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if after := w.dump(); after != before {
			t.Errorf("%s: left is\n%s", want, after)
		}
	}
}

// broken is an upload whose client is gone.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the connection was closed here") }

func backupChanges(t *testing.T) map[string]change {
	t.Helper()
	from := newWorld(t)
	from.backUp()
	data := from.archive(from.backups().Export(t.Context(), c1Backups, "b"))
	return map[string]change{
		"back up": {
			prepare: func(w *world) { w.create("c1", true); w.snapshot("s1") },
			act: func(w *world) (ops.Job, error) {
				return w.backups().Create(w.tb.Context(), c1Backups, backups.Request{Name: "b"})
			},
			done: func(_ *world, dump string) bool {
				return strings.Contains(dump, "snapshot .backup") && frozen(dump) == 0
			},
		},
		"delete a backup": {
			prepare: func(w *world) { w.backUp() },
			act:     func(w *world) (ops.Job, error) { return w.backups().Delete(w.tb.Context(), c1Backups, "b") },
			done:    func(_ *world, dump string) bool { return has(dump, "c1") && !strings.Contains(dump, ".backup") },
		},
		"import": {
			prepare: func(*world) {},
			act:     imports("c2", data),
			done: func(_ *world, dump string) bool {
				return has(dump, "c2") && strings.Contains(dump, "volume instance/c2 says mine") && strings.Contains(dump, "volume instance/c2@s2")
			},
		},
		"export at once": {
			prepare: func(w *world) { w.create("c1", false); w.snapshot("s1") },
			act: func(w *world) (ops.Job, error) {
				return job(func() error {
					s, err := w.backups().Direct(w.tb.Context(), c1Backups, backups.Request{})
					if err != nil {
						return err
					}
					defer s.Close()
					return s.Write(w.tb.Context(), io.Discard)
				}), nil
			},
			done: func(_ *world, dump string) bool { return has(dump, "c1") && !strings.Contains(dump, ".backup") },
			// What cannot be deleted is, at the next start.
			onward: func(_ *world, dump string) bool { return has(dump, "c1") },
		},
	}
}

// TestBackupsFailAnywhere fails each step of backups and imports, and ends the
// daemon before each: what is left is what was before.
func TestBackupsFailAnywhere(t *testing.T) {
	t.Parallel()
	for name, c := range backupChanges(t) {
		for how, crash := range map[string]bool{"fails": false, "crashes": true} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					w := newWorld(t)
					c.prepare(w)
					before := w.dump()
					w.Arm(n, crash)
					_, err := w.do(c.act(w))
					if !w.Disarm() {
						must(t, err)
						if after := w.dump(); !c.done(w, after) {
							t.Fatalf("it is not done:\n%s", after)
						}
						return
					}
					if crash {
						w.pool = reopen(w)
						must(t, w.backups().Recover(t.Context()))
						w.boot()
					}
					w.rt.exits.Wait()
					after := w.dump()
					fine := after == before || c.done(w, after) || c.onward != nil && c.onward(w, after) || crash && unwound(before, after)
					if !fine {
						t.Fatalf("call %d: %v, and left is\n%s\nbefore:\n%s", n, err, after, before)
					}
					if crash && (strings.Contains(after, "pending") || strings.Contains(after, ".backup") && !strings.Contains(before, ".backup") && !c.done(w, after)) {
						t.Fatalf("a crash at call %d left something half made:\n%s", n, after)
					}
				}
			})
		}
	}
}
