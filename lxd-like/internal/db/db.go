// Package db keeps the daemon's state in SQLite.
//
// Each entity has a file with its SQL: plain functions on a [Tx], so that a
// caller composes what must be atomic and nothing opens a transaction of its
// own. Nothing in it depends on SQLite beyond [OpenFile]: the same schema and
// statements work on dqlite, and the tests run on both.
package db

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Status is how far a record's resources have come.
type Status string

// The statuses. A record is Pending from before its resources are made until
// they are complete, and again from before they are removed, so that a daemon
// that finds it at its start knows what a crash left behind.
const (
	Pending Status = "pending"
	Ready   Status = "ready"
)

// An Engine is what differs between SQLite and its relatives.
type Engine struct {
	// Code returns the SQLite result code, extended where there is one, of
	// an error of the engine's driver.
	Code func(err error) (code int, ok bool)
}

// A DB is the daemon's database. Its methods are safe for concurrent use.
type DB struct {
	Admitter Admitter // Nil: all is admitted.

	write, read *sql.DB
	engine      Engine
	now         func() time.Time
	reserve     string // A file that keeps room for deletions; empty for none.
	journal     journal
}

// A Tx is a transaction. Its functions are in the files of the entities.
type Tx struct {
	tx     *sql.Tx
	engine Engine
	now    time.Time // The same for all that the transaction writes.

	admitter Admitter
	changed  []ProjectObject // What it has to admit.
	notes    []note          // For the journal.
}

// OpenFile opens the SQLite database at path, or makes it, and brings its
// schema up to date. Every change is on the disk when [DB.Do] returns.
func OpenFile(ctx context.Context, path string) (_ *DB, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	// Each connection would keep up to 2 MB of what the kernel keeps already. To
	// compile a statement takes several times as long as to run it, so those of
	// what is done often are kept.
	dsn := "file:" + path + "?_journal_mode=WAL&_synchronous=FULL&_foreign_keys=1&_busy_timeout=5000&_cache_size=-512&_stmt_cache_size=32"
	write, err := sql.Open("sqlite3", dsn+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// One writer: SQLite has no queue for them, and this is one.
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite3", dsn+"&_query_only=1")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(4)
	d, err := Open(ctx, write, Engine{Code: sqliteCode})
	if err != nil {
		return nil, errors.Join(err, write.Close(), read.Close())
	}
	d.read, d.reserve = read, filepath.Join(filepath.Dir(path), "reserve")
	if err := d.Restock(); err != nil {
		return nil, errors.Join(fmt.Errorf("keep room for deletions: %w", err), d.Close())
	}
	return d, nil
}

// Open brings the schema of an open database up to date.
func Open(ctx context.Context, conn *sql.DB, engine Engine) (*DB, error) {
	d := &DB{write: conn, read: conn, engine: engine, now: time.Now}
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var have int
	if err := conn.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return nil, fmt.Errorf("read the database's version: %w", err)
	}
	if have > len(names) {
		return nil, errs.Newf(errs.Unsupported, "the database is of version %d, made by a newer cuibd; this one knows up to %d", have, len(names))
	}
	for i, name := range names[have:] {
		if err := d.migrate(ctx, have+i+1, name); err != nil {
			return nil, fmt.Errorf("migrate to %s: %w", name, err)
		}
	}
	return d, nil
}

// Close closes the database.
func (d *DB) Close() error {
	if d.read == d.write {
		return d.write.Close()
	}
	return errors.Join(d.read.Close(), d.write.Close())
}

// Do runs fn in a transaction and commits it if fn returns nil. fn can run
// more than once, so it changes nothing else. Host work is never done in it.
//
// The end of ctx ends the wait for the transaction's turn. One that has begun
// is done in no time, and goes on: to be able to interrupt it costs a switch
// to another thread for each row.
func (d *DB) Do(ctx context.Context, fn func(context.Context, *Tx) error) error {
	crash.Point("before a write of the database")
	defer crash.Point("after a write of the database")
	return d.retry(ctx, d.write, fn)
}

// View is [DB.Do] for a transaction that only reads. It waits for no writer.
func (d *DB) View(ctx context.Context, fn func(context.Context, *Tx) error) error {
	return d.retry(ctx, d.read, fn)
}

func (d *DB) retry(ctx context.Context, conn *sql.DB, fn func(context.Context, *Tx) error) error {
	for delay := 50 * time.Millisecond; ; delay *= 2 {
		err := d.once(ctx, conn, fn)
		if d.isFull(err) && d.release(ctx) {
			err = d.once(ctx, conn, fn)
		}
		if err == nil || !d.retriable(err) || delay > time.Second {
			return d.room(classify(d.engine, err))
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(delay):
		}
	}
}

