// Package pause waits.
package pause

import (
	"context"
	"time"
)

// For waits for so long. It comes back earlier, with the error of ctx, if that
// ends.
func For(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
