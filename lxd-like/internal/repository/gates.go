package repository

import (
	"context"
	"math"
	"sync"

	"golang.org/x/sync/semaphore"
)

// gates are a readers-and-writers lock for each repository, in the order in
// which they are asked for: restic lets nothing else into a repository while
// it removes something or verifies it. The zero value is ready to use.
type gates struct {
	mu  sync.Mutex // Guards all.
	all map[string]*semaphore.Weighted
}

func (g *gates) enter(ctx context.Context, repository string, weight int64) (leave func(), err error) {
	g.mu.Lock()
	if g.all == nil {
		g.all = map[string]*semaphore.Weighted{}
	}
	gate := g.all[repository]
	if gate == nil {
		gate = semaphore.NewWeighted(math.MaxInt32)
		g.all[repository] = gate
	}
	g.mu.Unlock()
	if err := gate.Acquire(ctx, weight); err != nil {
		return nil, context.Cause(ctx)
	}
	return func() { gate.Release(weight) }, nil
}

// share is for who reads, or adds.
func (g *gates) share(ctx context.Context, repository string) (leave func(), err error) {
	return g.enter(ctx, repository, 1)
}

// own is for who wants to be alone.
func (g *gates) own(ctx context.Context, repository string) (leave func(), err error) {
	return g.enter(ctx, repository, math.MaxInt32)
}
