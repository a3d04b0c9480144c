package db_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/shared/errs"
)

func TestImages(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		want := db.Image{
			Fingerprint: "abcd", Filename: "a.tar", Size: 7, Public: true, AutoUpdate: true, Cached: true, Architecture: "x86_64",
			Properties: map[string]string{"os": "Debian"}, Profiles: []string{"default"}, Source: "debian:sid", Status: db.Ready,
			Created: time.Unix(1, 2).UTC(), Expires: time.Unix(3, 0).UTC(), Uploaded: time.Unix(4, 0).UTC(),
		}
		newer := want
		newer.Fingerprint = "ab_%"
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.AddImage(ctx, tx, &want); err != nil {
				return err
			}
			return db.AddImage(ctx, tx, &newer)
		})
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return db.AddImage(ctx, tx, &db.Image{Fingerprint: "abcd"})
		})
		if !errs.Is(err, errs.Conflict) || err.Error() != "Image with same fingerprint already exists" {
			t.Errorf("second image with a fingerprint: %v", err)
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			got, err := db.GetImage(ctx, tx, "abcd")
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
			for prefix, n := range map[string]int{"ab": 2, "abc": 1, "a_": 0, "ab_": 1, "": 2} {
				if found, err := db.FindImages(ctx, tx, prefix); err != nil || len(found) != n {
					t.Errorf("prefix %q: %d images, %v, want %d", prefix, len(found), err, n)
				}
			}
			got, err = db.ImageBySource(ctx, tx, "debian:sid")
			if err != nil || got.Fingerprint != "ab_%" {
				t.Errorf("by source: %q, %v", got.Fingerprint, err)
			}
			want.Public, want.Properties, want.Expires = false, map[string]string{}, time.Time{}
			return db.UpdateImage(ctx, tx, want)
		})
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			if got, err := db.GetImage(ctx, tx, "abcd"); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
			if err := db.SetImageStatus(ctx, tx, "abcd", db.Pending); err != nil {
				return err
			}
			if found, err := db.FindImages(ctx, tx, "abcd"); err != nil || len(found) != 0 {
				t.Errorf("found pending %v, %v", found, err)
			}
			if err := db.TouchImage(ctx, tx, "abcd"); err != nil {
				return err
			}
			if err := db.DeleteImage(ctx, tx, "abcd"); err != nil {
				return err
			}
			if _, err := db.GetImage(ctx, tx, "abcd"); !errs.Is(err, errs.NotFound) {
				t.Errorf("deleted: %v", err)
			}
			return nil
		})
	})
}

func TestAliases(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			for _, fp := range []string{"one", "two"} {
				if err := db.AddImage(ctx, tx, &db.Image{Fingerprint: fp, Status: db.Ready}); err != nil {
					return err
				}
			}
			if err := db.AddAlias(ctx, tx, db.Alias{Name: "b/1", Description: "B", Fingerprint: "one"}); err != nil {
				return err
			}
			return db.AddAlias(ctx, tx, db.Alias{Name: "a", Fingerprint: "one"})
		})
		tests := map[string]struct {
			fn   func(context.Context, *db.Tx) error
			kind errs.Kind
		}{
			"add taken": {func(ctx context.Context, tx *db.Tx) error {
				return db.AddAlias(ctx, tx, db.Alias{Name: "a", Fingerprint: "two"})
			}, errs.Conflict},
			"add to no image": {func(ctx context.Context, tx *db.Tx) error {
				return db.AddAlias(ctx, tx, db.Alias{Name: "c", Fingerprint: "x"})
			}, errs.NotFound},
			"rename to taken": {func(ctx context.Context, tx *db.Tx) error { return db.RenameAlias(ctx, tx, "a", "b/1") }, errs.Conflict},
			"rename none":     {func(ctx context.Context, tx *db.Tx) error { return db.RenameAlias(ctx, tx, "x", "y") }, errs.NotFound},
			"update none": {func(ctx context.Context, tx *db.Tx) error {
				return db.UpdateAlias(ctx, tx, db.Alias{Name: "x", Fingerprint: "one"})
			}, errs.NotFound},
			"update to nothing": {func(ctx context.Context, tx *db.Tx) error {
				return db.UpdateAlias(ctx, tx, db.Alias{Name: "a", Fingerprint: "x"})
			}, errs.NotFound},
			"delete none": {func(ctx context.Context, tx *db.Tx) error { return db.DeleteAlias(ctx, tx, "x") }, errs.NotFound},
		}
		for name, tt := range tests {
			if err := d.Do(t.Context(), tt.fn); err == nil || errs.KindOf(err) != tt.kind {
				t.Errorf("%s: %v", name, err)
			}
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.UpdateAlias(ctx, tx, db.Alias{Name: "b/1", Description: "C", Fingerprint: "two"}); err != nil {
				return err
			}
			if err := db.RenameAlias(ctx, tx, "b/1", "c/1"); err != nil {
				return err
			}
			return db.DeleteImage(ctx, tx, "one")
		})
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			all, err := db.Aliases(ctx, tx)
			if want := []db.Alias{{Name: "c/1", Description: "C", Fingerprint: "two"}}; err != nil || !reflect.DeepEqual(all, want) {
				t.Errorf("got %v, %v, want %v", all, err, want)
			}
			return nil
		})
	})
}

// change runs fn in a transaction that must succeed.
func change(t *testing.T, d *db.DB, fn func(context.Context, *db.Tx) error) {
	t.Helper()
	if err := d.Do(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
