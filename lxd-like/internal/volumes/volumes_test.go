package volumes_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/lxd-like/internal/volumes"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

func custom(name string) storage.Volume { return storage.Volume{Kind: storage.Custom, Name: name} }

func TestCreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.db.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return db.UpdatePool(ctx, tx, db.Pool{Name: "q", Config: map[string]string{
			"volume.size": "3MiB", "volume.fake.colour": "red", "volume.snapshots.expiry": "3d", "volume.nonsense": "x",
		}})
	}))
	req := post("v", api.ConfigMap{"initial.mode": "1770", "fake.colour": "blue", "user.a": "b", "user.empty": "", "volatile.x": "y"})
	req.Description = "mine"
	must(t, w.svc.Create(t.Context(), "q", req))
	got, err := w.svc.Get(t.Context(), "q", "custom", "v")
	must(t, err)
	want := api.ConfigMap{"initial.mode": "1770", "fake.colour": "blue", "user.a": "b", "size": "3MiB", "snapshots.expiry": "3d"}
	if !maps.Equal(got.Config, want) || got.Description != "mine" || got.ContentType != "filesystem" || got.Type != "custom" || got.Pool != "q" {
		t.Errorf("got %+v", got)
	}
	w.inside("q", custom("v"), func(dir string) {
		info, err := os.Stat(dir)
		must(t, err)
		if info.Mode() != os.ModeDir|os.ModeSticky|0o770 {
			t.Errorf("mode %s", info.Mode())
		}
	})
	if size := w.pools["q"].Limited(custom("v")); size != 3<<20 {
		t.Errorf("size %d", size)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("v")
	for name, tt := range map[string]struct {
		pool string
		req  func(*api.StorageVolumesPost)
		kind errs.Kind
		text string
	}{
		"no pool":     {"x", func(*api.StorageVolumesPost) {}, errs.NotFound, `storage pool "x" not found`},
		"taken":       {"p", func(r *api.StorageVolumesPost) { r.Name = "v" }, errs.Conflict, `volume "v" in storage pool "p" exists already`},
		"no name":     {"p", func(r *api.StorageVolumesPost) { r.Name = "" }, errs.Invalid, "volume name: it is empty"},
		"bad name":    {"p", func(r *api.StorageVolumesPost) { r.Name = "../w" }, errs.Invalid, `volume name: got "../w"`},
		"type":        {"p", func(r *api.StorageVolumesPost) { r.Type = "container" }, errs.Invalid, `type: got "container", want custom`},
		"block":       {"p", func(r *api.StorageVolumesPost) { r.ContentType = "block" }, errs.Invalid, `content_type: got "block", want filesystem or iso`},
		"empty disc":  {"p", func(r *api.StorageVolumesPost) { r.ContentType = "iso" }, errs.Invalid, "made of a file that is uploaded"},
		"unknown key": {"p", func(r *api.StorageVolumesPost) { r.Config = api.ConfigMap{"sizes": "1"} }, errs.Invalid, `did you mean "size"?`},
		"bad value":   {"p", func(r *api.StorageVolumesPost) { r.Config = api.ConfigMap{"size": "big"} }, errs.Invalid, `size: got "big"`},
		"driver's":    {"p", func(r *api.StorageVolumesPost) { r.Config = api.ConfigMap{"fake.colour": "green"} }, errs.Invalid, "use red or blue"},
		"shifted twice": {
			"p", func(r *api.StorageVolumesPost) {
				r.Config = api.ConfigMap{"security.shifted": "true", "security.unmapped": "true"}
			}, errs.Invalid, "security.unmapped: it cannot be true while security.shifted is",
		},
		"bad schedule":  {"p", func(r *api.StorageVolumesPost) { r.Config = api.ConfigMap{"snapshots.schedule": "often"} }, errs.Invalid, "snapshots.schedule: got"},
		"other drivers": {"p", func(r *api.StorageVolumesPost) { r.Config = api.ConfigMap{"zfs.blocksize": "8KiB"} }, errs.Invalid, "zfs.blocksize"},
	} {
		req := post("w", nil)
		tt.req(&req)
		err := w.svc.Create(t.Context(), tt.pool, req)
		if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.svc.Create(t.Context(), "p", post("v", api.ConfigMap{"size": "1MiB", "initial.uid": "0"})))
	w.inside("p", custom("v"), func(dir string) {
		must(t, os.WriteFile(filepath.Join(dir, "f"), make([]byte, 200<<10), 0o600))
	})
	update := func(config api.ConfigMap) error {
		return w.svc.Update(t.Context(), ref("p", "v"), api.StorageVolumePut{Config: config})
	}
	wantKind(t, update(api.ConfigMap{"size": "100KiB", "initial.uid": "0"}), errs.Invalid, "holds 204KiB already")
	wantKind(t, update(api.ConfigMap{"size": "1MiB", "initial.uid": "5"}), errs.Invalid, "cannot be changed")
	must(t, update(api.ConfigMap{"size": "500KiB", "initial.uid": "0"}))
	must(t, update(api.ConfigMap{"initial.uid": "0"}))
	if size := w.pools["p"].Limited(custom("v")); size != 0 {
		t.Errorf("the limit is %d", size)
	}
	state, err := w.svc.State(t.Context(), "p", "custom", "v")
	must(t, err)
	if state.Usage.Used < 200<<10 || state.Usage.Total != 0 {
		t.Errorf("state %+v", state.Usage)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("v")
	w.snapshot("s1")
	must(t, w.svc.Create(t.Context(), "q", post("w", nil)))
	w.addInstance("c1", "v/s1")
	names := func(pool, typ string) string {
		all, err := w.svc.List(t.Context(), pool, typ)
		must(t, err)
		var out []string
		for _, v := range all {
			out = append(out, v.Pool+":"+v.Type+":"+v.Name+":"+strings.Join(v.UsedBy, ","))
		}
		return strings.Join(out, " ")
	}
	const v, snap, in = "p:custom:v:", "p:custom:v/s1:/1.0/instances/c1", "p:container:c1:/1.0/instances/c1"
	for _, tt := range []struct{ pool, typ, want string }{
		{"", "", strings.Join([]string{in, v, snap, "q:custom:w:"}, " ")},
		{"p", "", strings.Join([]string{in, v, snap}, " ")},
		{"", "custom", strings.Join([]string{v, snap, "q:custom:w:"}, " ")},
		{"q", "container", ""},
		{"p", "virtual-machine", ""},
	} {
		if got := names(tt.pool, tt.typ); got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
	full, err := w.svc.ListFull(t.Context(), "p", "custom")
	must(t, err)
	if len(full) != 1 || len(full[0].Snapshots) != 1 || full[0].State == nil {
		t.Errorf("full: %+v", full)
	}
	one, err := w.svc.GetFull(t.Context(), "p", "custom", "v/s1")
	must(t, err)
	if one.Name != "v/s1" || len(one.Snapshots) != 0 || one.State == nil {
		t.Errorf("a snapshot as a volume: %+v", one)
	}
	_, err = w.svc.Get(t.Context(), "p", "custom", "v/s2")
	wantKind(t, err, errs.NotFound, "v/s2")
	taken := time.Unix(1700000000, 0).UTC()
	must(t, w.db.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return db.AddSnapshot(ctx, tx, &db.Snapshot{Instance: "c1", Name: "s", Status: db.Ready, Created: taken, Description: "d"})
	}))
	got, err := w.svc.Get(t.Context(), "p", "container", "c1/s")
	if must(t, err); !got.CreatedAt.Equal(taken) || got.Description != "d" {
		t.Errorf("a snapshot of an instance as a volume: %+v", got)
	}
	_, err = w.svc.List(t.Context(), "x", "")
	wantKind(t, err, errs.NotFound, "storage pool")
	_, err = w.svc.List(t.Context(), "", "block")
	wantKind(t, err, errs.Invalid, "volume type")
}

