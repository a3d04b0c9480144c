package pools_test

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

func TestFindAndRegister(t *testing.T) {
	s := newService(t, nil)
	source := filepath.Join(t.TempDir(), "disk")
	ok(t, s.Create(t.Context(), post("p", map[string]string{"source": source, "user.a": "1"})))
	ok(t, s.Create(t.Context(), post("own", nil)))
	d, err := s.Driver(t.Context(), "p")
	ok(t, err)
	v := storage.Volume{Kind: storage.Instance, Name: "c1"}
	ok(t, d.Create(t.Context(), v))
	ok(t, s.Note(t.Context(), "p", []byte("where it is")))
	wantKind(t, s.Note(t.Context(), "none", nil), errs.NotFound, "none")
	setStatus := func(status db.Status) {
		t.Helper()
		ok(t, s.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.SetPoolStatus(ctx, tx, "p", status) }))
	}
	setStatus(db.Pending) // As while it is removed.
	wantKind(t, s.Note(t.Context(), "p", []byte("lost")), errs.NotFound, "p")
	setStatus(db.Ready)

	s = restarted(s)
	s.DB = dbtest.New(t) // It is lost.
	unknown, err := s.Unknown(t.Context())
	ok(t, err)
	if names := slices.Sorted(maps.Keys(unknown)); !slices.Equal(names, []string{"own", "p"}) || string(unknown["p"]) != "where it is" {
		t.Errorf("unknown: %q", unknown)
	}
	_, err = s.Find(t.Context(), api.StoragePoolsPost{Name: "p"})
	wantKind(t, err, errs.NotFound, "data")
	_, err = s.Find(t.Context(), api.StoragePoolsPost{Name: "../p"})
	wantKind(t, err, errs.Invalid, "name")
	for _, req := range []api.StoragePoolsPost{post("p", map[string]string{"source": source}), {Name: "own"}} {
		found, err := s.Find(t.Context(), req)
		ok(t, err)
		if found.Known || found.StoragePoolsPost.Driver != "fake" {
			t.Errorf("found %+v", found)
		}
		ok(t, s.Register(t.Context(), found))
		wantKind(t, s.Register(t.Context(), found), errs.Conflict, req.Name)
		again, err := s.Find(t.Context(), api.StoragePoolsPost{Name: req.Name})
		ok(t, err)
		if !again.Known {
			t.Error("it is not known after it was registered")
		}
	}
	vols, err := d.List(t.Context())
	ok(t, err)
	if !slices.Equal(vols, []storage.Volume{v}) {
		t.Errorf("the pool holds %v", vols)
	}
	if got, err := s.Get(t.Context(), "p"); err != nil || got.Status != "Created" || got.Config["source"] != source {
		t.Errorf("registered: %+v, %v", got, err)
	}
	ok(t, s.Delete(t.Context(), "own"))
}

func TestSourcesApart(t *testing.T) {
	s := newService(t, nil)
	dir := t.TempDir()
	ok(t, s.Create(t.Context(), post("p", map[string]string{"source": filepath.Join(dir, "p")})))
	for _, source := range []string{"p", "p/", "p/volumes", "", "q/../p"} {
		wantKind(t, s.Create(t.Context(), post("q", map[string]string{"source": dir + "/" + source})), errs.Conflict, `"p"`)
	}
	ok(t, s.Create(t.Context(), post("q", map[string]string{"source": filepath.Join(dir, "pp")})))
}

func TestKeys(t *testing.T) {
	s := newService(t, nil)
	for _, tt := range []struct{ key, value, want string }{
		{"volume.size", "1GiB", ""},
		{"volume.size", "big", "volume.size"},
		{"volume.snapshots.schedule", "@daily", ""},
		{"volume.snapshots.schedule", "often", "volume.snapshots.schedule"},
		{"volume.fake.colour", "red", ""},
		{"volume.fake.colour", "green", "use red or blue"},
		{"volume.zfs.blocksize", "16KiB", "zfs.blocksize"},
		{"volume.volatile.x", "1", "no default"},
		{"rsync.bwlimit", "10MiB", ""},
		{"rsync.bwlimit", "fast", "rsync.bwlimit"},
		{"rsync.compression", "false", ""},
		{"rsync.compression", "maybe", "rsync.compression"},
		{"source.wipe", "maybe", "source.wipe"},
		{"source.wipe", "true", ""},
		{"size", "0", "size"},
		{"fake.options", "x", "fake.option"},
		{"user.x", "anything", ""},
	} {
		err := s.Create(t.Context(), post("p", map[string]string{tt.key: tt.value}))
		if tt.want != "" {
			wantKind(t, err, errs.Invalid, tt.want)
			continue
		}
		ok(t, err)
		ok(t, s.Delete(t.Context(), "p"))
	}
}

func TestUpdateKeys(t *testing.T) {
	s := newService(t, nil)
	source := filepath.Join(t.TempDir(), "p")
	ok(t, s.Create(t.Context(), post("p", map[string]string{
		"source": source, "user.a": "1", "volume.size": "1GiB", "fake.option": "x", "rsync.bwlimit": "1MiB",
	})))
	config := func() map[string]string {
		t.Helper()
		p, err := s.Get(t.Context(), "p")
		ok(t, err)
		return p.Config
	}
	if got := config()["volatile.initial_source"]; got != source {
		t.Errorf("the initial source is %q", got)
	}
	whole := config()
	ok(t, s.Update(t.Context(), "p", api.StoragePoolPut{Config: whole}))
	if got := config(); !maps.Equal(got, whole) {
		t.Errorf("the same again is %v, was %v", got, whole)
	}
	ok(t, s.Update(t.Context(), "p", api.StoragePoolPut{Config: map[string]string{"fake.option": "y", "source": source}}))
	want := map[string]string{"source": source, "volatile.initial_source": source, "fake.option": "y"}
	if got := config(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	ok(t, s.Update(t.Context(), "p", api.StoragePoolPut{Config: map[string]string{"fake.option": ""}}))
	if got := config(); got["fake.option"] != "" {
		t.Errorf("got %v", got)
	}
	for key, value := range map[string]string{"source": "", "source.wipe": "true", "volatile.initial_source": "/x"} {
		wantKind(t, s.Update(t.Context(), "p", api.StoragePoolPut{Config: map[string]string{key: value}}), errs.Invalid, key)
	}
}
