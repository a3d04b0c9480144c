package pools_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/pools"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/btrfs"
	"github.com/cuib/cuib/storage/fake"
)

// newService returns a service with the driver "fake", whose methods call
// *fail if it is not nil.
func newService(t *testing.T, fail *func(string) error) *pools.Service {
	t.Helper()
	call := func(method string) error {
		if fail == nil || *fail == nil {
			return nil
		}
		return (*fail)(method)
	}
	return &pools.Service{
		DB:     dbtest.New(t),
		Dir:    t.TempDir(),
		Types:  map[string]storage.Type{"fake": fake.Type(call)},
		Events: &events.Hub{},
		Log:    slog.New(slog.DiscardHandler),
	}
}

func post(name string, config map[string]string) api.StoragePoolsPost {
	return api.StoragePoolsPost{Name: name, Driver: "fake", StoragePoolPut: api.StoragePoolPut{Config: config}}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t *testing.T, err error, kind errs.Kind, text string) {
	t.Helper()
	if !errs.Is(err, kind) || !strings.Contains(err.Error(), text) {
		t.Fatalf("got error %v, want one of kind %d with %q", err, kind, text)
	}
}

func do(t *testing.T, s *pools.Service, fn func(ctx context.Context, tx *db.Tx) error) {
	t.Helper()
	ok(t, s.DB.Do(t.Context(), fn))
}

// wantNothing checks that neither the database nor the disk has a pool.
func wantNothing(t *testing.T, s *pools.Service) {
	t.Helper()
	all, err := s.List(t.Context())
	ok(t, err)
	if len(all) > 0 {
		t.Errorf("the database holds %v", all)
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, "pools"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("the disk holds %v", entries)
	}
}

func TestCreateAndDelete(t *testing.T) {
	s := newService(t, nil)
	ok(t, s.Create(t.Context(), post("p", map[string]string{"user.a": "1", "fake.option": "x"})))
	wantKind(t, s.Create(t.Context(), post("p", nil)), errs.Conflict, `"p"`)

	got, err := s.Get(t.Context(), "p")
	ok(t, err)
	if got.Status != "Created" || got.Driver != "fake" || got.Config["user.a"] != "1" || len(got.UsedBy) != 0 {
		t.Errorf("got %+v", got)
	}
	room, err := s.Resources(t.Context(), "p")
	ok(t, err)
	if room.Space.Total == 0 {
		t.Errorf("the pool has no room: %+v", room)
	}
	ok(t, s.Delete(t.Context(), "p"))
	wantNothing(t, s)
	wantKind(t, s.Delete(t.Context(), "p"), errs.NotFound, `"p"`)
	_, err = s.Driver(t.Context(), "p")
	wantKind(t, err, errs.NotFound, `"p"`)
}

func TestCreateRefuses(t *testing.T) {
	s := newService(t, nil)
	full := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(full, "data"), nil, 0o600))
	for name, tt := range map[string]struct {
		req  api.StoragePoolsPost
		text string
	}{
		"a bad name":          {post("a/b", nil), "name"},
		"no name":             {post("", nil), "name"},
		"an unknown driver":   {api.StoragePoolsPost{Name: "p", Driver: "zfs"}, "fake"},
		"no driver":           {api.StoragePoolsPost{Name: "p"}, "fake"},
		"an unknown key":      {post("p", map[string]string{"colour": "red"}), "colour"},
		"a bad size":          {post("p", map[string]string{"size": "big"}), "size"},
		"a source with data":  {post("p", map[string]string{"source": full}), "data"},
		"a relative source":   {post("p", map[string]string{"source": "here"}), "absolute"},
		"a source not a file": {post("p", map[string]string{"source": filepath.Join(full, "data")}), "directory"},
	} {
		t.Run(name, func(t *testing.T) {
			wantKind(t, s.Create(t.Context(), tt.req), errs.Invalid, tt.text)
			wantNothing(t, s)
		})
	}
	if _, err := os.Stat(filepath.Join(full, "data")); err != nil {
		t.Error(err)
	}
}