func TestAttach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	filled(w)
	ctx := t.Context()
	dir, err := w.svc.Attach(ctx, "p", "v", "c1", "data")
	must(t, err)
	again, err := w.svc.Attach(ctx, "p", "v", "c2", "data")
	must(t, err)
	if dir != again || len(w.mounted()) != 1 {
		t.Errorf("%s and %s, mounted %v", dir, again, w.mounted())
	}
	_, err = w.svc.Attach(ctx, "p", "v/s1", "c2", "old")
	must(t, err)
	_, err = w.svc.Attach(ctx, "p", "w", "c1", "data")
	wantKind(t, err, errs.NotFound, `volume "w" not found`)
	_, err = w.svc.Attach(ctx, "p", "v/s9", "c1", "data")
	wantKind(t, err, errs.NotFound, `snapshot "s9"`)

	// What would pull it away is refused, by name.
	const busy = "in use by c1, c2"
	wantKind(t, w.svc.Update(ctx, ref("p", "v"), api.StorageVolumePut{Restore: "s1"}), errs.Conflict, busy)
	wantKind(t, w.svc.Rename(ctx, ref("p", "v"), "w"), errs.Conflict, busy)
	wantKind(t, w.svc.Delete(ctx, ref("p", "v")), errs.Conflict, busy)
	wantKind(t, w.run(w.svc.Move(ctx, ref("p", "v"), api.StorageVolumePost{Pool: "q"})), errs.Conflict, busy)
	wantKind(t, w.run(w.svc.DeleteSnapshot(ctx, ref("p", "v"), "s1")), errs.Conflict, "in use by c2")

	// Those who write to it are frozen, and nobody else.
	w.snapshot("s3")
	if !slices.Equal(w.instances.frozen, []string{"c1", "c2"}) {
		t.Errorf("frozen: %v", w.instances.frozen)
	}

	must(t, w.svc.Detach(ctx, "p", "v", "c1", "data"))
	must(t, w.svc.Detach(ctx, "p", "v", "c1", "data"))
	if len(w.mounted()) != 2 {
		t.Errorf("unmounted while it is in use: %v", w.mounted())
	}
	must(t, w.svc.Detach(ctx, "p", "v", "c2", "data"))
	must(t, w.svc.Detach(ctx, "p", "v/s1", "c2", "old"))
	if len(w.mounted()) != 0 {
		t.Errorf("left mounted: %v", w.mounted())
	}
	must(t, w.svc.Delete(ctx, ref("p", "v")))
}

