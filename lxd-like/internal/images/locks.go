package images

import (
	"context"
	"sync"
)

// keyedLocks are locks by name. The zero value is ready to use.
type keyedLocks struct {
	mu   sync.Mutex // Guards held.
	held map[string]*keyedLock
}

type keyedLock struct {
	taken chan struct{} // Holds one value while the lock is held.
	users int           // Holders and waiters; guarded by keyedLocks.mu.
}

// lock locks key and returns what unlocks it, or an error if ctx ends first.
func (k *keyedLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{taken: make(chan struct{}, 1)}
		k.held[key] = l
	}
	l.users++
	k.mu.Unlock()

	select {
	case l.taken <- struct{}{}:
		return func() { <-l.taken; k.leave(key, l) }, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, context.Cause(ctx)
	}
}

func (k *keyedLocks) leave(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
}
