package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"testing"

	"github.com/mattn/go-sqlite3"

	"github.com/cuib/cuib/lxd-like/internal/db"
)

// NewFaulty is [New] with a step before the first change of each transaction: if
// that fails, so does the transaction.
func NewFaulty(tb testing.TB, step func(name string) error) *db.DB {
	tb.Helper()
	conn := sql.OpenDB(connector{filepath.Join(tb.TempDir(), "cuib.db"), step})
	d, err := db.Open(tb.Context(), conn, db.Engine{Code: sqliteCode})
	must(tb, err)
	tb.Cleanup(func() { must(tb, d.Close()) })
	return d
}

func sqliteCode(err error) (int, bool) {
	e, ok := errors.AsType[sqlite3.Error](err)
	return int(e.ExtendedCode), ok
}

// A connector opens connections to a file.
type connector struct {
	path string
	step func(name string) error
}

func (connector) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	// Nothing is to outlive the test, so nothing needs to be on the disk.
	inner, err := c.Driver().Open("file:" + c.path + "?_journal_mode=WAL&_synchronous=OFF&_foreign_keys=1&_busy_timeout=5000")
	if err != nil {
		return nil, err
	}
	own, ok := inner.(*sqlite3.SQLiteConn)
	if !ok {
		return nil, errors.Join(errors.New("not a connection to SQLite"), inner.Close())
	}
	return &connection{SQLiteConn: own, step: c.step}, nil
}

// A connection notes whether its transaction has changed something.
type connection struct {
	*sqlite3.SQLiteConn

	step    func(name string) error
	changed bool
}

// ExecContext is what all that changes something is done with.
func (c *connection) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if !c.changed {
		if err := c.step("write the database"); err != nil {
			return nil, err
		}
	}
	c.changed = true
	return c.SQLiteConn.ExecContext(ctx, query, args)
}

// BeginTx begins a transaction that can fail.
func (c *connection) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.changed = false
	return c.SQLiteConn.BeginTx(ctx, opts)
}