// TestRestart finds again what running instances use, and unmounts the rest.
func TestRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("v")
	w.create("w")
	for _, name := range []string{"v", "w"} {
		_, err := w.svc.Attach(t.Context(), "p", name, "c1", name)
		must(t, err)
	}
	old := w.svc
	w.svc = &volumes.Service{DB: old.DB, Dir: old.Dir, Pools: w, Instances: w.instances, Types: old.Types, Events: old.Events, Log: old.Log}
	must(t, w.svc.Recover(t.Context()))
	_, err := w.svc.Attach(t.Context(), "p", "v", "c1", "v")
	must(t, err)
	must(t, w.svc.Settle(t.Context()))
	if m := w.mounted(); len(m) != 1 || m[0] != custom("v") {
		t.Errorf("mounted: %v", m)
	}
}

func TestUsedBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("v")
	w.snapshot("s1")
	w.addInstance("c1", "v/s1")
	must(t, w.db.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return db.AddProfile(ctx, tx, &db.Profile{Name: "web", Devices: map[string]map[string]string{
			"data": {"type": "disk", "pool": "p", "source": "v", "path": "/srv"},
		}})
	}))
	wantKind(t, w.svc.Delete(t.Context(), ref("p", "v")), errs.Conflict, "in use by instances/c1, profiles/web: detach it first")
	wantKind(t, w.run(w.svc.DeleteSnapshot(t.Context(), ref("p", "v"), "s1")), errs.Conflict, "instances/c1")
	must(t, w.svc.Rename(t.Context(), ref("p", "v"), "w"))
	must(t, w.run(w.svc.Move(t.Context(), ref("p", "w"), api.StorageVolumePost{Name: "u", Pool: "q"})))
	v, err := w.svc.Get(t.Context(), "q", "custom", "u")
	must(t, err)
	if !slices.Equal(v.UsedBy, []string{"/1.0/profiles/web"}) {
		t.Errorf("used by %v", v.UsedBy)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("v")
	fs, err := w.svc.Files(t.Context(), ref("p", "v"))
	must(t, err)
	if err := fs.Write("/f", strings.NewReader("text"), guestfs.File{UID: -1, GID: -1, Mode: -1}); err != nil {
		t.Error(err)
	}
	done := make(chan error)
	go func() { done <- w.svc.Delete(t.Context(), ref("p", "v")) }()
	fs.Close() // Who deletes it waits for that.
	must(t, <-done)
	if len(w.mounted()) != 0 {
		t.Errorf("left mounted: %v", w.mounted())
	}
}