func (d *DB) once(ctx context.Context, pool *sql.DB, fn func(context.Context, *Tx) error) error {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // It goes back to the others.

	ctx = context.WithoutCancel(ctx)
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // Does nothing after Commit.

	t := &Tx{tx: tx, engine: d.engine, now: d.now().UTC(), admitter: d.Admitter}
	if err := fn(ctx, t); err != nil {
		return err
	}
	if err := t.admit(ctx); err != nil {
		return err
	}
	err = tx.Commit()
	d.journal.noted(t.notes) // Also if that is not known to have been done.
	return err
}

func (d *DB) migrate(ctx context.Context, version int, name string) error {
	stmts, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	return d.Do(ctx, func(ctx context.Context, tx *Tx) error {
		if _, err := tx.tx.ExecContext(ctx, string(stmts)); err != nil {
			return err
		}
		_, err = tx.tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}

// Now returns the transaction's time.
func (tx *Tx) Now() time.Time { return tx.now }

// query returns what scan makes of each row.
func query[T any](ctx context.Context, tx *Tx, scan func(*T) []any, q string, args ...any) ([]T, error) {
	rows, err := tx.tx.QueryContext(ctx, q, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()

	var all []T
	for rows.Next() {
		var t T
		if err := rows.Scan(scan(&t)...); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

// one is [query] for exactly one row; missing is its error if there is none.
func one[T any](ctx context.Context, tx *Tx, missing error, scan func(*T) []any, q string, args ...any) (T, error) { //nolint:revive // One more than query has.
	all, err := query(ctx, tx, scan, q, args...)
	if err == nil && len(all) == 0 {
		err = missing
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return all[0], nil
}

// exec runs a statement that must change at least one row; missing is its
// error if it changes none, and may be nil.
func exec(ctx context.Context, tx *Tx, missing error, q string, args ...any) error {
	res, err := tx.tx.ExecContext(ctx, q, args...)
	if err != nil {
		return classify(tx.engine, err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return missing
	}
	return nil
}

// insert runs an INSERT and returns the new row's id.
func insert(ctx context.Context, tx *Tx, q string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(ctx, q, args...)
	if err != nil {
		return 0, classify(tx.engine, err)
	}
	return res.LastInsertId()
}

// taken words err if it is that a name is in use already.
func taken(tx *Tx, err error, what, name string) error {
	if code, ok := tx.engine.Code(err); ok && code == codeConstraintUnique {
		return errs.Conflictf("%s %q exists already", what, name)
	}
	return err
}

// object returns m, or an empty map in place of nil, which would be stored
// as null.
func object[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// asJSON stores any value as JSON text.
type asJSON struct{ p any }

func (j asJSON) Scan(src any) error {
	text, ok := src.(string)
	if b, is := src.([]byte); is {
		text, ok = string(b), true
	}
	if !ok {
		return fmt.Errorf("JSON column holds %T", src)
	}
	if m, is := j.p.(*map[string]string); is {
		if *m, ok = flat(text); ok {
			return nil
		}
	}
	return json.Unmarshal([]byte(text), j.p)
}

func (j asJSON) Value() (sqldriver.Value, error) {
	data, err := json.Marshal(j.p)
	return string(data), err
}

// asTime stores a time as nanoseconds since 1970, the zero time as 0.
type asTime struct{ p *time.Time }

func (t asTime) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", src)
	}
	*t.p = time.Time{}
	if n != 0 {
		*t.p = time.Unix(0, n).UTC()
	}
	return nil
}

func (t asTime) Value() (sqldriver.Value, error) {
	if t.p.IsZero() {
		return int64(0), nil
	}
	return t.p.UnixNano(), nil
}

// SQLite's result codes, https://www.sqlite.org/rescode.html.
const (
	codeBusy                 = 5
	codeFull                 = 13
	codeConstraintForeignKey = 787
	codeConstraintPrimaryKey = 1555
	codeConstraintUnique     = 2067
)

// retriable reports whether the transaction that got err can succeed if it
// is run again.
func (d *DB) retriable(err error) bool {
	if errors.Is(err, sqldriver.ErrBadConn) {
		return true
	}
	code, ok := d.engine.Code(err)
	return ok && code&0xff == codeBusy
}

// isFull reports whether the disk had no room for a transaction.
func (d *DB) isFull(err error) bool {
	code, ok := d.engine.Code(err)
	return ok && code&0xff == codeFull
}

// classify gives the engine's errors their kind.
func classify(e Engine, err error) error {
	code, ok := e.Code(err)
	if !ok || errs.KindOf(err) != errs.Internal {
		return err
	}
	switch {
	case code == codeConstraintPrimaryKey || code == codeConstraintUnique:
		return errs.Newf(errs.Conflict, "exists already: %w", err)
	case code == codeConstraintForeignKey:
		return errs.Newf(errs.Conflict, "in use: %w", err)
	case code&0xff == codeFull:
		return errs.Newf(errs.Unavailable, "the disk that holds the daemon's database is full: %w", err)
	}
	return err
}

func sqliteCode(err error) (int, bool) {
	e, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return 0, false
	}
	if e.ExtendedCode != 0 {
		return int(e.ExtendedCode), true
	}
	return int(e.Code), true
}
