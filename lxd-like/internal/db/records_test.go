package db_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

func TestInstances(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		got := view(t, d, db.Instances)
		if len(got) != 2 || got[0].Name != "c1" || got[1].Name != "c2" {
			t.Fatalf("got %+v", got)
		}
		c1 := got[0]
		if want := []string{"web", "default", "big"}; !slices.Equal(c1.Profiles, want) {
			t.Errorf("profiles %q, want %q", c1.Profiles, want)
		}
		if c1.Pool != "tank" || c1.Config["a"] != "1" || c1.Devices["root"]["path"] != "/" || c1.Created.IsZero() || !c1.LastUsed.IsZero() {
			t.Errorf("got %+v", c1)
		}
		if c2 := got[1]; c2.Profiles == nil || len(c2.Profiles) != 0 || c2.Config == nil || c2.Devices == nil {
			t.Errorf("empty fields became %#v", c2)
		}
		using := view(t, d, func(ctx context.Context, tx *db.Tx) ([]db.Instance, error) {
			return db.InstancesUsingProfile(ctx, tx, "big")
		})
		if len(using) != 1 || using[0].Name != "c1" || len(using[0].Profiles) != 3 {
			t.Errorf("using profile big: %+v", using)
		}
		for _, tt := range []struct {
			read func(context.Context, *db.Tx) ([]string, error)
			want []string
		}{
			{func(ctx context.Context, tx *db.Tx) ([]string, error) { return db.NamesUsingProfile(ctx, tx, "big") }, []string{"c1"}},
			{func(ctx context.Context, tx *db.Tx) ([]string, error) { return db.NamesUsingProfile(ctx, tx, "none") }, nil},
			{func(ctx context.Context, tx *db.Tx) ([]string, error) {
				return db.InstanceNames(ctx, tx, []string{"c2", "none", "c1"})
			}, []string{"c1", "c2"}},
			{func(ctx context.Context, tx *db.Tx) ([]string, error) { return db.InstanceNames(ctx, tx, nil) }, nil},
			{func(ctx context.Context, tx *db.Tx) (names []string, err error) {
				all, err := db.InstancesInPools(ctx, tx)
				for _, in := range all {
					names = append(names, in.Name+" in "+in.Pool)
				}
				return names, err
			}, []string{"c1 in tank", "c2 in tank"}},
			{func(ctx context.Context, tx *db.Tx) (names []string, err error) {
				all, err := db.InstancesLeft(ctx, tx, []string{"c1", "none"})
				for _, in := range all {
					names = append(names, in.Name, in.Devices["root"]["path"])
				}
				return names, err
			}, []string{"c1", "/"}},
		} {
			if got := view(t, d, tt.read); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		}
	})
}

func TestUpdateInstance(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		c1 := instance(t, d, "c1")
		c1.Description, c1.Ephemeral, c1.Profiles = "d", true, []string{"big", "web"}
		c1.Config = map[string]string{"b": "2"}
		c1.Devices = nil
		change(t, d, func(ctx context.Context, tx *db.Tx) error { return db.UpdateInstance(ctx, tx, c1) })
		got := instance(t, d, "c1")
		if got.Description != "d" || !got.Ephemeral || !slices.Equal(got.Profiles, c1.Profiles) ||
			!maps.Equal(got.Config, c1.Config) || len(got.Devices) != 0 || got.Name != "c1" || got.ID != c1.ID {
			t.Errorf("got %+v", got)
		}

		c1.Profiles = []string{"big", "nope"}
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.UpdateInstance(ctx, tx, c1) })
		fails(t, err, errs.NotFound, `profile "nope" not found`)
		if got := instance(t, d, "c1"); len(got.Profiles) != 2 {
			t.Errorf("a refused change left %q", got.Profiles)
		}
	})
}

