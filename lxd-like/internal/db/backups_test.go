package db_test

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

func TestBackups(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		v := seedVolume(t, d)
		now := time.Now().UTC()
		ofInstance, ofVolume := db.BackupOwner{Instance: "c1"}, db.BackupOwner{Volume: v.VolumeRef}
		one := db.Backup{Owner: ofInstance, Name: "b", Status: db.Pending, Expires: now.Add(-time.Hour), Options: db.BackupOptions{
			Hidden: ".h1", Snapshots: []string{"s1"}, Compression: "zstd", Document: json.RawMessage(`{"a":1}`),
		}}
		two := db.Backup{Owner: ofVolume, Name: "b", Status: db.Ready, Options: db.BackupOptions{Hidden: ".h2", Only: true, Optimized: true}}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.AddBackup(ctx, tx, &one); err != nil {
				return err
			}
			return db.AddBackup(ctx, tx, &two)
		})
		for owner, want := range map[db.BackupOwner]db.Backup{ofInstance: one, ofVolume: two} {
			got := view(t, d, func(ctx context.Context, tx *db.Tx) ([]db.Backup, error) { return db.Backups(ctx, tx, owner) })
			if !reflect.DeepEqual(got, []db.Backup{want}) {
				t.Errorf("%s has %+v, want %+v", owner, got, want)
			}
			err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				return db.AddBackup(ctx, tx, &db.Backup{Owner: owner, Name: "b"})
			})
			fails(t, err, errs.Conflict, `backup "b" of "`+owner.String()+`" exists already`)
		}
		expired := func(ctx context.Context, tx *db.Tx) ([]db.Backup, error) { return db.ExpiredBackups(ctx, tx, now) }
		if got := view(t, d, expired); len(got) != 0 {
			t.Errorf("expired before they are whole: %+v", got)
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			hidden, err := db.HiddenOfBackups(ctx, tx, ofInstance)
			if len(hidden) != 0 || err != nil {
				t.Errorf("hidden: %v, %v", hidden, err)
			}
			if err := db.SetBackupStatus(ctx, tx, one, db.Ready); err != nil {
				return err
			}
			hidden, err = db.HiddenOfBackups(ctx, tx, ofInstance)
			if !hidden[".h1"] || hidden[".h2"] || err != nil {
				t.Errorf("hidden: %v, %v", hidden, err)
			}
			return db.RenameBackup(ctx, tx, one, "c")
		})
		if got := view(t, d, expired); len(got) != 1 || got[0].Name != "c" || got[0].Owner != ofInstance {
			t.Errorf("expired: %+v", got)
		}
		err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := db.GetBackup(ctx, tx, ofInstance, "b")
			return err
		})
		fails(t, err, errs.NotFound, `backup "b" of "c1" not found`)
		change(t, d, func(ctx context.Context, tx *db.Tx) error { // What it is of takes it along.
			if err := db.DeleteInstance(ctx, tx, "c1"); err != nil {
				return err
			}
			return db.DeleteBackup(ctx, tx, two)
		})
		if got := view(t, d, db.AllBackups); len(got) != 0 {
			t.Errorf("left: %+v", got)
		}
	})
}
