package db

import (
	"context"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

// Warning is a row of the warnings table.
type Warning struct {
	ID          int64
	UUID        string
	Type        string
	Entity      string // The path of the object in the API; empty for the server.
	Severity    string
	Status      string
	Message     string // The last one.
	Count       int
	First, Last time.Time
}

const warningColumns = "SELECT id, uuid, type, entity, severity, status, message, count, first, last FROM warnings"

func scanWarning(w *Warning) []any {
	return []any{&w.ID, &w.UUID, &w.Type, &w.Entity, &w.Severity, &w.Status, &w.Message, &w.Count, asTime{&w.First}, asTime{&w.Last}}
}

func noWarning(uuid string) error { return errs.NotFoundf("warning %q not found", uuid) }

// Warnings returns all warnings, the first that was seen first.
func Warnings(ctx context.Context, tx *Tx) ([]Warning, error) {
	return query(ctx, tx, scanWarning, warningColumns+" ORDER BY first, id")
}

// GetWarning returns the warning with the UUID.
func GetWarning(ctx context.Context, tx *Tx, uuid string) (Warning, error) {
	return one(ctx, tx, noWarning(uuid), scanWarning, warningColumns+" WHERE uuid = ?", uuid)
}

// FindWarning returns the warning of a type about an object.
func FindWarning(ctx context.Context, tx *Tx, typ, entity string) (Warning, error) {
	return one(ctx, tx, errs.NotFoundf("there is no warning of the type %q about %q", typ, entity),
		scanWarning, warningColumns+" WHERE type = ? AND entity = ?", typ, entity)
}

// PutWarning adds a row, or sets that of the same type and entity. Its time is
// the transaction's; the first one stays, and so does the UUID.
func PutWarning(ctx context.Context, tx *Tx, w Warning) error {
	now := tx.Now()
	return exec(
		ctx, tx, nil, "INSERT INTO warnings (uuid, type, entity, severity, status, message, count, first, last) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "+
			"ON CONFLICT (type, entity) DO UPDATE SET severity = excluded.severity, status = excluded.status, message = excluded.message, "+
			"count = excluded.count, last = excluded.last",
		w.UUID, w.Type, w.Entity, w.Severity, w.Status, w.Message, w.Count, asTime{&now}, asTime{&now},
	)
}

// SetWarningStatus sets the status of a warning.
func SetWarningStatus(ctx context.Context, tx *Tx, uuid, status string) error {
	return exec(ctx, tx, noWarning(uuid), "UPDATE warnings SET status = ? WHERE uuid = ?", status, uuid)
}

// DeleteWarning deletes a warning.
func DeleteWarning(ctx context.Context, tx *Tx, uuid string) error {
	return exec(ctx, tx, noWarning(uuid), "DELETE FROM warnings WHERE uuid = ?", uuid)
}

// DeleteWarnings deletes those with a status that were last seen before a time.
func DeleteWarnings(ctx context.Context, tx *Tx, status string, before time.Time) error {
	return exec(ctx, tx, nil, "DELETE FROM warnings WHERE status = ? AND last < ?", status, asTime{&before})
}

// DeleteWarningsOf deletes those about an object.
func DeleteWarningsOf(ctx context.Context, tx *Tx, entity string) error {
	return exec(ctx, tx, nil, "DELETE FROM warnings WHERE entity = ?", entity)
}
