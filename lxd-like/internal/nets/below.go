package nets

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/shared/errs"
)

// Instances of other projects have names below the domain of a network. DHCP
// gives out none there, so that these follow the leases.

// isBelow notes a host, if it has such a name. The caller holds mu.
func (s *Service) isBelow(network string, h networks.Host) {
	if !hasBelow(h) {
		return
	}
	if s.below == nil {
		s.below = map[string]map[string][]netip.Addr{}
	}
	if s.below[network] == nil {
		s.below[network] = map[string][]netip.Addr{}
	}
}

func hasBelow(h networks.Host) bool { return strings.Contains(h.Name, ".") }

// watchLeases has names follow leases until ctx ends. It looks for networks that
// it does not watch yet when again is sent.
func (s *Service) watchLeases(ctx context.Context, again <-chan struct{}) error {
	w, err := dnsmasq.WatchLeases()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	given := make(chan struct{}, 1)
	go func() {
		for w.Next() == nil {
			select {
			case given <- struct{}{}:
			default:
			}
		}
	}()
	for ctx.Err() == nil {
		if err := w.Add(filepath.Join(s.Dir, "networks")); err != nil {
			return err
		}
		if err := s.FollowLeases(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "names of instances do not follow their addresses", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-given:
		case <-again:
		}
		select {
		case <-ctx.Done():
		case <-time.After(gather):
		}
	}
	return nil
}

// FollowLeases tells networks of the addresses of hosts with names below their
// domains, if those have others than they had.
func (s *Service) FollowLeases(ctx context.Context) error {
	s.mu.Lock()
	some := sortedKeys(s.below)
	s.mu.Unlock()
	for _, network := range some {
		if err := s.followLeases(ctx, network); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	return nil
}

func (s *Service) followLeases(ctx context.Context, network string) error {
	s.change.Lock()
	defer s.change.Unlock()

	n, d, err := s.ready(ctx, network)
	if err != nil {
		return err
	}
	cfg, err := s.withHosts(ctx, n)
	if err != nil {
		return err
	}
	leases, err := d.Leases(ctx, cfg)
	if err != nil {
		return err
	}
	now := map[string][]netip.Addr{}
	for _, l := range leases {
		if !l.Static {
			mac := strings.ToLower(l.Host.MAC)
			now[mac] = append(now[mac], l.Address)
		}
	}
	for _, h := range cfg.Hosts {
		mac := strings.ToLower(h.MAC)
		if !hasBelow(h) || slices.Equal(s.knownBelow(network, mac), now[mac]) {
			continue
		}
		if err := d.SetHost(ctx, cfg, h); err != nil {
			return err
		}
		s.mu.Lock()
		s.isBelow(network, h)
		s.below[network][mac] = now[mac]
		s.mu.Unlock()
	}
	return nil
}

func (s *Service) knownBelow(network, mac string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.below[network][mac]
}
