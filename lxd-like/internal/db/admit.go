package db

import (
	"context"
	"errors"
)

// An Admitter says whether what projects have may be as a transaction has made
// it. It is asked before the transaction is committed, and reads what there is
// then; what it refuses is undone. So no two transactions can each take what
// is left for one of them, and none goes by unasked.
type Admitter interface {
	// Watches reports whether there is anything to say of what a project has.
	Watches(o ProjectObject) bool
	// Admit is told of what the transaction has added or changed.
	Admit(ctx context.Context, tx *Tx, changed []ProjectObject) error
}

// Changed tells who admits that the transaction has added an object, or changed
// it. Functions that write rows call it; services call it for what has a say
// in it beyond that.
func (tx *Tx) Changed(kind, pool, key string) {
	o := ProjectObject{Kind: kind, Pool: pool, Key: key}
	if tx.admitter != nil && tx.admitter.Watches(o) {
		tx.changed = append(tx.changed, o)
	}
}

type admittedKey struct{}

// errTried ends a transaction that is not to be.
var errTried = errors.New("tried out")

// Admitted marks a change that nobody has a say in, as it only says what is so
// already, or was before: a recovery, or what takes a change back.
func Admitted(ctx context.Context) context.Context {
	return context.WithValue(ctx, admittedKey{}, true)
}

// admit asks who admits.
func (tx *Tx) admit(ctx context.Context) error {
	if len(tx.changed) == 0 || ctx.Value(admittedKey{}) != nil {
		return nil
	}
	return tx.admitter.Admit(ctx, tx, tx.changed)
}

// Allowed reports why an object cannot be added or changed, whatever it is like.
func (d *DB) Allowed(ctx context.Context, o ProjectObject) error {
	return d.Try(ctx, o, func(_ context.Context, tx *Tx) error {
		tx.Changed(o.Kind, o.Pool, o.Key)
		return nil
	})
}

// Try reports why a transaction that calls fn would not be admitted. It changes
// nothing, and does nothing unless somebody has a say in o.
func (d *DB) Try(ctx context.Context, o ProjectObject, fn func(context.Context, *Tx) error) error {
	if d.Admitter == nil || !d.Admitter.Watches(o) {
		return nil
	}
	var refused error
	err := d.retry(ctx, d.write, func(ctx context.Context, tx *Tx) error {
		refused = nil
		if err := fn(ctx, tx); err != nil {
			return err
		}
		refused = tx.admit(ctx)
		return errTried
	})
	if !errors.Is(err, errTried) {
		return err
	}
	return refused
}
