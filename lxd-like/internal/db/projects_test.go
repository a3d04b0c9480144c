package db_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

func TestProjects(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			if err := db.AddProject(ctx, tx, &db.Project{Name: "p"}); err != nil {
				return err
			}
			if err := db.AddProfile(ctx, tx, &db.Profile{Name: "p%my_web"}); err != nil {
				return err
			}
			if err := db.AddProfile(ctx, tx, &db.Profile{Name: "my_web"}); err != nil {
				return err
			}
			pool, err := db.GetPool(ctx, tx, "tank")
			if err != nil {
				return err
			}
			for _, ref := range []db.VolumeRef{{Pool: "tank", Name: "v_1"}, {Pool: "tank", Name: "p%v_1"}} {
				if err := db.AddVolume(ctx, tx, &db.Volume{VolumeRef: ref}); err != nil {
					return err
				}
			}
			for _, in := range []string{"default", "p"} {
				if err := db.AddImage(ctx, tx, &db.Image{Project: in, Fingerprint: "abcd"}); err != nil {
					return err
				}
			}
			if err := db.AddInstance(ctx, tx, &db.Instance{Name: "p_c1", PoolID: pool.ID}); err != nil {
				return err
			}
			return db.AddSnapshot(ctx, tx, &db.Snapshot{Instance: "p_c1", Name: "s_1", Status: db.Ready})
		})

		names := func(project string) []string {
			all := view(t, d, func(ctx context.Context, tx *db.Tx) ([]db.Instance, error) { return db.InstancesOf(ctx, tx, project) })
			heads := view(t, d, func(ctx context.Context, tx *db.Tx) ([]db.Instance, error) { return db.InstanceHeads(ctx, tx, project) })
			var out []string
			for i, in := range all {
				if heads[i].Name != in.Name {
					t.Errorf("%q: heads are %v of %v", project, heads, all)
				}
				out = append(out, in.Name)
			}
			return out
		}
		for project, want := range map[string][]string{"default": {"c1", "c2"}, "p": {"p_c1"}, "q": nil, "": {"c1", "c2", "p_c1"}} {
			if got := names(project); !slices.Equal(got, want) {
				t.Errorf("instances of %q: got %q, want %q", project, got, want)
			}
		}
		snaps := view(t, d, func(ctx context.Context, tx *db.Tx) (map[string][]string, error) {
			return db.SnapshotNames(ctx, tx, "p")
		})
		if fmt.Sprint(snaps) != "map[p_c1:[s_1]]" {
			t.Errorf("snapshots of p: %v", snaps)
		}
		for project, want := range map[string]string{
			"p":       "[{images  p%abcd} {instances  p_c1} {profiles  p%my_web} {volumes tank p%v_1}]",
			"default": "[{images  abcd} {instances  c1} {instances  c2} {profiles  big} {profiles  default} {profiles  my_web} {profiles  web} {volumes tank v_1}]",
		} {
			got := view(t, d, func(ctx context.Context, tx *db.Tx) ([]db.ProjectObject, error) {
				return db.ProjectObjects(ctx, tx, project)
			})
			if fmt.Sprint(got) != want {
				t.Errorf("%s has %v, want %s", project, got, want)
			}
		}

		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.AddProject(ctx, tx, &db.Project{Name: "p"}) })
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("a second p: %v", err)
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error { return db.RenameProject(ctx, tx, "p", "q") })
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			return db.UpdateProject(ctx, tx, db.Project{Name: "q", Description: "x", Config: map[string]string{"user.a": "1"}})
		})
		q := view(t, d, func(ctx context.Context, tx *db.Tx) (db.Project, error) { return db.GetProject(ctx, tx, "q") })
		if q.Description != "x" || q.Config["user.a"] != "1" {
			t.Errorf("got %+v", q)
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error { return db.DeleteProject(ctx, tx, "q") })
		if all := view(t, d, db.Projects); len(all) != 1 || all[0].Name != "default" || all[0].Config["features.images"] != "true" {
			t.Errorf("left are %+v", all)
		}
	})
}
