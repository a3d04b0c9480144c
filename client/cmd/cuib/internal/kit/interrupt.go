package kit

import (
	"context"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Interruptible returns a context that ends when the user interrupts. After
// stop an interrupt ends the program again.
func Interruptible(ctx context.Context) (_ context.Context, stop context.CancelFunc) {
	return signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
}