func TestUpdate(t *testing.T) {
	s := newService(t, nil)
	source := filepath.Join(t.TempDir(), "p")
	ok(t, s.Create(t.Context(), post("p", map[string]string{"source": source, "user.a": "1"})))
	update := func(config map[string]string) error {
		return s.Update(t.Context(), "p", api.StoragePoolPut{Description: "d", Config: config})
	}
	ok(t, update(map[string]string{"user.b": "2"}))
	got, err := s.Get(t.Context(), "p")
	ok(t, err)
	if got.Description != "d" || got.Config["user.b"] != "2" || got.Config["user.a"] != "" || got.Config["source"] != source {
		t.Errorf("got %+v", got)
	}
	wantKind(t, update(map[string]string{"source": "/elsewhere"}), errs.Invalid, "source")
	wantKind(t, update(map[string]string{"colour": "red"}), errs.Invalid, "colour")
	wantKind(t, update(map[string]string{"size": "1GiB"}), errs.Invalid, "size")
	wantKind(t, s.Update(t.Context(), "q", api.StoragePoolPut{}), errs.NotFound, `"q"`)
}

// TestSourceIsShown has a pool that was given no source: users see one, and may
// send it back.
func TestSourceIsShown(t *testing.T) {
	s := newService(t, nil)
	ok(t, s.Create(t.Context(), post("p", map[string]string{"user.a": "1"})))
	place := filepath.Join(s.Dir, "pools", "p")
	for _, want := range []string{place, filepath.Join(place, "fake.img")} {
		if want != place {
			ok(t, os.WriteFile(want, nil, 0o600))
		}
		got, err := s.Get(t.Context(), "p")
		ok(t, err)
		if all, err := s.List(t.Context()); err != nil || got.Config["source"] != want || all[0].Config["source"] != want {
			t.Errorf("got %v, in the list %v, %v; want the source %s", got.Config, all, err, want)
		}
		got.Config["user.a"] = "2"
		ok(t, s.Update(t.Context(), "p", got.StoragePoolPut))
		do(t, s, func(ctx context.Context, tx *db.Tx) error {
			p, err := db.GetPool(ctx, tx, "p")
			if p.Config["source"] != "" || p.Config["user.a"] != "2" {
				t.Errorf("kept %v", p.Config)
			}
			return err
		})
	}
	wantKind(t, s.Update(t.Context(), "p", api.StoragePoolPut{Config: map[string]string{"source": "/elsewhere"}}), errs.Invalid, "source")
	ok(t, s.Create(t.Context(), post("q", map[string]string{"source": filepath.Join(s.Dir, "pools", "q", "fake.img")})))
	got, err := s.Get(t.Context(), "q")
	if ok(t, err); got.Config["source"] != filepath.Join(s.Dir, "pools", "q") || got.Config["volatile.initial_source"] != "" {
		t.Errorf("a pool like one without a source: %v", got.Config)
	}
}

// use puts an instance, an image and a profile into the pool.
func use(t *testing.T, s *pools.Service) {
	t.Helper()
	d, err := s.Driver(t.Context(), "p")
	ok(t, err)
	ok(t, d.Create(t.Context(), storage.Volume{Kind: storage.Image, Name: "f"}))
	do(t, s, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetPool(ctx, tx, "p")
		if err != nil {
			return err
		}
		if err := db.AddImageVolume(ctx, tx, db.ImageVolume{Fingerprint: "f", PoolID: p.ID, Status: db.Ready}); err != nil {
			return err
		}
		for _, in := range []string{"default", "q"} {
			if err := db.AddImage(ctx, tx, &db.Image{Project: in, Fingerprint: "f", Status: db.Ready}); err != nil {
				return err
			}
		}
		return db.AddInstance(ctx, tx, &db.Instance{Name: "c1", Status: db.Ready, PoolID: p.ID})
	})
	do(t, s, func(ctx context.Context, tx *db.Tx) error {
		root := map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "p"}}
		return db.AddProfile(ctx, tx, &db.Profile{Name: "small", Devices: root})
	})
}