func TestDisc(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.run(w.svc.ImportISO(t.Context(), "p", "disc", strings.NewReader("no disc"))))
	v, err := w.svc.Get(t.Context(), "p", "custom", "disc")
	must(t, err)
	if v.ContentType != "iso" {
		t.Errorf("got %+v", v)
	}
	_, err = w.svc.Attach(t.Context(), "p", "disc", "c1", "cd")
	wantKind(t, err, errs.Invalid, "no ISO 9660 or UDF image")
	if len(w.mounted()) != 0 {
		t.Errorf("left mounted: %v", w.mounted())
	}
	_, err = w.svc.Files(t.Context(), ref("p", "disc"))
	wantKind(t, err, errs.Invalid, "it has no files")
	wantKind(t, w.svc.Update(t.Context(), ref("p", "disc"), api.StorageVolumePut{Config: api.ConfigMap{"size": "1MiB"}}), errs.Invalid, "as large as its file")
}

func TestBusy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	filled(w)
	err := w.svc.Stilled(t.Context(), "p", "v", func(ctx context.Context, dir string) error {
		data, err := os.ReadFile(filepath.Join(dir, "word"))
		if string(data) != "now" {
			t.Errorf("read %q", data)
		}
		snaps, serr := w.svc.Snapshots(ctx, "p", "custom", "v")
		if serr != nil || len(snaps) != 2 {
			t.Errorf("snapshots while it is read: %+v, %v", snaps, serr)
		}
		short, cancel := context.WithCancel(ctx)
		cancel()
		if err := w.svc.Rename(short, ref("p", "v"), "w"); !errs.Is(err, errs.Canceled) {
			t.Errorf("rename while it is read: %v", err)
		}
		return err
	})
	must(t, err)
	if dump := w.dump(); strings.Contains(dump, "still") {
		t.Errorf("left behind:\n%s", dump)
	}
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.svc.Create(t.Context(), "p", post("v", api.ConfigMap{"snapshots.expiry": "1d", "snapshots.expiry.manual": "2d", "snapshots.pattern": "x%d"})))
	job := func() error {
		return w.run(w.svc.CreateSnapshot(t.Context(), ref("p", "v"), api.StorageVolumeSnapshotsPost{}))
	}
	must(t, job())
	must(t, job())
	at := volumes.Place{Pool: "p", Type: "custom", Volume: "v", Snapshot: "x1"}
	snap, err := w.svc.Snapshot(t.Context(), at)
	must(t, err)
	if snap.ExpiresAt == nil || time.Until(*snap.ExpiresAt) < 47*time.Hour {
		t.Errorf("expires %v", snap.ExpiresAt)
	}
	must(t, w.svc.UpdateSnapshot(t.Context(), ref("p", "v"), "x1", api.StorageVolumeSnapshotPut{Description: "d"}))
	snap, err = w.svc.Snapshot(t.Context(), at)
	must(t, err)
	if snap.ExpiresAt != nil || snap.Description != "d" || snap.Config["snapshots.pattern"] != "x%d" {
		t.Errorf("got %+v", snap)
	}
	for name, fn := range map[string]func() error{
		"taken": func() error {
			return w.run(w.svc.CreateSnapshot(t.Context(), ref("p", "v"), api.StorageVolumeSnapshotsPost{Name: "x0"}))
		},
		"rename to taken": func() error {
			return w.run(w.svc.RenameSnapshot(t.Context(), ref("p", "v"), "x0", api.StorageVolumeSnapshotPost{Name: "x1"}))
		},
	} {
		if err := fn(); !errs.Is(err, errs.Conflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = w.run(w.svc.CreateSnapshot(t.Context(), ref("p", "v"), api.StorageVolumeSnapshotsPost{Name: ".x"}))
	wantKind(t, err, errs.Invalid, `snapshot name: got ".x"`)
	must(t, w.svc.Tick(t.Context(), time.Now().Add(72*time.Hour)))
	snaps, err := w.svc.Snapshots(t.Context(), "p", "custom", "v")
	must(t, err)
	if len(snaps) != 1 || snaps[0].Name != "x1" {
		t.Errorf("after the expiry of one: %+v", snaps)
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.svc.Create(t.Context(), "p", post("v", api.ConfigMap{"snapshots.schedule": "@hourly", "snapshots.expiry": "3d"})))
	now := time.Now()
	now = time.Date(now.Year(), now.Month(), now.Day(), now.Hour(), 30, 0, 0, time.Local) // Not in the minute that the schedule names.
	for i := range 4 {                                                                    // The first tick says since when it is there.
		must(t, w.svc.Tick(t.Context(), now.Add(time.Duration(i)*time.Hour)))
		must(t, w.svc.Tick(t.Context(), now.Add(time.Duration(i)*time.Hour+time.Second)))
	}
	snaps, err := w.svc.Snapshots(t.Context(), "p", "custom", "v")
	must(t, err)
	if len(snaps) != 3 || snaps[2].Name != "snap2" || snaps[0].ExpiresAt == nil {
		t.Errorf("got %+v", snaps)
	}
}

func TestCopyBetweenDrivers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	filled(w)
	req := copyPost("w", false)
	req.Source.Name = "v/s1"
	req.Config = api.ConfigMap{"user.a": "b"}
	must(t, w.run(w.svc.Copy(t.Context(), "q", req)))
	if got := w.read("q", custom("w")); got != "v" {
		t.Errorf("a copy of a snapshot says %q", got)
	}
	if snaps, err := w.svc.Snapshots(t.Context(), "q", "custom", "w"); err != nil || len(snaps) != 0 {
		t.Errorf("and has snapshots %v, %v", snaps, err)
	}
	req = copyPost("x", false)
	req.Source.VolumeOnly = true
	must(t, w.run(w.svc.Copy(t.Context(), "p", req)))
	if snaps, err := w.svc.Snapshots(t.Context(), "p", "custom", "x"); err != nil || len(snaps) != 0 {
		t.Errorf("a copy of the volume only has snapshots %v, %v", snaps, err)
	}
	for name, tt := range map[string]struct {
		change func(*api.StorageVolumesPost)
		kind   errs.Kind
		text   string
	}{
		"no source":     {func(r *api.StorageVolumesPost) { r.Source.Name = "none" }, errs.NotFound, `volume "none" not found`},
		"itself":        {func(r *api.StorageVolumesPost) { r.Name = "v" }, errs.Conflict, "exists already"},
		"from itself":   {func(r *api.StorageVolumesPost) { r.Name, r.Source.Refresh = "v", true }, errs.Invalid, "from itself"},
		"other project": {func(r *api.StorageVolumesPost) { r.Source.Name = "x%v" }, errs.NotFound, `"x%v" not found`},
		"migration":     {func(r *api.StorageVolumesPost) { r.Source.Type = "migration" }, errs.Unsupported, "within this server"},
	} {
		req := copyPost("y", false)
		tt.change(&req)
		err := w.run(w.svc.Copy(t.Context(), "p", req))
		if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestForeignKeys makes a volume of what a server with other drivers had.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	doc := api.Document{Volume: &api.StorageVolume{Name: "v", Type: "custom", ContentType: "filesystem", Pool: "p"}}
	doc.Volume.Config = api.ConfigMap{"block.filesystem": "ext4", "zfs.use_refquota": "true", "volatile.uuid": "x", "fake.colour": "red", "user.a": "b"}
	must(t, w.svc.Reinstate(t.Context(), volumes.Reinstatement{Document: doc, Fill: refill}, nil))
	v, err := w.svc.Get(t.Context(), "p", "custom", "v")
	must(t, err)
	if !maps.Equal(v.Config, api.ConfigMap{"fake.colour": "red", "user.a": "b"}) {
		t.Errorf("got %v", v.Config)
	}
}

// TestCopyWithoutLimit copies a volume with a size to where none can be set.
func TestCopyWithoutLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	must(t, w.svc.Create(t.Context(), "p", post("v", api.ConfigMap{"size": "1MiB"})))
	w.pools["q"].Fail = func(method string) error {
		if method == "Limit" {
			return errs.Newf(errs.Unsupported, "no quotas here")
		}
		return nil
	}
	wantKind(t, w.svc.Create(t.Context(), "q", post("x", api.ConfigMap{"size": "1MiB"})), errs.Unsupported, "size: no quotas here")
	must(t, w.run(w.svc.Copy(t.Context(), "q", copyPost("w", false))))
	v, err := w.svc.Get(t.Context(), "q", "custom", "w")
	must(t, err)
	if v.Config["size"] != "" {
		t.Errorf("it has the size %s", v.Config["size"])
	}
	req := copyPost("y", false)
	req.Config = api.ConfigMap{"size": "2MiB"}
	wantKind(t, w.run(w.svc.Copy(t.Context(), "q", req)), errs.Unsupported, "size: no quotas here")
}

