package proxies

import (
	"context"
	"net/netip"
	"time"
)

// A Place is where an instance is in a network at the time.
type Place struct {
	Four, Six netip.Addr // Not valid for none.
	Port      string     // Of the bridge; empty if it is not known.
}

// targets are the addresses that a rule of nftables leads to now.
func (s *Service) targets(p *proxy) []netip.Addr {
	if p.rule.Target.IsValid() {
		return []netip.Addr{p.rule.Target}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.Addr
	for _, t := range []struct {
		want bool
		addr netip.Addr
	}{{p.rule.Four, p.place.Four}, {p.rule.Six, p.place.Six}} {
		if t.want && t.addr.IsValid() {
			out = append(out, t.addr)
		}
	}
	return out
}

// port is the port of the bridge that the target is connected to, as far as it
// is known.
func (s *Service) port(p *proxy) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.rule.Port == "" {
		return p.place.Port
	}
	return p.rule.Port
}

// follow looks where the instance of a rule is, and reports whether that is
// elsewhere than before. While it cannot be asked, as it reboots, it is taken
// to be where it was.
func (s *Service) follow(ctx context.Context, p *proxy) bool {
	if p.rule.Network == "" || s.Follow == nil {
		return false
	}
	now, err := s.Follow(ctx, p.owner.Instance, p.rule.Network)
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	moved := now != p.place
	p.place = now
	return moved
}

// How often it is looked where instances are: an instance that has just
// started gets its addresses soon, and others change theirs seldom. To look
// takes at most one part in many of the time.
const (
	lookSoon  = 100 * time.Millisecond
	lookAgain = 2 * time.Second
	lookYoung = time.Minute
	lookShare = 50
	lookLate  = 10 * time.Second // A guest that boots again, and is waited for, keeps others no longer.
)

// pauseAfter returns how long nobody looks after a look that took some time, at
// least the pause.
func pauseAfter(took, pause time.Duration) time.Duration {
	return max(pause, min(lookShare*took, lookLate))
}

// keepFollowing has rules lead to where their instances are, until ctx ends. One
// that has just begun is looked after without the others.
func (s *Service) keepFollowing(ctx context.Context) error {
	var all time.Time // When all are looked at.
	for {
		began := time.Now()
		whole := !began.Before(all)
		young := s.followSome(ctx, whole)
		took := time.Since(began)
		if whole {
			all = time.Now().Add(pauseAfter(took, lookAgain))
		}
		pause := time.Until(all)
		if young {
			pause = min(pause, pauseAfter(took, lookSoon))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		case <-s.starts():
		}
	}
}

// followSome has those rules that wait for addresses lead to where their instances
// are, or all of them, and reports whether some still wait.
func (s *Service) followSome(ctx context.Context, whole bool) (wait bool) { //nolint:revive // Not exported.
	waits := func(p *proxy) bool { return time.Since(p.since) < lookYoung && len(s.targets(p)) < wanted(p.rule) }
	for _, p := range s.following() {
		if !whole && !waits(p) {
			continue
		}
		if s.follow(ctx, p) {
			if err := s.applyNAT(ctx, p.owner.Instance); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "cannot publish ports", "instance", p.owner.Instance, "err", err)
			}
		}
		wait = wait || waits(p)
	}
	return wait
}

// starts has an element when a rule that follows has begun.
func (s *Service) starts() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun == nil {
		s.begun = make(chan struct{}, 1)
	}
	return s.begun
}

// wanted is how many addresses a rule that follows leads to in the end.
func wanted(r Rule) int {
	n := 0
	for _, on := range []bool{r.Four, r.Six} {
		if on {
			n++
		}
	}
	return n
}

// following are the rules that follow their instances.
func (s *Service) following() []*proxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*proxy
	for _, p := range s.all {
		if p.rule.NAT && p.rule.Network != "" {
			out = append(out, p)
		}
	}
	return out
}
