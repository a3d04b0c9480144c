package db_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

func TestImages(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		want := db.Image{
			Project: "default", Fingerprint: "abcd", Filename: "a.tar", Size: 7, Public: true, AutoUpdate: true, Cached: true, Architecture: "x86_64",
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
	engines.Each(t, func(t *testing.T, d *db.DB) {
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
			if want := []db.Alias{{Project: "default", Name: "c/1", Description: "C", Fingerprint: "two"}}; err != nil || !reflect.DeepEqual(all, want) {
				t.Errorf("got %v, %v, want %v", all, err, want)
			}
			return nil
		})
	})
}

func TestImagesOfProjects(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		own := db.Image{Project: "p", Fingerprint: "abcd", Source: "debian:sid", Status: db.Ready, Properties: map[string]string{"of": "p"}}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			for _, i := range []db.Image{
				{Fingerprint: "abcd", Source: "debian:sid", Status: db.Ready},
				own,
				{Project: "q", Fingerprint: "abcd", Status: db.Pending},
				{Project: "p", Fingerprint: "abff", Status: db.Ready},
			} {
				if err := db.AddImage(ctx, tx, &i); err != nil {
					return err
				}
			}
			for _, a := range []db.Alias{{Name: "a/1", Fingerprint: "abcd"}, {Project: "p", Name: "a/1", Fingerprint: "abff"}} {
				if err := db.AddAlias(ctx, tx, a); err != nil {
					return err
				}
			}
			return db.UpdateImage(ctx, tx, own)
		})
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return db.AddAlias(ctx, tx, db.Alias{Name: "b", Fingerprint: "abff"})
		})
		if !errs.Is(err, errs.NotFound) {
			t.Errorf("an alias of another project's image: %v", err)
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			for prefix, n := range map[string]int{"ab": 1, "p%ab": 2, "p%abc": 1, "p%": 2, "q%": 0, "": 1} {
				if found, err := db.FindImages(ctx, tx, prefix); err != nil || len(found) != n {
					t.Errorf("prefix %q: %v, %v, want %d", prefix, found, err, n)
				}
			}
			if got, err := db.GetImage(ctx, tx, "p%abcd"); err != nil || got.Key() != "p%abcd" || got.Properties["of"] != "p" {
				t.Errorf("got %+v, %v", got, err)
			}
			if got, err := db.GetImage(ctx, tx, "abcd"); err != nil || len(got.Properties) != 0 {
				t.Errorf("of the default project: %+v, %v", got, err)
			}
			if got, err := db.ImageBySource(ctx, tx, "p%debian:sid"); err != nil || got.Key() != "p%abcd" {
				t.Errorf("by source: %+v, %v", got, err)
			}
			if got, err := db.ImagesBySource(ctx, tx, "debian:sid"); err != nil || len(got) != 2 {
				t.Errorf("by source in all: %+v, %v", got, err)
			}
			if got, err := db.ImagesSharing(ctx, tx, "abcd"); err != nil || len(got) != 2 || got[0].Project != "p" {
				t.Errorf("sharing files: %+v, %v", got, err)
			}
			if got, err := db.ImageKeys(ctx, tx); err != nil || !reflect.DeepEqual(got, map[string][]string{"abcd": {"abcd", "p%abcd"}, "abff": {"p%abff"}}) {
				t.Errorf("keys: %v, %v", got, err)
			}
			if err := db.RenameAlias(ctx, tx, "p%a/1", "p%b"); err != nil {
				return err
			}
			if a, err := db.GetAlias(ctx, tx, "p%b"); err != nil || a.Key() != "p%b" || a.Fingerprint != "abff" {
				t.Errorf("alias %+v, %v", a, err)
			}
			if err := db.TouchImage(ctx, tx, "p%abcd"); err != nil {
				return err
			}
			if err := db.SetImageStatus(ctx, tx, "q%abcd", db.Ready); err != nil {
				return err
			}
			return db.DeleteImage(ctx, tx, "p%abff")
		})
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			all, err := db.Images(ctx, tx)
			var got string
			for _, i := range all {
				got += fmt.Sprintf("%s %s %t ", i.Key(), i.Status, i.LastUsed.IsZero())
			}
			if want := "abcd ready true p%abcd ready false q%abcd ready true "; got != want || err != nil {
				t.Errorf("got %s, %v, want %s", got, err, want)
			}
			if aliases, err := db.Aliases(ctx, tx); err != nil || len(aliases) != 1 || aliases[0].Key() != "a/1" {
				t.Errorf("aliases %v, %v", aliases, err)
			}
			return db.DeleteAlias(ctx, tx, "a/1")
		})
	})
}

