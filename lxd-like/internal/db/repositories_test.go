package db_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

func TestRepositories(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		do := func(fn func(ctx context.Context, tx *db.Tx) error) error { return d.Do(t.Context(), fn) }
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		in := db.Repository{Name: "nas", Description: "d", Config: map[string]string{"location": "/b"}}
		ok(do(func(ctx context.Context, tx *db.Tx) error { return db.AddRepository(ctx, tx, &in) }))
		if in.ID == 0 || in.Created.IsZero() {
			t.Errorf("added without id or time: %+v", in)
		}
		if err := do(func(ctx context.Context, tx *db.Tx) error {
			again := in
			return db.AddRepository(ctx, tx, &again)
		}); !errs.Is(err, errs.Conflict) {
			t.Errorf("a second of that name: %v", err)
		}
		want := in
		want.Description, want.Config = "e", map[string]string{"location": "/c"}
		remembered := db.RepositoryBackup{Backup: "abc", Added: 5}
		ok(do(func(ctx context.Context, tx *db.Tx) error {
			if err := db.AddRepositoryBackup(ctx, tx, in.ID, remembered); err != nil {
				return err
			}
			if err := db.AddRepositoryBackup(ctx, tx, in.ID, db.RepositoryBackup{Backup: "gone"}); err != nil {
				return err
			}
			if err := db.DeleteRepositoryBackup(ctx, tx, in.ID, "gone"); err != nil {
				return err
			}
			return db.UpdateRepository(ctx, tx, want)
		}))
		ok(d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			got, err := db.GetRepository(ctx, tx, "nas")
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			all, berr := db.RepositoryBackups(ctx, tx, in.ID)
			if berr == nil && !reflect.DeepEqual(all, []db.RepositoryBackup{remembered}) {
				t.Errorf("backups: %v", all)
			}
			if err == nil {
				err = berr
			}
			return err
		}))
		ok(do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteRepository(ctx, tx, "nas") }))
		ok(d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			all, err := db.Repositories(ctx, tx)
			backups, berr := db.RepositoryBackups(ctx, tx, in.ID)
			if len(all)+len(backups) != 0 {
				t.Errorf("after deletion: %v, %v", all, backups)
			}
			if err == nil {
				err = berr
			}
			return err
		}))
		if err := do(func(ctx context.Context, tx *db.Tx) error { return db.UpdateRepository(ctx, tx, want) }); !errs.Is(err, errs.NotFound) {
			t.Errorf("update of none: %v", err)
		}
	})
}