func TestPatchInstanceConfig(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		for _, step := range []struct{ patch, want map[string]string }{
			{
				map[string]string{"volatile.eth0.hwaddr": `a"b\`, "x": "1"},
				map[string]string{"a": "1", "volatile.eth0.hwaddr": `a"b\`, "x": "1"},
			},
			{
				map[string]string{"x": "", "absent": "", "a": "2"},
				map[string]string{"a": "2", "volatile.eth0.hwaddr": `a"b\`},
			},
		} {
			change(t, d, func(ctx context.Context, tx *db.Tx) error {
				return db.PatchInstanceConfig(ctx, tx, "c1", step.patch)
			})
			if got := instance(t, d, "c1").Config; !maps.Equal(got, step.want) {
				t.Errorf("got %v, want %v", got, step.want)
			}
		}
	})
}

func TestInstanceColumns(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		var now time.Time
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			now = tx.Now()
			if err := db.SetInstanceStatus(ctx, tx, "c1", db.Pending); err != nil {
				return err
			}
			if err := db.TouchInstance(ctx, tx, "c1"); err != nil {
				return err
			}
			return db.RenameInstance(ctx, tx, "c1", "c9")
		})
		if got := instance(t, d, "c9"); got.Status != db.Pending || !got.LastUsed.Equal(now) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestRecordErrors(t *testing.T) {
	const (
		noInstance = `instance "no" not found`
		noSnapshot = `snapshot "c2/s1" not found`
	)
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		for name, tt := range map[string]struct {
			fn   func(context.Context, *db.Tx) error
			kind errs.Kind
			want string
		}{
			"instance taken": {func(ctx context.Context, tx *db.Tx) error {
				return db.AddInstance(ctx, tx, &db.Instance{Name: "c1", PoolID: 1})
			}, errs.Conflict, `instance "c1" exists already`},
			"instance of an unknown profile": {func(ctx context.Context, tx *db.Tx) error {
				return db.AddInstance(ctx, tx, &db.Instance{Name: "c3", PoolID: 1, Profiles: []string{"web", "nope"}})
			}, errs.NotFound, `profile "nope" not found`},
			"rename to a taken name": {func(ctx context.Context, tx *db.Tx) error {
				return db.RenameInstance(ctx, tx, "c1", "c2")
			}, errs.Conflict, `instance "c2" exists already`},
			"rename": {func(ctx context.Context, tx *db.Tx) error {
				return db.RenameInstance(ctx, tx, "no", "c9")
			}, errs.NotFound, noInstance},
			"get": {func(ctx context.Context, tx *db.Tx) error {
				_, err := db.GetInstance(ctx, tx, "no")
				return err
			}, errs.NotFound, noInstance},
			"update": {func(ctx context.Context, tx *db.Tx) error {
				return db.UpdateInstance(ctx, tx, db.Instance{Name: "no"})
			}, errs.NotFound, noInstance},
			"patch": {func(ctx context.Context, tx *db.Tx) error {
				return db.PatchInstanceConfig(ctx, tx, "no", map[string]string{"a": "1"})
			}, errs.NotFound, noInstance},
			"status": {func(ctx context.Context, tx *db.Tx) error {
				return db.SetInstanceStatus(ctx, tx, "no", db.Ready)
			}, errs.NotFound, noInstance},
			"touch": {func(ctx context.Context, tx *db.Tx) error {
				return db.TouchInstance(ctx, tx, "no")
			}, errs.NotFound, noInstance},
			"delete": {func(ctx context.Context, tx *db.Tx) error {
				return db.DeleteInstance(ctx, tx, "no")
			}, errs.NotFound, noInstance},
			"snapshot of no instance": {func(ctx context.Context, tx *db.Tx) error {
				return db.AddSnapshot(ctx, tx, &db.Snapshot{Instance: "no", Name: "s"})
			}, errs.NotFound, noInstance},
			"snapshot taken": {func(ctx context.Context, tx *db.Tx) error {
				return db.AddSnapshot(ctx, tx, &db.Snapshot{Instance: "c1", Name: "s2"})
			}, errs.Conflict, `snapshot "c1/s2" exists already`},
			"snapshot renamed to a taken name": {func(ctx context.Context, tx *db.Tx) error {
				return db.RenameSnapshot(ctx, tx, "c1", "s1", "s2")
			}, errs.Conflict, `snapshot "c1/s2" exists already`},
			"get snapshot": {func(ctx context.Context, tx *db.Tx) error {
				_, err := db.GetSnapshot(ctx, tx, "c2", "s1")
				return err
			}, errs.NotFound, noSnapshot},
			"update snapshot": {func(ctx context.Context, tx *db.Tx) error {
				return db.UpdateSnapshot(ctx, tx, db.Snapshot{Instance: "c2", Name: "s1"})
			}, errs.NotFound, noSnapshot},
			"delete snapshot": {func(ctx context.Context, tx *db.Tx) error {
				return db.DeleteSnapshot(ctx, tx, "c2", "s1")
			}, errs.NotFound, noSnapshot},
			"profile taken": {func(ctx context.Context, tx *db.Tx) error {
				return db.AddProfile(ctx, tx, &db.Profile{Name: "web"})
			}, errs.Conflict, `profile "web" exists already`},
			"profile renamed to a taken name": {func(ctx context.Context, tx *db.Tx) error {
				return db.RenameProfile(ctx, tx, "web", "big")
			}, errs.Conflict, `profile "big" exists already`},
			"profile in use": {func(ctx context.Context, tx *db.Tx) error {
				return db.DeleteProfile(ctx, tx, "web")
			}, errs.Conflict, `profile "web" is in use`},
			"update profile": {func(ctx context.Context, tx *db.Tx) error {
				return db.UpdateProfile(ctx, tx, db.Profile{Name: "no"})
			}, errs.NotFound, `profile "no" not found`},
			"delete profile": {func(ctx context.Context, tx *db.Tx) error {
				return db.DeleteProfile(ctx, tx, "no")
			}, errs.NotFound, `profile "no" not found`},
		} {
			t.Run(name, func(t *testing.T) { fails(t, d.Do(t.Context(), tt.fn), tt.kind, tt.want) })
		}
		if got := view(t, d, db.Instances); len(got) != 2 {
			t.Errorf("left behind: %+v", got)
		}
	})
}

func TestSnapshots(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		all := view(t, d, func(ctx context.Context, tx *db.Tx) (map[string][]db.Snapshot, error) {
			return db.AllSnapshots(ctx, tx, "")
		})
		if len(all) != 1 || len(all["c1"]) != 2 || all["c1"][0].Name != "s1" || all["c1"][1].Name != "s2" {
			t.Fatalf("got %+v", all)
		}
		s1 := all["c1"][0]
		if s1.Config["a"] != "1" || !slices.Equal(s1.Profiles, []string{"web"}) || s1.Status != db.Pending {
			t.Errorf("got %+v", s1)
		}
		s1.Description, s1.Expires = "d", time.Unix(2, 0).UTC()
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.UpdateSnapshot(ctx, tx, s1); err != nil {
				return err
			}
			if err := db.SetSnapshotStatus(ctx, tx, "c1", "s1", db.Ready); err != nil {
				return err
			}
			return db.RenameSnapshot(ctx, tx, "c1", "s1", "s9")
		})
		got := view(t, d, func(ctx context.Context, tx *db.Tx) (db.Snapshot, error) {
			return db.GetSnapshot(ctx, tx, "c1", "s9")
		})
		if got.Description != "d" || !got.Expires.Equal(s1.Expires) || got.Status != db.Ready || got.Instance != "c1" {
			t.Errorf("got %+v", got)
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeleteSnapshot(ctx, tx, "c1", "s9") })
		change(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "c1") })
		if all := view(t, d, func(ctx context.Context, tx *db.Tx) (map[string][]db.Snapshot, error) {
			return db.AllSnapshots(ctx, tx, "")
		}); len(all) != 0 {
			t.Errorf("after the instance was deleted: %+v", all)
		}
	})
}

func TestProfiles(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		if all := view(t, d, db.Profiles); len(all) != 3 || all[0].Name != "big" || all[1].Name != "default" {
			t.Fatalf("got %+v", all)
		}
		byName := view(t, d, func(ctx context.Context, tx *db.Tx) ([]db.Profile, error) {
			return db.ProfilesByName(ctx, tx, []string{"web", "big"})
		})
		if len(byName) != 2 || byName[0].Name != "web" || byName[1].Name != "big" {
			t.Errorf("got %+v", byName)
		}
		left := view(t, d, func(ctx context.Context, tx *db.Tx) ([]db.Profile, error) {
			return db.ProfilesLeft(ctx, tx, []string{"web", "gone", "big"})
		})
		if len(left) != 2 || left[0].Name != "web" || left[1].Name != "big" {
			t.Errorf("those that are left: %+v", left)
		}
		for _, names := range [][]string{{"web", "gone", "big"}, {"web", "gone"}, {"gone"}} {
			err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := db.ProfilesByName(ctx, tx, names)
				return err
			})
			if !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), `"gone"`) {
				t.Errorf("%v: %v", names, err)
			}
		}
		web := byName[0]
		web.Description, web.Config, web.Devices = "d", map[string]string{"k": "v"}, map[string]map[string]string{"eth0": {"type": "nic"}}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.UpdateProfile(ctx, tx, web); err != nil {
				return err
			}
			return db.RenameProfile(ctx, tx, "web", "www")
		})
		got := view(t, d, func(ctx context.Context, tx *db.Tx) (db.Profile, error) { return db.GetProfile(ctx, tx, "www") })
		if got.Description != "d" || got.Config["k"] != "v" || got.Devices["eth0"]["type"] != "nic" {
			t.Errorf("got %+v", got)
		}
		if p := instance(t, d, "c1").Profiles; p[0] != "www" {
			t.Errorf("after the rename the instance has %q", p)
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeleteInstance(ctx, tx, "c1") })
		change(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeleteProfile(ctx, tx, "www") })
	})
}

// seed adds profiles web and big, and instance c1 with those and the default
// one and with snapshots s1 and s2, and instance c2 with nothing.
func seed(t *testing.T, d *db.DB) {
	t.Helper()
	change(t, d, func(ctx context.Context, tx *db.Tx) error {
		pool := db.Pool{Name: "tank", Driver: "dir", Status: db.Ready}
		if err := db.AddPool(ctx, tx, &pool); err != nil {
			return err
		}
		for _, p := range []string{"web", "big"} {
			if err := db.AddProfile(ctx, tx, &db.Profile{Name: p}); err != nil {
				return err
			}
		}
		for _, in := range []db.Instance{
			{
				Name: "c1", PoolID: pool.ID, Status: db.Ready, Config: map[string]string{"a": "1"},
				Devices:  map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "tank"}},
				Profiles: []string{"web", "default", "big"},
			},
			{Name: "c2", PoolID: pool.ID},
		} {
			if err := db.AddInstance(ctx, tx, &in); err != nil {
				return err
			}
		}
		for _, s := range []string{"s1", "s2"} {
			err := db.AddSnapshot(ctx, tx, &db.Snapshot{
				Instance: "c1", Name: s, Status: db.Pending,
				Config: map[string]string{"a": "1"}, Profiles: []string{"web"},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func instance(t *testing.T, d *db.DB, name string) db.Instance {
	t.Helper()
	return view(t, d, func(ctx context.Context, tx *db.Tx) (db.Instance, error) { return db.GetInstance(ctx, tx, name) })
}

func view[T any](t *testing.T, d *db.DB, fn func(context.Context, *db.Tx) (T, error)) (got T) {
	t.Helper()
	err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		got, err = fn(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func fails(t *testing.T, err error, kind errs.Kind, want string) {
	t.Helper()
	if !errs.Is(err, kind) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
