package db_test

import (
	"context"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
)

func TestMentions(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		seed(t, d)
		mentions := func(text string) bool {
			return view(t, d, func(ctx context.Context, tx *db.Tx) (bool, error) { return db.Mentions(ctx, tx, text) })
		}
		if !mentions(`"a"`) || mentions(`"user.dns.aliases"`) {
			t.Error("an instance's keys")
		}
		change(t, d, func(ctx context.Context, tx *db.Tx) error {
			return db.AddProfile(ctx, tx, &db.Profile{Name: "named", Config: map[string]string{"user.dns.aliases": "db"}})
		})
		if !mentions(`"user.dns.aliases"`) {
			t.Error("a profile's keys")
		}
	})
}
