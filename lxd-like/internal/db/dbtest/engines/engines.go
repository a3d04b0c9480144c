// Package engines makes databases of each engine for tests.
package engines

import (
	"errors"
	"net"
	"testing"

	"github.com/canonical/go-dqlite"
	"github.com/canonical/go-dqlite/app"
	"github.com/canonical/go-dqlite/driver"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
)

// go-dqlite, as soon as it is imported, has the SQLite of the whole process be for
// one thread, and what others do then fails at random. This is done before any
// database is opened.
var errThreads = dqlite.ConfigMultiThread()

// Each runs fn on an empty database of each engine: SQLite, and a dqlite
// cluster of one.
func Each(t *testing.T, fn func(*testing.T, *db.DB)) {
	t.Helper()
	must(t, errThreads)
	t.Run("sqlite", func(t *testing.T) { fn(t, dbtest.New(t)) })
	t.Run("dqlite", func(t *testing.T) { fn(t, newDqlite(t)) })
}

func newDqlite(tb testing.TB) *db.DB {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	must(tb, err)
	addr := l.Addr().String()
	must(tb, l.Close())

	node, err := app.New(tb.TempDir(), app.WithAddress(addr))
	must(tb, err)
	tb.Cleanup(func() { must(tb, node.Close()) })
	must(tb, node.Ready(tb.Context()))
	conn, err := node.Open(tb.Context(), "cuib")
	must(tb, err)
	conn.SetMaxOpenConns(1)
	d, err := db.Open(tb.Context(), conn, db.Engine{Code: code})
	must(tb, err)
	tb.Cleanup(func() { must(tb, d.Close()) })
	return d
}

func code(err error) (int, bool) {
	e, ok := errors.AsType[driver.Error](err)
	return e.Code, ok
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
