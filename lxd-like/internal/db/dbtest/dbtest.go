// Package dbtest makes databases for tests.
package dbtest

import (
	"path/filepath"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
)

// New returns an empty database, which goes away with the test.
func New(tb testing.TB) *db.DB {
	tb.Helper()
	d, err := db.OpenFile(tb.Context(), filepath.Join(tb.TempDir(), "cuib.db"))
	must(tb, err)
	tb.Cleanup(func() { must(tb, d.Close()) })
	return d
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