// unuse takes the instance and the profile away.
func unuse(t *testing.T, s *pools.Service) {
	t.Helper()
	do(t, s, func(ctx context.Context, tx *db.Tx) error {
		return errors.Join(db.DeleteInstance(ctx, tx, "c1"), db.DeleteProfile(ctx, tx, "small"))
	})
}

func TestUsed(t *testing.T) {
	s := newService(t, nil)
	ok(t, s.Create(t.Context(), post("p", nil)))
	ok(t, s.Create(t.Context(), post("q", nil)))
	use(t, s)
	got, err := s.Get(t.Context(), "p")
	ok(t, err)
	if want := []string{"/1.0/instances/c1", "/1.0/images/f", "/1.0/images/q%25f", "/1.0/profiles/small"}; !slices.Equal(got.UsedBy, want) {
		t.Errorf("used by %v, want %v", got.UsedBy, want)
	}
	vols, err := s.Volumes(t.Context(), "p")
	ok(t, err)
	if len(vols) != 2 || vols[0].Name != "c1" || vols[0].Type != "container" || vols[1].Type != "image" {
		t.Errorf("volumes: %+v", vols)
	}
	_, err = s.Volume(t.Context(), "p", "image", "f")
	ok(t, err)
	_, err = s.Volume(t.Context(), "q", "image", "f")
	wantKind(t, err, errs.NotFound, `"f"`)

	wantKind(t, s.Delete(t.Context(), "p"), errs.Conflict, "instances/c1, profiles/small")
	do(t, s, func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "c1") })
	wantKind(t, s.Delete(t.Context(), "p"), errs.Conflict, "profiles/small")
	do(t, s, func(ctx context.Context, tx *db.Tx) error { return db.DeleteProfile(ctx, tx, "small") })
	ok(t, s.Delete(t.Context(), "p"))
	ok(t, s.Delete(t.Context(), "q"))
	wantNothing(t, s)
}

func TestCreateFailsAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		var fail func(string) error
		s := newService(t, &fail)
		fail = fake.FailNth(n)
		err := s.Create(t.Context(), post("p", nil))
		fail = nil
		if err == nil {
			if n < 4 {
				t.Errorf("only %d steps could fail", n-1)
			}
			return
		}
		if !errors.Is(err, fake.ErrInjected) {
			t.Fatalf("step %d: got %v", n, err)
		}
		wantNothing(t, s)
		ok(t, s.Create(t.Context(), post("p", nil)))
	}
}

func TestDeleteFailsAnywhere(t *testing.T) {
	for n := 1; ; n++ {
		var fail func(string) error
		s := newService(t, &fail)
		ok(t, s.Create(t.Context(), post("p", nil)))
		use(t, s)
		unuse(t, s)
		ok(t, s.Note(t.Context(), "p", []byte("where it is")))
		fail = fake.FailNth(n)
		err := s.Delete(t.Context(), "p")
		fail = nil
		if err == nil {
			wantNothing(t, s)
			if n < 4 {
				t.Errorf("only %d steps could fail", n-1)
			}
			return
		}
		if !errors.Is(err, fake.ErrInjected) {
			t.Fatalf("step %d: got %v", n, err)
		}
		got, err := s.Get(t.Context(), "p")
		ok(t, err)
		if got.Status != "Created" {
			t.Errorf("step %d: the pool is %s", n, got.Status)
		}
		if _, err := os.Stat(filepath.Join(s.Dir, "pools/p/pool.yaml")); err != nil {
			t.Errorf("step %d: %v", n, err)
		}
		ok(t, s.Delete(t.Context(), "p"))
		wantNothing(t, s)
	}
}

