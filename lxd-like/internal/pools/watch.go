package pools

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// How often missing pools are looked for, and whether the others are there and
// have room.
const (
	lookEvery = 10 * time.Second
	roomEvery = time.Minute
)

// A watch is the state of [Service.Run]. Its zero value is ready to use.
type watch struct {
	look    sync.Mutex // Held while missing pools are looked for.
	mu      sync.Mutex // Guards what follows.
	running bool
	poked   chan struct{}
	full    map[string]int // How full the pools were, by the levels.
}

func (w *watch) runs() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running
}

// begin notes that Run runs, and returns what poke sends to.
func (w *watch) begin() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running, w.poked, w.full = true, make(chan struct{}, 1), map[string]int{}
	return w.poked
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
}

// poke has missing pools be looked for soon: somebody wants one.
func (w *watch) poke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.poked <- struct{}{}:
	default:
	}
}

// comingKey marks the context of what is called with a pool that appeared.
type comingKey struct{}

// Run opens pools that were missing when they appear, sweeps those that are
// opened, and logs which are full, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	poked := s.watch.begin()
	defer s.watch.end()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		s.sweeper.run(ctx, s.Log)
		return nil
	})
	g.Go(func() error {
		s.look(ctx, poked)
		return nil
	})
	return g.Wait()
}

func (s *Service) look(ctx context.Context, poked <-chan struct{}) {
	look, room := time.NewTicker(lookEvery), time.NewTicker(roomEvery)
	defer look.Stop()
	defer room.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poked:
			s.Look(ctx)
		case <-look.C:
			s.Look(ctx)
		case <-room.C:
			s.checkRoom(ctx)
		}
	}
}

// Look tries to open the pools that are missing, and calls Appears and
// Appeared with those that it can open. One looks at a time.
func (s *Service) Look(ctx context.Context) {
	s.watch.look.Lock()
	defer s.watch.look.Unlock()
	s.mu.Lock()
	missing := slices.Sorted(maps.Keys(s.state.missing))
	s.mu.Unlock()
	for _, pool := range missing {
		if ctx.Err() != nil {
			return
		}
		if !s.tryOpen(ctx, pool) {
			continue
		}
		s.Log.InfoContext(ctx, "storage pool is available again", "pool", pool)
		s.tell(context.WithValue(ctx, comingKey{}, pool), pool, s.Appears)
		s.mu.Lock()
		s.state.coming = ""
		s.mu.Unlock()
		s.tell(ctx, pool, s.Appeared)
	}
}

// tell calls functions with a pool.
func (s *Service) tell(ctx context.Context, pool string, fns []func(context.Context, string) error) {
	for _, fn := range fns {
		if err := fn(ctx, pool); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot take up what is in a storage pool", "pool", pool, "err", err)
		}
	}
}

// tryOpen opens a missing pool, if it is there by now, for Appears alone.
func (s *Service) tryOpen(ctx context.Context, pool string) bool {
	s.change.Lock()
	defer s.change.Unlock()
	p, err := s.record(ctx, pool)
	if err != nil || p.Status != db.Ready {
		return false
	}
	s.mu.Lock()
	_, still := s.state.missing[pool]
	s.state.coming = pool
	s.mu.Unlock()
	if still {
		if _, err = s.openPool(ctx, p); err == nil {
			return true
		}
		s.Log.DebugContext(ctx, "storage pool is still missing", "pool", pool, "err", err)
	}
	s.mu.Lock()
	s.state.coming = ""
	s.mu.Unlock()
	return false
}

// spaces returns the room of the open pools, and has those be missing that
// are not there any more.
func (s *Service) spaces(ctx context.Context) map[string]storage.Space {
	s.mu.Lock()
	open := maps.Clone(s.state.open)
	s.mu.Unlock()
	out := map[string]storage.Space{}
	for pool, d := range open {
		spacer, ok := d.(storage.Spacer)
		if !ok {
			continue
		}
		space, err := spacer.Space(ctx)
		if err == nil {
			out[pool] = space
		} else if errs.Is(err, errs.Unavailable) {
			s.lose(ctx, pool, d, err)
		}
	}
	return out
}

// lose notes that a pool that was open is missing.
func (s *Service) lose(ctx context.Context, pool string, d storage.Driver, err error) {
	s.mu.Lock()
	same := s.state.open[pool] == d
	if same {
		s.state.set(pool, nil, fmt.Errorf("storage pool %q: %w", pool, err))
	}
	s.mu.Unlock()
	if same {
		s.Log.WarnContext(ctx, "storage pool is not available any more", "pool", pool, "err", err)
		s.Warnings.Raise(ctx, warnings.PoolAway, url(pool), err.Error())
	}
}

// levels are the percentages from which on pools are called full.
var levels = []int{80, 90, 95}

// relief is how much less a pool must hold to be called so no more.
const relief = 2

// checkRoom logs which pools have become full, or are so no more.
func (s *Service) checkRoom(ctx context.Context) {
	spaces := s.spaces(ctx)
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	for pool, space := range spaces {
		before := s.watch.full[pool]
		after := level(space, before)
		s.watch.full[pool] = after
		log := s.Log.With("pool", pool, "used", percent(space.UsedBytes, space.TotalBytes),
			"used_inodes", percent(space.UsedInodes, space.TotalInodes), "free_bytes", space.FreeBytes)
		if after == 0 {
			s.Warnings.Resolve(ctx, warnings.PoolFull, url(pool))
		}
		switch {
		case after > before:
			logFull(ctx, log, after)
			s.Warnings.Raise(ctx, warnings.PoolFull, url(pool), fmt.Sprintf("%d%% of the storage pool %q is used: %d bytes are free", after, pool, space.FreeBytes))
		case after < before:
			log.InfoContext(ctx, "storage pool has room again")
		}
	}
}

func logFull(ctx context.Context, log *slog.Logger, level int) {
	if level == levels[len(levels)-1] {
		log.ErrorContext(ctx, "storage pool is nearly full", "level", level)
		return
	}
	log.WarnContext(ctx, "storage pool is filling up", "level", level)
}

// level returns the highest level that a pool, which was at the level before,
// has reached; 0 for none.
func level(space storage.Space, before int) int {
	used := max(percent(space.UsedBytes, space.TotalBytes), percent(space.UsedInodes, space.TotalInodes))
	reached := 0
	for _, l := range levels {
		if used >= l || l <= before && used > l-relief {
			reached = l
		}
	}
	return reached
}

// percent returns how much of the whole the part is; 0 if that has no limit.
func percent(part, whole uint64) int {
	if whole == 0 {
		return 0
	}
	return int(float64(part) / float64(whole) * 100)
}
