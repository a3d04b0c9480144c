package transfer

import (
	"context"
	"fmt"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/tree"
)

// Diff calls fn with each change from one state of a volume to another, in no
// order. An error of fn ends it.
func Diff(ctx context.Context, d storage.Driver, from, to storage.Volume, fn func(storage.Change) error) error {
	if from.Parent() != to.Parent() {
		return errs.Invalidf("%s and %s are not states of the same volume", from, to)
	}
	err := diff(ctx, d, from, to, fn)
	if err != nil {
		return fmt.Errorf("compare %s with %s: %w", from, to, err)
	}
	return nil
}

func diff(ctx context.Context, d storage.Driver, from, to storage.Volume, fn func(storage.Change) error) error {
	if differ, ok := d.(storage.Differ); ok {
		return differ.Diff(ctx, from, to, fn)
	}
	return mounted(ctx, d, from, func(a string) error {
		return mounted(ctx, d, to, func(b string) error { return tree.Diff(ctx, a, b, fn) })
	})
}
