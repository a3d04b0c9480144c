package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/cuib/cuib/lxd-like/internal/db"
)

// Reads counts what a database is asked.
type Reads struct{ queries, rows atomic.Int64 }

// Of returns how many queries fn makes, and how many rows those have.
func (r *Reads) Of(fn func()) (queries, rows int64) {
	queries, rows = r.queries.Load(), r.rows.Load()
	fn()
	return r.queries.Load() - queries, r.rows.Load() - rows
}

// NewCounting is [New] with a count of what is read.
func NewCounting(tb testing.TB) (*db.DB, *Reads) {
	tb.Helper()
	reads := &Reads{}
	conn := sql.OpenDB(counter{filepath.Join(tb.TempDir(), "cuib.db"), reads})
	d, err := db.Open(tb.Context(), conn, db.Engine{Code: sqliteCode})
	must(tb, err)
	tb.Cleanup(func() { must(tb, d.Close()) })
	return d, reads
}

// A counter opens connections to a file that count.
type counter struct {
	path  string
	reads *Reads
}

func (counter) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func (c counter) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := connector{c.path, func(string) error { return nil }}.Connect(ctx)
	if err != nil {
		return nil, err
	}
	own, ok := inner.(*connection)
	if !ok {
		return nil, errors.Join(errors.New("not a connection to SQLite"), inner.Close())
	}
	return &countingConn{own, c.reads}, nil
}

type countingConn struct {
	*connection

	reads *Reads
}

// QueryContext is what all that is read is read with.
func (c *countingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.reads.queries.Add(1)
	rows, err := c.connection.QueryContext(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return countingRows{rows, c.reads}, nil
}

type countingRows struct {
	driver.Rows

	reads *Reads
}

func (r countingRows) Next(to []driver.Value) error {
	err := r.Rows.Next(to)
	if err == nil {
		r.reads.rows.Add(1)
	}
	return err
}
