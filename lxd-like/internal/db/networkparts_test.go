package db_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
	"github.com/cuib/cuib/shared/errs"
)

// A door is what the tests keep.
type door struct{ Color string }

const doors db.PartKind[door] = "network door"

func TestNetworkParts(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		do := func(fn func(context.Context, *db.Tx) error) error { return d.Do(t.Context(), fn) }
		part := func(network, name, color string) db.NetworkPart[door] {
			return db.NetworkPart[door]{Network: network, Name: name, Document: door{color}}
		}
		must(t, do(func(ctx context.Context, tx *db.Tx) error {
			for _, name := range []string{"n0", "n1"} {
				if err := db.AddNetwork(ctx, tx, &db.Network{Name: name, Type: "bridge", Status: db.Ready}); err != nil {
					return err
				}
				if err := db.AddNetworkPart(ctx, tx, doors, part(name, "a", "red")); err != nil {
					return err
				}
			}
			return db.SetNetworkPart(ctx, tx, doors, part("n1", "a", "blue"))
		}))
		for what, c := range map[string]struct {
			kind errs.Kind
			fn   func(context.Context, *db.Tx) error
		}{
			"twice": {errs.Conflict, func(ctx context.Context, tx *db.Tx) error {
				return db.AddNetworkPart(ctx, tx, doors, part("n1", "a", ""))
			}},
			"of no network": {errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
				return db.AddNetworkPart(ctx, tx, doors, part("n2", "a", ""))
			}},
			"set of none": {errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
				return db.SetNetworkPart(ctx, tx, doors, part("n1", "b", ""))
			}},
			"delete of none": {errs.NotFound, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetworkPart(ctx, tx, doors, "n1", "b") }},
			"get of none": {errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
				_, err := db.GetNetworkPart(ctx, tx, doors, "n1", "b")
				return err
			}},
		} {
			if err := do(c.fn); !errs.Is(err, c.kind) {
				t.Errorf("%s: %v", what, err)
			}
		}
		check := func(network string, want ...db.NetworkPart[door]) {
			t.Helper()
			must(t, d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				got, err := db.NetworkParts(ctx, tx, doors, network)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%q has %v, want %v", network, got, want)
				}
				return err
			}))
		}
		check("", part("n0", "a", "red"), part("n1", "a", "blue"))
		check("n1", part("n1", "a", "blue"))
		must(t, do(func(ctx context.Context, tx *db.Tx) error {
			if err := db.DeleteNetworkPart(ctx, tx, doors, "n0", "a"); err != nil {
				return err
			}
			return db.DeleteNetwork(ctx, tx, "n1") // And what belongs to it.
		}))
		check("")
	})
}

func TestNetworkObjects(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		do := func(fn func(context.Context, *db.Tx) error) error { return d.Do(t.Context(), fn) }
		object := func(name, color string) db.NetworkObject[door] {
			return db.NetworkObject[door]{Name: name, Document: door{color}}
		}
		must(t, do(func(ctx context.Context, tx *db.Tx) error {
			for _, name := range []string{"a", "b"} {
				if err := db.AddNetworkObject(ctx, tx, doors, object(name, "red")); err != nil {
					return err
				}
			}
			if err := db.SetNetworkObject(ctx, tx, doors, object("b", "blue")); err != nil {
				return err
			}
			return db.RenameNetworkObject(ctx, tx, doors, "b", "c")
		}))
		for what, c := range map[string]struct {
			kind errs.Kind
			fn   func(context.Context, *db.Tx) error
		}{
			"twice": {errs.Conflict, func(ctx context.Context, tx *db.Tx) error {
				return db.AddNetworkObject(ctx, tx, doors, object("a", ""))
			}},
			"rename to taken": {errs.Conflict, func(ctx context.Context, tx *db.Tx) error { return db.RenameNetworkObject(ctx, tx, doors, "a", "c") }},
			"rename of none":  {errs.NotFound, func(ctx context.Context, tx *db.Tx) error { return db.RenameNetworkObject(ctx, tx, doors, "b", "d") }},
			"set of none": {errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
				return db.SetNetworkObject(ctx, tx, doors, object("b", ""))
			}},
			"delete of none": {errs.NotFound, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetworkObject(ctx, tx, doors, "b") }},
			"get of none": {errs.NotFound, func(ctx context.Context, tx *db.Tx) error {
				_, err := db.GetNetworkObject(ctx, tx, doors, "b")
				return err
			}},
		} {
			if err := do(c.fn); !errs.Is(err, c.kind) {
				t.Errorf("%s: %v", what, err)
			}
		}
		must(t, do(func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetworkObject(ctx, tx, doors, "a") }))
		must(t, d.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			got, err := db.NetworkObjects(ctx, tx, doors)
			if want := []db.NetworkObject[door]{object("c", "blue")}; !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			return err
		}))
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