func TestRefreshExcludeOlder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	filled(w)
	must(t, w.run(w.svc.Copy(t.Context(), "q", copyPost("w", false))))
	must(t, w.run(w.svc.DeleteSnapshot(t.Context(), ref("q", "w"), "s1")))
	w.write("v", "newest")
	w.snapshot("s3")
	req := copyPost("w", true)
	req.Source.RefreshExcludeOlder = true
	must(t, w.run(w.svc.Copy(t.Context(), "q", req)))
	snaps, err := w.svc.Snapshots(t.Context(), "q", "custom", "w")
	must(t, err)
	if len(snaps) != 2 || snaps[0].Name != "s2" || snaps[1].Name != "s3" || w.read("q", custom("w")) != "newest" {
		t.Errorf("got %+v", snaps)
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	filled(w)
	doc, err := w.svc.Document(t.Context(), "p", "v")
	must(t, err)
	before := w.dump()
	must(t, w.db.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.DeleteVolume(ctx, tx, ref("p", "v")) }))
	must(t, w.svc.Adopt(t.Context(), doc))
	if after := w.dump(); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	wantKind(t, w.svc.Adopt(t.Context(), doc), errs.Conflict, "exists already")
	wantKind(t, w.svc.CheckReinstate(t.Context(), volumes.Reinstatement{Document: doc}), errs.Conflict, "exists already")
	wantKind(t, w.svc.Adopt(t.Context(), api.Document{}), errs.Invalid, "no custom volume")
	bad := doc
	bad.VolumeSnapshots = slices.Concat(doc.VolumeSnapshots, doc.VolumeSnapshots)
	wantKind(t, w.svc.CheckReinstate(t.Context(), volumes.Reinstatement{Document: bad, Name: "w"}), errs.Invalid, "named twice")
}