// restarted returns the service as after a restart of the daemon.
func restarted(s *pools.Service) *pools.Service {
	return &pools.Service{DB: s.DB, Dir: s.Dir, Types: s.Types, Events: s.Events, Log: s.Log}
}

func TestRecoverUnmakesHalfMade(t *testing.T) {
	s := newService(t, nil)
	ok(t, s.Create(t.Context(), post("made", nil)))
	ok(t, s.Create(t.Context(), post("keep", nil)))
	do(t, s, func(ctx context.Context, tx *db.Tx) error {
		if err := db.AddPool(ctx, tx, &db.Pool{Name: "begun", Driver: "fake", Status: db.Pending}); err != nil {
			return err
		}
		return db.SetPoolStatus(ctx, tx, "made", db.Pending)
	})
	s = restarted(s)
	ok(t, s.Recover(t.Context()))
	all, err := s.List(t.Context())
	ok(t, err)
	if len(all) != 1 || all[0].Name != "keep" || all[0].Status != "Created" {
		t.Errorf("after recovery: %+v", all)
	}
	ok(t, s.Delete(t.Context(), "keep"))
	wantNothing(t, s)
}

func TestRecoverLeavesOthersData(t *testing.T) {
	s := newService(t, nil)
	source := t.TempDir()
	ok(t, os.MkdirAll(filepath.Join(source, "trash", "treasure"), 0o700))
	do(t, s, func(ctx context.Context, tx *db.Tx) error {
		return db.AddPool(ctx, tx, &db.Pool{Name: "p", Driver: "fake", Status: db.Pending, Config: map[string]string{"source": source}})
	})
	ok(t, s.Recover(t.Context()))
	wantNothing(t, s)
	if _, err := os.Stat(filepath.Join(source, "trash", "treasure")); err != nil {
		t.Errorf("a pool that was never made took others' files away: %v", err)
	}
}

func TestMissingSource(t *testing.T) {
	s := newService(t, nil)
	source := filepath.Join(t.TempDir(), "disk")
	ok(t, s.Create(t.Context(), post("p", map[string]string{"source": source})))
	ok(t, os.Rename(source, source+".away"))

	s = restarted(s)
	ok(t, s.Recover(t.Context()))
	got, err := s.Get(t.Context(), "p")
	ok(t, err)
	if got.Status != "Unavailable" {
		t.Errorf("without its disk the pool is %s", got.Status)
	}
	_, err = s.Driver(t.Context(), "p")
	wantKind(t, err, errs.Unavailable, source)

	ok(t, os.Rename(source+".away", source))
	_, err = s.Driver(t.Context(), "p")
	ok(t, err)
	if got, err := s.Get(t.Context(), "p"); err != nil || got.Status != "Created" {
		t.Errorf("with its disk the pool is %s, %v", got.Status, err)
	}
}

// TestPoolOnFileGrows does with a real driver what the fake cannot.
func TestPoolOnFileGrows(t *testing.T) {
	testenv.Kernel(t, "mkfs.btrfs")
	s := newService(t, nil)
	s.Types["btrfs"] = btrfs.Type()
	ok(t, s.Create(t.Context(), api.StoragePoolsPost{
		Name: "p", Driver: "btrfs", StoragePoolPut: api.StoragePoolPut{Config: map[string]string{"size": "300MiB"}},
	}))
	t.Cleanup(func() { ok(t, mounts.Unmount(filepath.Join(s.Dir, "pools", "p", "data"))) })
	update := func(size string) error {
		return s.Update(t.Context(), "p", api.StoragePoolPut{Config: map[string]string{"size": size}})
	}
	wantKind(t, update("100MiB"), errs.Invalid, "smaller")
	ok(t, update("400MiB"))
	room, err := s.Resources(t.Context(), "p")
	ok(t, err)
	if room.Space.Total != 400<<20 {
		t.Errorf("after growth: %+v", room)
	}
	ok(t, restarted(s).Recover(t.Context()))
	ok(t, s.Delete(t.Context(), "p"))
	wantNothing(t, s)
}
