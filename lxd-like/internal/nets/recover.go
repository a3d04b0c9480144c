package nets

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/networks"
)

// Recover removes what a crash left half made or half removed, and makes the
// host follow the records again, after a boot or whatever else happened. The
// daemon calls it at its start, before it serves requests. A network that
// cannot be made is logged, and shown as errored; the others go on.
func (s *Service) Recover(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()

	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		d, err := s.driver(n.Type)
		switch {
		case err != nil:
		case n.Status == db.Ready:
			err = s.apply(ctx, n, d)
		default:
			err = s.discard(ctx, n, d)
		}
		if err != nil {
			s.Log.ErrorContext(ctx, "cannot recover a network", "network", n.Name, "err", err)
			s.setFailure(n.Name, err)
			s.Warnings.Raise(ctx, warnings.NetworkDown, networkURL(n.Name), err.Error())
		}
	}
	s.touch()
	return ctx.Err()
}

// Stop takes the networks from the host, whose instances have ended. The next
// daemon makes them again. [Service.Run] has ended.
func (s *Service) Stop(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()

	all, err := s.records(ctx)
	for _, n := range all {
		d, derr := s.driver(n.Type)
		stopper, can := d.(networks.Stopper)
		if derr != nil || !can || n.Status != db.Ready {
			continue
		}
		cfg, serr := s.whole(ctx, n)
		if serr == nil {
			serr = errors.Join(s.shut(ctx, n.Name), stopper.Stop(ctx, cfg))
		}
		if serr != nil {
			err = errors.Join(err, fmt.Errorf("stop network %q: %w", n.Name, serr))
		}
	}
	return err
}

// repair applies a network anew.
func (s *Service) repair(ctx context.Context, name string) error {
	s.change.Lock()
	defer s.change.Unlock()

	n, d, err := s.ready(ctx, name)
	if err != nil {
		return err
	}
	return s.apply(ctx, n, d)
}

// apply makes the host follow a record, and notes how that went. The caller
// holds change.
func (s *Service) apply(ctx context.Context, n db.Network, d networks.Driver) error {
	cfg, err := s.withHosts(ctx, n)
	if err == nil {
		err = d.Apply(ctx, cfg)
	}
	if err != nil {
		err = fmt.Errorf("apply network %q: %w", n.Name, err)
	}
	s.setFailure(n.Name, err)
	if err == nil {
		s.Warnings.Resolve(ctx, warnings.NetworkDown, networkURL(n.Name))
	}
	return err
}

// discard removes a network that was not finished, or is not wanted any more.
func (s *Service) discard(ctx context.Context, n db.Network, d networks.Driver) error {
	cfg, err := s.whole(ctx, n)
	if err != nil {
		return err
	}
	if err := d.Remove(ctx, cfg); err != nil {
		return fmt.Errorf("remove unfinished network %q: %w", n.Name, err)
	}
	return s.do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetwork(ctx, tx, n.Name) })
}

func (s *Service) records(ctx context.Context) (all []db.Network, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.Networks(ctx, tx)
		return err
	})
	return all, err
}

// Run puts networks right that are disturbed from outside, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	guards := map[string]*guard{}
	dirty := s.dirtied()
	again, changed, made := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	s.watches(ctx, &wg, "firewall", func() error { return s.watchFirewall(ctx, again) })
	s.watches(ctx, &wg, "interfaces", func() error { return s.watchAbsent(ctx, changed) })
	s.watches(ctx, &wg, "routes", func() error { return s.watchRoutes(ctx) })
	s.watches(ctx, &wg, "leases", func() error { return s.watchLeases(ctx, made) })
	wg.Go(func() { s.keepAliases(ctx) })
	wg.Go(func() { s.watchAddresses(ctx) })
	wg.Go(func() { s.watchArrivals(ctx) })
	for {
		if err := s.guardAll(ctx, guards, &wg); err != nil && ctx.Err() == nil {
			return err
		}
		if err := s.tellResolver(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		for _, c := range []chan struct{}{again, changed, made} {
			select {
			case c <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
		}
	}
}

// watches has something of the host be watched until ctx ends.
func (s *Service) watches(ctx context.Context, wg *sync.WaitGroup, what string, watch func() error) {
	wg.Go(func() {
		if err := watch(); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "something of the host is not watched", "what", what, "err", err)
		}
	})
}

// A guard watches one network as it was configured.
type guard struct {
	cfg    networks.Config
	cancel context.CancelFunc
}

// guardAll makes the guards be those of the networks as they are now.
func (s *Service) guardAll(ctx context.Context, guards map[string]*guard, wg *sync.WaitGroup) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	want := map[string]bool{}
	for _, n := range all {
		w, ok := s.Drivers[n.Type].(networks.Watcher)
		cfg, err := s.whole(ctx, n)
		if !ok || err != nil || n.Status != db.Ready {
			continue
		}
		want[n.Name] = true
		if g := guards[n.Name]; g != nil {
			if reflect.DeepEqual(g.cfg, cfg) {
				continue
			}
			g.cancel()
		}
		gctx, cancel := context.WithCancel(ctx)
		guards[n.Name] = &guard{cfg, cancel}
		wg.Go(func() { s.guard(gctx, w, cfg) })
		if speaker, ok := w.(networks.Speaker); ok {
			wg.Go(func() { s.speak(gctx, speaker, cfg) })
		}
	}
	for name, g := range guards {
		if !want[name] {
			g.cancel()
			delete(guards, name)
		}
	}
	return nil
}

// How long a guard waits before it repairs a network again: longer each time,
// if something disturbs it as often as it is repaired.
const (
	shortPause = 100 * time.Millisecond
	longPause  = time.Minute
)

// steady is how long a network has to be left alone for the next disturbance to
// be another one: who flushes rules every minute is no reason to repair late.
const steady = 3 * time.Second

// pauseAfter returns how long a guard waits after a repair, of a network that
// was intact for so long, and before which it has waited for last.
func pauseAfter(intact, last time.Duration) time.Duration {
	if intact > steady {
		return shortPause
	}
	return min(max(2*last, shortPause), longPause)
}

// guard repairs a network whenever something of it is missing, until ctx ends.
func (s *Service) guard(ctx context.Context, w networks.Watcher, cfg networks.Config) {
	var pause time.Duration
	for ctx.Err() == nil {
		began := time.Now()
		missing, err := w.Watch(ctx, cfg)
		if ctx.Err() != nil {
			return
		}
		pause = pauseAfter(time.Since(began), pause)
		if err != nil { // Nobody knows what of it is there.
			missing = err.Error()
		}
		if err := s.restore(ctx, cfg, missing); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot keep a network", "network", cfg.Key, "err", err)
			s.Warnings.Raise(ctx, warnings.NetworkDown, networkURL(cfg.Key), err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// restore applies a network of which something is missing, unless that is so
// because it was changed or removed meanwhile.
func (s *Service) restore(ctx context.Context, cfg networks.Config, missing string) error {
	s.change.Lock()
	defer s.change.Unlock()

	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		now, err := s.whole(ctx, n)
		if err != nil || n.Status != db.Ready || !reflect.DeepEqual(now, cfg) {
			continue
		}
		d, err := s.driver(n.Type)
		if err != nil {
			return err
		}
		s.Log.WarnContext(ctx, "network was disturbed, applying it again", "network", n.Name, "missing", missing)
		if err := s.apply(ctx, n, d); err != nil {
			return err
		}
		if s.Restored != nil {
			s.Restored(ctx, cfg.Name)
		}
		return nil
	}
	return nil
}