func TestDiff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	filled(w)
	w.inside("p", custom("v"), func(dir string) { must(t, os.Mkdir(filepath.Join(dir, "new"), 0o700)) })
	changes, err := w.svc.Diff(t.Context(), ref("p", "v"), "", "")
	must(t, err)
	want := []api.FileChange{{Op: "added", Type: "directory", Path: "/new"}, {Op: "modified", Type: "file", Path: "/word"}}
	slices.SortFunc(changes, func(a, b api.FileChange) int { return strings.Compare(a.Path, b.Path) })
	for _, c := range want {
		if !slices.Contains(changes, c) {
			t.Errorf("%v is not in %v", c, changes)
		}
	}
	changes, err = w.svc.Diff(t.Context(), ref("p", "v"), "s1", "s2")
	must(t, err)
	if !slices.Contains(changes, want[1]) || slices.Contains(changes, want[0]) {
		t.Errorf("from s1 to s2: %v", changes)
	}
	_, err = w.svc.Diff(t.Context(), ref("p", "v"), "s9", "")
	wantKind(t, err, errs.NotFound, `snapshot "s9"`)
}

// TestMoveToProject has nobody lose a volume that another project gets.
func TestMoveToProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.create("v")
	w.snapshot("s1")
	w.addInstance("c1", "v")
	for name, to := range map[string]api.StorageVolumePost{"within its pool": {Name: "x%v"}, "to another pool": {Name: "x%v", Pool: "q"}} {
		_, err := w.svc.Move(ctx, ref("p", "v"), to)
		if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "in use by instances/c1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.svc.Rename(ctx, ref("p", "v"), "x%v"); !errs.Is(err, errs.Conflict) {
		t.Errorf("rename: %v", err)
	}
	w.create("free")
	if _, err := w.svc.Move(ctx, ref("p", "free"), api.StorageVolumePost{Name: "x%free", VolumeOnly: true}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("without snapshots: %v", err)
	}
	must(t, w.run(w.svc.Move(ctx, ref("p", "free"), api.StorageVolumePost{Name: "x%free"})))
	must(t, w.run(w.svc.Copy(ctx, "q", api.StorageVolumesPost{Name: "y%copy", Source: api.StorageVolumeSource{Name: "x%free", Pool: "p", Project: "x"}})))
	if dump := w.dump(); !strings.Contains(dump, "p custom/x%free") || !strings.Contains(dump, "q custom/y%copy") {
		t.Errorf("got\n%s", dump)
	}
}