// TestUpgradeOfImages has images from before there were projects.
func TestUpgradeOfImages(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cuib.db")
	old, err := sql.Open("sqlite3", "file:"+file+"?_foreign_keys=1")
	must(t, err)
	for i, name := range []string{"initial", "storage", "warnings", "networkparts", "projects"} {
		text, err := os.ReadFile(fmt.Sprintf("migrations/%04d-%s.sql", i+1, name))
		must(t, err)
		_, err = old.ExecContext(t.Context(), string(text)+fmt.Sprintf("; PRAGMA user_version = %d", i+1))
		must(t, err)
	}
	_, err = old.ExecContext(t.Context(), `
		INSERT INTO images (id, fingerprint, filename, size, public, auto_update, cached, architecture, properties, profiles, source, status, created, expires, uploaded, last_used)
		VALUES (3, 'one', 'f', 7, 1, 0, 1, 'x86_64', '{"os":"Debian"}', '["default"]', 'debian:sid', 'ready', 1000000002, 2000000000, 3, 4),
			(8, 'two', '', 0, 0, 0, 0, '', '{}', '[]', '', 'pending', 0, 0, 0, 0);
		INSERT INTO image_aliases (name, image_id, description) VALUES ('a/1', 3, 'A'), ('50%', 3, ''), ('50_', 8, 'taken'), ('p%q', 3, '');
		INSERT INTO pools (id, name, driver, description, config, status, created) VALUES (1, 'tank', 'dir', '', '{}', 'ready', 0);
		INSERT INTO image_volumes (fingerprint, pool_id, status) VALUES ('one', 1, 'ready')`)
	must(t, errors.Join(err, old.Close()))

	d, err := db.OpenFile(t.Context(), file)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	change(t, d, func(ctx context.Context, tx *db.Tx) error {
		want := db.Image{
			ID: 3, Project: "default", Fingerprint: "one", Filename: "f", Size: 7, Public: true, Cached: true, Architecture: "x86_64",
			Properties: map[string]string{"os": "Debian"}, Profiles: []string{"default"}, Source: "debian:sid", Status: db.Ready,
			Created: time.Unix(1, 2).UTC(), Expires: time.Unix(2, 0).UTC(), Uploaded: time.Unix(0, 3).UTC(), LastUsed: time.Unix(0, 4).UTC(),
		}
		all, err := db.Images(ctx, tx)
		if err != nil || len(all) != 2 || !reflect.DeepEqual(all[0], want) || all[1].Status != db.Pending {
			t.Errorf("images %+v, %v", all, err)
		}
		aliases, err := db.Aliases(ctx, tx)
		if want := []db.Alias{{"default", "50_", "taken", "two"}, {"default", "a/1", "A", "one"}, {"default", "p_q", "", "one"}}; err != nil || !reflect.DeepEqual(aliases, want) {
			t.Errorf("aliases %v, %v", aliases, err)
		}
		if volumes, err := db.ImageVolumes(ctx, tx); err != nil || len(volumes) != 1 || volumes[0].Fingerprint != "one" {
			t.Errorf("volumes %v, %v", volumes, err)
		}
		next := db.Image{Project: "p", Fingerprint: "one"}
		if err := db.AddImage(ctx, tx, &next); err != nil || next.ID <= 8 {
			t.Errorf("the next one: %+v, %v", next, err)
		}
		return db.DeleteImage(ctx, tx, "one")
	})
	change(t, d, func(ctx context.Context, tx *db.Tx) error {
		if aliases, err := db.Aliases(ctx, tx); err != nil || len(aliases) != 1 || aliases[0].Fingerprint != "two" {
			t.Errorf("aliases of an image that is deleted: %v, %v", aliases, err)
		}
		return nil
	})
}

// change runs fn in a transaction that must succeed.
func change(t *testing.T, d *db.DB, fn func(context.Context, *db.Tx) error) {
	t.Helper()
	if err := d.Do(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}
