package pools

import (
	"context"
	"log/slog"
	"sync"

	"github.com/cuib/cuib/storage"
)

// A sweeper takes away, in the background, what earlier daemons left half
// made or half removed in pools. Its zero value is ready to use.
type sweeper struct {
	mu     sync.Mutex // Guards what follows.
	queue  []sweeping
	wake   chan struct{} // Of who waits for the queue to have something; nil for none.
	now    string        // The pool that is being swept.
	cancel context.CancelFunc
	done   chan struct{} // Closed when that has ended.

	dropped bool // That pool is not to be swept any more.
}

type sweeping struct {
	pool   string
	driver storage.Sweeper
}

// add has a pool be swept, if its driver leaves that to others.
func (w *sweeper) add(pool string, d storage.Driver) {
	s, ok := d.(storage.Sweeper)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, sweeping{pool: pool, driver: s})
	if w.wake != nil {
		close(w.wake)
		w.wake = nil
	}
}

// drop has a pool not be swept any more, and returns when it is not.
func (w *sweeper) drop(pool string) {
	w.mu.Lock()
	kept := w.queue[:0]
	for _, s := range w.queue {
		if s.pool != pool {
			kept = append(kept, s)
		}
	}
	w.queue = kept
	var done chan struct{}
	if w.now == pool && pool != "" {
		w.dropped, done = true, w.done
		if w.cancel != nil {
			w.cancel()
		}
	}
	w.mu.Unlock()
	if done != nil {
		<-done
	}
}

// run sweeps pools, one after the other, until ctx ends.
func (w *sweeper) run(ctx context.Context, log *slog.Logger) {
	for {
		s, ok := w.next(ctx)
		if !ok {
			return
		}
		err := w.sweep(ctx, s)
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "cannot remove what was left half made or half removed", "pool", s.pool, "err", err)
		}
	}
}

// sweep sweeps a pool, until it is dropped.
func (w *sweeper) sweep(ctx context.Context, s sweeping) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	w.cancel = cancel
	dropped := w.dropped
	w.mu.Unlock()

	var err error
	if !dropped {
		err = s.driver.Sweep(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dropped {
		err = nil
	}
	w.now, w.cancel = "", nil
	close(w.done)
	return err
}

// next waits for a pool to sweep.
func (w *sweeper) next(ctx context.Context) (sweeping, bool) {
	for {
		w.mu.Lock()
		if len(w.queue) > 0 {
			s := w.queue[0]
			w.queue = w.queue[1:]
			w.now, w.done, w.dropped = s.pool, make(chan struct{}), false
			w.mu.Unlock()
			return s, true
		}
		if w.wake == nil {
			w.wake = make(chan struct{})
		}
		wake := w.wake
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return sweeping{}, false
		case <-wake:
		}
	}
}