// TestUnknown makes volumes where the pool has one that the database lost.
func TestUnknown(t *testing.T) {
	w := newWorld(t)
	w.create("w")
	doc, err := w.svc.Document(t.Context(), "p", "w")
	must(t, err)
	lost := storage.Volume{Kind: storage.Custom, Name: "v"}
	must(t, w.pools["p"].Create(t.Context(), lost))
	w.write("v", "lost")
	before := w.dump()
	fill := func(ctx context.Context, d storage.Driver, v storage.Volume) error { return d.Create(ctx, v) }
	for what, act := range map[string]func() error{
		"create": func() error { return w.svc.Create(t.Context(), "p", post("v", nil)) },
		"copy": func() error {
			req := post("v", nil)
			req.Source = api.StorageVolumeSource{Type: "copy", Name: "w", Pool: "p"}
			return w.run(w.svc.Copy(t.Context(), "p", req))
		},
		"reinstate": func() error {
			return w.svc.Reinstate(t.Context(), volumes.Reinstatement{Document: doc, Name: "v", Fill: fill}, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			wantKind(t, act(), errs.Conflict, "cuib admin recover")
			w.boot()
			if after := w.dump(); after != before {
				t.Errorf("there was\n%s\nand there is\n%s", before, after)
			}
		})
	}
}
