// Package locks has locks by name.
package locks

import (
	"context"
	"slices"
	"sync"
)

// Keyed are locks by name, which need no making and leave nothing behind. The
// zero value is ready to use.
type Keyed struct {
	mu   sync.Mutex // Guards held.
	held map[string]*lock
}

type lock struct {
	taken chan struct{} // Holds one value while the lock is held.
	users int           // Holders and waiters; guarded by Keyed.mu.
}

// Lock locks name and returns what unlocks it.
func (k *Keyed) Lock(name string) (unlock func()) {
	l := k.join(name)
	l.taken <- struct{}{}
	return func() { k.unlock(name, l) }
}

// LockContext is [Keyed.Lock] that returns an error if ctx ends first.
func (k *Keyed) LockContext(ctx context.Context, name string) (unlock func(), err error) {
	l := k.join(name)
	select {
	case l.taken <- struct{}{}:
		return func() { k.unlock(name, l) }, nil
	case <-ctx.Done():
		k.leave(name, l)
		return nil, context.Cause(ctx)
	}
}

// LockAll locks several names, in an order that is the same for all callers.
func (k *Keyed) LockAll(names ...string) (unlock func()) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	unlocks := make([]func(), 0, len(names))
	for _, name := range names {
		unlocks = append(unlocks, k.Lock(name))
	}
	return func() {
		for _, unlock := range slices.Backward(unlocks) {
			unlock()
		}
	}
}

func (k *Keyed) join(name string) *lock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[string]*lock{}
	}
	l := k.held[name]
	if l == nil {
		l = &lock{taken: make(chan struct{}, 1)}
		k.held[name] = l
	}
	l.users++
	return l
}

func (k *Keyed) unlock(name string, l *lock) {
	<-l.taken
	k.leave(name, l)
}

func (k *Keyed) leave(name string, l *lock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, name)
	}
}
