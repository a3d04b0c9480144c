package db_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

// poolTx runs fn in a transaction that must commit.
func poolTx(t *testing.T, d *db.DB, fn func(ctx context.Context, tx *db.Tx) error) {
	t.Helper()
	if err := d.Do(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestPools(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		p := db.Pool{Name: "p", Driver: "overlay", Description: "d", Status: db.Pending}
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error { return db.AddPool(ctx, tx, &p) })
		if p.ID == 0 || p.Created.IsZero() || p.Config == nil {
			t.Errorf("added: %+v", p)
		}
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return db.AddPool(ctx, tx, &db.Pool{Name: "p"})
		})
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("adding it again: %v", err)
		}
		want := p
		want.Description, want.Config, want.Status = "e", map[string]string{"size": "1GiB"}, db.Ready
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.SetPoolStatus(ctx, tx, "p", db.Ready); err != nil {
				return err
			}
			return db.UpdatePool(ctx, tx, want)
		})
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			got, err := db.GetPool(ctx, tx, "p")
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			return err
		})
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeletePool(ctx, tx, "p") })
		err = d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := db.GetPool(ctx, tx, "p")
			return err
		})
		if !errs.Is(err, errs.NotFound) {
			t.Errorf("after deletion: %v", err)
		}
	})
}

func TestImageVolumes(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		p := db.Pool{Name: "p", Driver: "overlay", Status: db.Ready}
		v := db.ImageVolume{Fingerprint: "f", Status: db.Pending}
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.AddPool(ctx, tx, &p); err != nil {
				return err
			}
			v.PoolID = p.ID
			return db.AddImageVolume(ctx, tx, v)
		})
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.AddImageVolume(ctx, tx, v) })
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("adding it again: %v", err)
		}
		err = d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.DeletePool(ctx, tx, "p") })
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("deleting a pool that holds an image: %v", err)
		}
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			return db.SetImageVolumeStatus(ctx, tx, "f", p.ID, db.Ready)
		})
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			all, err := db.ImageVolumes(ctx, tx)
			want := []db.ImageVolume{{Fingerprint: "f", PoolID: p.ID, Pool: "p", Status: db.Ready}}
			if !reflect.DeepEqual(all, want) {
				t.Errorf("got %+v, want %+v", all, want)
			}
			return err
		})
		poolTx(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.DeleteImageVolume(ctx, tx, "f", p.ID); err != nil {
				return err
			}
			return db.DeletePool(ctx, tx, "p")
		})
	})
}
