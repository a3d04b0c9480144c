package db

import (
	"context"
	"time"
)

// Schedules returns when each thing that is done by the clock, and whose name
// begins with prefix, was last done.
func Schedules(ctx context.Context, tx *Tx, prefix string) (map[string]time.Time, error) {
	type schedule struct {
		what string
		done time.Time
	}
	scan := func(s *schedule) []any { return []any{&s.what, asTime{&s.done}} }
	all, err := query(ctx, tx, scan, "SELECT what, done FROM schedules WHERE substr(what, 1, ?) = ?", len(prefix), prefix)
	out := make(map[string]time.Time, len(all))
	for _, s := range all {
		out[s.what] = s.done
	}
	return out, err
}

// SetSchedule notes when a thing was last done.
func SetSchedule(ctx context.Context, tx *Tx, what string, done time.Time) error {
	return exec(ctx, tx, nil, "INSERT INTO schedules (what, done) VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET done = excluded.done",
		what, asTime{&done})
}

// DeleteSchedule forgets that a thing was ever done.
func DeleteSchedule(ctx context.Context, tx *Tx, what string) error {
	return exec(ctx, tx, nil, "DELETE FROM schedules WHERE what = ?", what)
}
