package db_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

// seedVolume adds the volume p/v.
func seedVolume(t *testing.T, d *db.DB) db.Volume {
	t.Helper()
	v := db.Volume{
		VolumeRef: db.VolumeRef{Pool: "p", Name: "v"}, Status: db.Pending, ContentType: "filesystem",
		Description: "d", Config: map[string]string{"size": "1GiB", "user.a": "b"},
	}
	poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
		for _, name := range []string{"p", "q"} {
			if err := db.AddPool(ctx, tx, &db.Pool{Name: name, Driver: "dir", Status: db.Ready}); err != nil {
				return err
			}
		}
		return db.AddVolume(ctx, tx, &v)
	})
	return v
}

func failsWith(t *testing.T, d *db.DB, kind errs.Kind, fn func(ctx context.Context, tx *db.Tx) error) {
	t.Helper()
	if err := d.Do(t.Context(), fn); !errs.Is(err, kind) {
		t.Errorf("got %v, want kind %d", err, kind)
	}
}

func TestVolumes(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		v := seedVolume(t, d)
		if v.ID == 0 || v.Created.IsZero() {
			t.Errorf("added: %+v", v)
		}
		failsWith(t, d, errs.Conflict, func(ctx context.Context, tx *db.Tx) error {
			return db.AddVolume(ctx, tx, &db.Volume{VolumeRef: v.VolumeRef})
		})
		failsWith(t, d, errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
			return db.AddVolume(ctx, tx, &db.Volume{VolumeRef: db.VolumeRef{Pool: "none", Name: "v"}})
		})
		same := db.Volume{VolumeRef: db.VolumeRef{Pool: "q", Name: "v"}, Status: db.Ready, ContentType: "iso"}
		want := v
		want.Description, want.Status, want.Name = "e", db.Ready, "w"
		want.Config = map[string]string{"size": "2GiB", "user.c": "d"}
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.AddVolume(ctx, tx, &same); err != nil {
				return err
			}
			u := v
			u.Description, u.Config = "e", map[string]string{"size": "2GiB", "user.a": "b"}
			if err := db.UpdateVolume(ctx, tx, u); err != nil {
				return err
			}
			if err := db.PatchVolumeConfig(ctx, tx, v.VolumeRef, map[string]string{"user.a": "", "user.c": "d"}); err != nil {
				return err
			}
			if err := db.SetVolumeStatus(ctx, tx, v.VolumeRef, db.Ready); err != nil {
				return err
			}
			return db.RenameVolume(ctx, tx, v.VolumeRef, "w")
		})
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			all, err := db.Volumes(ctx, tx)
			if !reflect.DeepEqual(all, []db.Volume{want, same}) {
				t.Errorf("got %+v", all)
			}
			if err != nil {
				return err
			}
			in, err := db.VolumesIn(ctx, tx, "q")
			if !reflect.DeepEqual(in, []db.Volume{same}) {
				t.Errorf("in q: %+v", in)
			}
			return err
		})
		failsWith(t, d, errs.Conflict, func(ctx context.Context, tx *db.Tx) error { return db.DeletePool(ctx, tx, "p") })
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeleteVolume(ctx, tx, want.VolumeRef) })
		failsWith(t, d, errs.NotFound, func(ctx context.Context, tx *db.Tx) error { return db.DeleteVolume(ctx, tx, want.VolumeRef) })
		failsWith(t, d, errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.GetVolume(ctx, tx, want.VolumeRef)
			return err
		})
	})
}

func TestVolumeSnapshots(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		v := seedVolume(t, d)
		now := time.Now().UTC()
		one := db.VolumeSnapshot{Volume: v.VolumeRef, Name: "s1", Status: db.Pending, Config: v.Config, Created: now.Add(-time.Hour)}
		two := db.VolumeSnapshot{Volume: v.VolumeRef, Name: "s2", Status: db.Ready, Expires: now.Add(time.Hour)}
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.AddVolumeSnapshot(ctx, tx, &two); err != nil {
				return err
			}
			return db.AddVolumeSnapshot(ctx, tx, &one)
		})
		failsWith(t, d, errs.Conflict, func(ctx context.Context, tx *db.Tx) error {
			return db.AddVolumeSnapshot(ctx, tx, &db.VolumeSnapshot{Volume: v.VolumeRef, Name: "s1"})
		})
		one.Status, one.Description, one.Expires = db.Ready, "first", now.Add(-time.Second)
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.SetVolumeSnapshotStatus(ctx, tx, one); err != nil {
				return err
			}
			return db.UpdateVolumeSnapshot(ctx, tx, one)
		})
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			got, err := db.VolumeSnapshots(ctx, tx, v.VolumeRef)
			if !reflect.DeepEqual(got, []db.VolumeSnapshot{one, two}) {
				t.Errorf("got %+v", got)
			}
			if err != nil {
				return err
			}
			all, err := db.AllVolumeSnapshots(ctx, tx)
			if !reflect.DeepEqual(all, map[db.VolumeRef][]db.VolumeSnapshot{v.VolumeRef: {one, two}}) {
				t.Errorf("all: %+v", all)
			}
			if err != nil {
				return err
			}
			old, err := db.ExpiredVolumeSnapshots(ctx, tx, now)
			if !reflect.DeepEqual(old, []db.VolumeSnapshot{one}) {
				t.Errorf("expired: %+v", old)
			}
			return err
		})
		failsWith(t, d, errs.Conflict, func(ctx context.Context, tx *db.Tx) error { return db.RenameVolumeSnapshot(ctx, tx, one, "s2") })
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.RenameVolumeSnapshot(ctx, tx, one, "s3"); err != nil {
				return err
			}
			return db.DeleteVolumeSnapshot(ctx, tx, v.VolumeRef, "s2")
		})
		failsWith(t, d, errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.GetVolumeSnapshot(ctx, tx, v.VolumeRef, "s1")
			return err
		})
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeleteVolume(ctx, tx, v.VolumeRef) })
		failsWith(t, d, errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.GetVolumeSnapshot(ctx, tx, v.VolumeRef, "s3")
			return err
		})
	})
}
