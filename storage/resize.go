package storage

import (
	"context"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
)

// A Counter is a [Driver] with limits that count something else than what
// Usage says of a volume without one, or that says it late.
type Counter interface {
	// Counted returns what a limit of the volume would count, with all that was
	// written until now.
	Counted(ctx context.Context, v Volume) (int64, error)
}

// MustFit returns an error of kind [errs.Invalid] if a volume holds more than
// size bytes, so that a limit of that size would leave no room, nor be true.
func MustFit(ctx context.Context, d Driver, v Volume, size int64) error {
	count := d.Usage
	if c, ok := d.(Counter); ok {
		count = c.Counted
	}
	used, err := count(ctx, v)
	if err != nil {
		return err
	}
	return fits(v, size, used)
}

// MustHaveFit is [MustFit] for a volume that was just made, and has the limit.
func MustHaveFit(ctx context.Context, d Driver, v Volume, size int64) error {
	used, err := d.Usage(ctx, v)
	if err != nil {
		return err
	}
	return fits(v, size, used)
}

func fits(v Volume, size, used int64) error {
	if size <= 0 || used <= size {
		return nil
	}
	return errs.Invalidf("size %s: volume %s holds %s already; give more, or remove files or snapshots",
		units.FormatBytes(size), v, units.FormatBytes(used))
}
