package nets

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/announce"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// calm is how long the host's firewall is looked through at most once: those
// who write it do so in many steps.
const calm = time.Second

// silent is how often tables are looked at that change silently.
const silent = 3 * time.Second

// watchFirewall keeps what is known of foreign rules that drop what networks
// need, until ctx ends. It looks when rules or routes change, and when again is
// sent; and now and then where there are tables of iptables-legacy, whose
// changes nobody announces.
func (s *Service) watchFirewall(ctx context.Context, again <-chan struct{}) error {
	events := make(chan error, 1)
	rules, err := announce.Listen(events, unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return err
	}
	defer rules.Close()

	routes, err := announce.Listen(events, unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	defer routes.Close()

	networksChanged := true
	for {
		err := s.examine(ctx)
		if networksChanged {
			err = errors.Join(err, s.shutLost(ctx))
		}
		if err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot look through the host's firewall", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(calm):
		}
		if err != nil { // It may have changed while it was read.
			continue
		}
		if networksChanged, err = wake(ctx, events, again); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// wake waits until the host's firewall is to be looked through, and tells
// whether that is for networks that have changed.
func wake(ctx context.Context, events <-chan error, again <-chan struct{}) (networksChanged bool, err error) {
	tick := time.NewTicker(silent)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, nil
		case err := <-events:
			return false, err
		case <-again:
			return true, nil
		case <-tick.C:
			if firewall.HasLegacy() {
				return false, nil
			}
		}
	}
}

// examine looks through the host's firewall for all networks that go through
// it, and lets pass what is lost where that can be.
func (s *Service) examine(ctx context.Context) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	rules, unread, err := readFirewall(ctx)
	if err != nil {
		return err
	}
	s.leftUnread(ctx, unread)
	found := map[string][]firewall.Obstacle{}
	for _, n := range all {
		cfg, err := s.config(n)
		if n.Status != db.Ready || !netkeys.HasBridge(n.Type) || err != nil {
			continue // An error is told elsewhere.
		}
		if found[n.Name], err = s.through(ctx, rules, cfg); err != nil {
			return err
		}
	}
	s.mu.Lock()
	before := s.blocked
	s.blocked = found
	s.mu.Unlock()
	for name, some := range found {
		if known, ok := before[name]; !ok || !slices.Equal(known, some) {
			s.warn(ctx, name, some)
		}
	}
	return nil
}

// through returns what is lost of a network, after it was tried to let it pass.
func (s *Service) through(ctx context.Context, rules *firewall.Ruleset, cfg networks.Config) ([]firewall.Obstacle, error) {
	lost, err := obstacles(rules, cfg)
	if err != nil {
		return nil, err
	}
	tried, failed := s.open(ctx, cfg, lost)
	if failed != nil && tried {
		s.Log.ErrorContext(ctx, "cannot let a network through the host's firewall", "network", cfg.Key, "err", failed)
	}
	if tried && len(lost) > 0 {
		if rules, _, err = readFirewall(ctx); err == nil {
			lost, err = obstacles(rules, cfg)
		}
	}
	if tried {
		s.tried(cfg, lost, failed)
	}
	return lost, err
}

// readFirewall reads the rules of others. Unread are the programs that are
// missing for that.
func readFirewall(ctx context.Context) (rules *firewall.Ruleset, unread []string, err error) {
	rules, err = firewall.Read(nft.Ours)
	if err == nil {
		unread, err = rules.ReadLegacy(ctx)
	}
	return rules, unread, err
}

// leftUnread keeps the warning about rules that are not read.
func (s *Service) leftUnread(ctx context.Context, unread []string) {
	s.mu.Lock()
	known := slices.Equal(s.unread, unread)
	s.unread = unread
	s.mu.Unlock()
	switch {
	case len(unread) == 0:
		s.Warnings.Resolve(ctx, warnings.FirewallUnread, "")
	case !known:
		s.Warnings.Raise(ctx, warnings.FirewallUnread, "", describedUnread(unread))
	}
}

// describedUnread tells what is not read for want of programs, and the remedy.
func describedUnread(programs []string) string {
	return fmt.Sprintf("tables of iptables-legacy are in use that cannot be read without %s: whether they drop what networks need is not known. Remedy: install it (apt-get install iptables)", strings.Join(programs, " and "))
}

// Unread returns the programs that are missing to read all of the host's
// firewall.
func (s *Service) Unread() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unread)
}

func obstacles(rules *firewall.Ruleset, cfg networks.Config) ([]firewall.Obstacle, error) {
	packets, err := firewall.Needs(cfg)
	if err != nil {
		return nil, err
	}
	return rules.Obstacles(packets)
}

// warn raises or resolves the warning about what is dropped of a network.
func (s *Service) warn(ctx context.Context, name string, some []firewall.Obstacle) {
	if len(some) == 0 {
		s.Warnings.Resolve(ctx, warnings.NetworkBlocked, networkURL(name))
		return
	}
	text := described(name, some)
	s.Warnings.Raise(ctx, warnings.NetworkBlocked, networkURL(name), text)
	s.Log.WarnContext(ctx, "the host's firewall drops what a network needs", "network", name, "what", text)
}

// described tells what is dropped where, and the remedies.
func described(name string, some []firewall.Obstacle) string {
	var what, remedies []string
	for _, o := range some {
		what = append(what, o.String())
		if r := o.Remedy(project.Link(name)); !slices.Contains(remedies, r) {
			remedies = append(remedies, r)
		}
	}
	return fmt.Sprintf("%s. Remedy: %s", strings.Join(what, "; "), strings.Join(remedies, "; "))
}

// Obstacles returns what the host's firewall drops of what a network needs, as
// it was when its rules last changed.
func (s *Service) Obstacles(name string) []api.NetworkObstacle {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []api.NetworkObstacle{}
	for _, o := range s.blocked[name] {
		out = append(out, api.NetworkObstacle{
			What: o.Packet.What, Table: o.Where(), Chain: o.Chain, Rule: o.Rule, Owner: string(o.Owner), Remedy: o.Remedy(project.Link(name)),
		})
	}
	return out
}
