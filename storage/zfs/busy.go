package zfs

import (
	"context"
	"sync"
	"time"

	"github.com/cuib/cuib/shared/mounts"
)

// ZFS refuses to destroy, or to roll back, what anyone has mounted or sends, and
// to part with a zpool while any program looks at it. Much of that passes by
// itself: the kernel takes the mounts of a guest that has ended apart a little
// later, and what a driver does without being waited for is over soon. So all of
// that is tried for a while, and then done in another way, if there is one: what
// cannot be destroyed goes to the trash, and what cannot be rolled back gives way
// to a clone. To rename, clone, snapshot and promote ZFS refuses to nobody for
// that, but the latter, which is only done where it need not be.

// whileBusy calls fn again for a little while if it says that something is
// busy: for what can go to the trash if it stays so.
func whileBusy(ctx context.Context, fn func() error) error {
	return mounts.Patiently(ctx, 200*time.Millisecond, isBusy, fn)
}

// untilFree is whileBusy for what there is no other way for.
func untilFree(ctx context.Context, fn func() error) error {
	mounts.Settle()
	return mounts.Patiently(ctx, 10*time.Second, isBusy, fn)
}

// background is what drivers do without being waited for.
var background = works{of: map[string]*work{}}

// works are counted by the datasets of the pools.
type works struct {
	mu sync.Mutex
	of map[string]*work
}

type work struct {
	count int
	done  chan struct{}
}

// run runs fn without waiting for it.
func (w *works) run(root string, fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[root] == nil {
		w.of[root] = &work{done: make(chan struct{})}
	}
	w.of[root].count++
	go func() {
		defer w.end(root)
		fn()
	}()
}

func (w *works) end(root string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	of := w.of[root]
	if of.count--; of.count == 0 {
		close(of.done)
		delete(w.of, root)
	}
}

// wait waits until all is done that run has begun.
func (w *works) wait(ctx context.Context, root string) error {
	w.mu.Lock()
	of := w.of[root]
	w.mu.Unlock()
	if of == nil {
		return nil
	}
	select {
	case <-of.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
