package db_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

func TestNetworks(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		in := db.Network{Name: "br0", Type: "bridge", Description: "d", Config: map[string]string{"a": "1"}, Status: db.Pending}
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.AddNetwork(ctx, tx, &in) })
		if err != nil {
			t.Fatal(err)
		}
		if in.ID == 0 || in.Created.IsZero() {
			t.Errorf("added without id or time: %+v", in)
		}
		want := in
		want.Name, want.Status, want.Description, want.Config = "br1", db.Ready, "e", map[string]string{"b": "2"}
		err = d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := db.SetNetworkStatus(ctx, tx, "br0", db.Ready); err != nil {
				return err
			}
			if err := db.RenameNetwork(ctx, tx, "br0", "br1"); err != nil {
				return err
			}
			return db.UpdateNetwork(ctx, tx, want)
		})
		if err != nil {
			t.Fatal(err)
		}
		err = d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			got, err := db.GetNetwork(ctx, tx, "br1")
			if err == nil && !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		err = d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetwork(ctx, tx, "br1") })
		if err != nil {
			t.Error(err)
		}
		err = d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			all, err := db.Networks(ctx, tx)
			if len(all) != 0 {
				t.Errorf("after deletion: %v", all)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestNetworkErrors(t *testing.T) {
	d := dbtest.New(t)
	add := func(name string) error {
		return d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return db.AddNetwork(ctx, tx, &db.Network{Name: name})
		})
	}
	for _, name := range []string{"br0", "br1"} {
		if err := add(name); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		do   func(context.Context, *db.Tx) error
		want errs.Kind
	}{
		"get":    {func(ctx context.Context, tx *db.Tx) error { _, err := db.GetNetwork(ctx, tx, "x"); return err }, errs.NotFound},
		"update": {func(ctx context.Context, tx *db.Tx) error { return db.UpdateNetwork(ctx, tx, db.Network{Name: "x"}) }, errs.NotFound},
		"status": {func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkStatus(ctx, tx, "x", db.Ready) }, errs.NotFound},
		"rename": {func(ctx context.Context, tx *db.Tx) error { return db.RenameNetwork(ctx, tx, "x", "y") }, errs.NotFound},
		"taken":  {func(ctx context.Context, tx *db.Tx) error { return db.RenameNetwork(ctx, tx, "br0", "br1") }, errs.Conflict},
		"twice":  {func(ctx context.Context, tx *db.Tx) error { return db.AddNetwork(ctx, tx, &db.Network{Name: "br0"}) }, errs.Conflict},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := d.Do(t.Context(), tt.do); !errs.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
