package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest/engines"
)

func TestDoRollsBack(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		boom := errors.New("boom")
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			if err := db.SetConfig(ctx, tx, "a", "1"); err != nil {
				return err
			}
			return boom
		})
		if !errors.Is(err, boom) {
			t.Fatalf("got %v", err)
		}
		if got := config(t, d); len(got) != 0 {
			t.Errorf("after a rollback: %v", got)
		}
	})
}

func TestTransactionsOfWhoHasGone(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		err := d.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			cancel()
			return db.SetConfig(ctx, tx, "a", "1")
		})
		if err != nil {
			t.Errorf("one that has begun: %v", err)
		}
		if got := config(t, d); got["a"] != "1" {
			t.Errorf("after one that has begun: %v", got)
		}
		err = d.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetConfig(ctx, tx, "a", "2") })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("one that has not begun: got %v", err)
		}
		if got := config(t, d); got["a"] != "1" {
			t.Errorf("after one that has not begun: %v", got)
		}
	})
}

func TestConfig(t *testing.T) {
	engines.Each(t, func(t *testing.T, d *db.DB) {
		for _, v := range []string{"1", "2"} {
			err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				return db.SetConfig(ctx, tx, "a", v)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := config(t, d); len(got) != 1 || got["a"] != "2" {
			t.Errorf("got %v", got)
		}
		err := d.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			return db.SetConfig(ctx, tx, "a", "")
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := config(t, d); len(got) != 0 {
			t.Errorf("after it was unset: %v", got)
		}
	})
}

func config(t *testing.T, d *db.DB) (all map[string]string) {
	t.Helper()
	err := d.View(t.Context(), func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.Config(ctx, tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
