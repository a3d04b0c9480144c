// Package admission has what is published obey the host's own firewall.
//
// What comes for a published port is led into a network before the kernel asks
// the chains for what comes to the host itself, which would else let in what
// they refuse for any program of the host. So they are read, and followed for
// each port: only from where they let in is anything led on. The rest goes to
// the host as if nothing were published, and they refuse it themselves.
package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/announce"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/networks/nft"
)

// A Service knows from where the host's firewall lets in. Its methods are safe
// for concurrent use.
type Service struct {
	Host hostReader // host.Kernel{}.
	Log  *slog.Logger

	// Changed are told when others are let in than before.
	Changed []func(ctx context.Context) error

	mu    sync.Mutex // Guards what follows.
	gates map[firewall.Port]networks.Gate
	world *world // Nil if it is to be read.

	// unsure is since when what is published may be otherwise than the host's
	// firewall wants it, as that could not be read or somebody could not follow;
	// zero if it is not.
	unsure time.Time
}

// A hostReader reads the host's interfaces. It is [host.Kernel].
type hostReader interface {
	Links() ([]host.Link, error)
}

// world is what answers depend on.
type world struct {
	rules      *firewall.Ruleset
	interfaces []string
	addresses  []netip.Addr
}

// most is how many ports that follow each other are asked for one by one.
const most = 1024

// Admit puts what is published behind gates. If the host's firewall cannot be
// read, nothing is let in.
func (s *Service) Admit(ctx context.Context, list []networks.Published) []networks.Published {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []networks.Published
	for _, e := range list {
		some, err := s.admit(ctx, e)
		if err != nil {
			s.Log.ErrorContext(ctx, "cannot look through the host's firewall: a port is closed", "listen", e.Listen, "port", e.First, "err", err)
			e.Gate = networks.Gate{{}}
			some = []networks.Published{e}
			s.unsure = time.Now()
		}
		out = append(out, some...)
	}
	return out
}

// admit puts one behind its gate. What has a gate for each of the host's
// addresses becomes one for each, and ports whose gates are not the same
// others, too.
func (s *Service) admit(ctx context.Context, e networks.Published) ([]networks.Published, error) {
	if s.world == nil {
		if err := s.read(ctx); err != nil {
			return nil, err
		}
	}
	if !e.Listen.IsUnspecified() {
		return s.spread(e)
	}
	var all [][]networks.Published
	for _, a := range s.world.addresses {
		if a.Is4() != e.Listen.Is4() {
			continue
		}
		one := e
		one.Listen = a
		some, err := s.spread(one)
		if err != nil {
			return nil, err
		}
		all = append(all, some)
	}
	same := func(some []networks.Published) bool { return reflect.DeepEqual(gatesOf(some), gatesOf(all[0])) }
	if len(all) == 0 || slices.ContainsFunc(all, func(some []networks.Published) bool { return !same(some) }) {
		return slices.Concat(all...), nil
	}
	for i := range all[0] {
		all[0][i].Listen = e.Listen
	}
	return all[0], nil
}

func gatesOf(list []networks.Published) []networks.Gate {
	out := make([]networks.Gate, len(list))
	for i, e := range list {
		out[i] = e.Gate
	}
	return out
}

// spread puts the ports of e behind their gates.
func (s *Service) spread(e networks.Published) ([]networks.Published, error) {
	if e.Protocol == 0 || int(e.Last)-int(e.First) >= most {
		protocols := []uint8{e.Protocol}
		if e.Protocol == 0 {
			protocols = []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP}
		}
		for _, p := range protocols {
			gate, err := s.gate(firewall.Port{Listen: e.Listen, Proto: p})
			if err != nil || e.Protocol != 0 && len(protocols) == 1 {
				e.Gate = gate
				return []networks.Published{e}, err
			}
			if len(gate) > 0 {
				e.Gate = networks.Gate{{}} // Nobody knows what all that is.
			}
		}
		return []networks.Published{e}, nil
	}
	var out []networks.Published
	for number := int(e.First); number <= int(e.Last); number++ {
		gate, err := s.gate(firewall.Port{Listen: e.Listen, Proto: e.Protocol, Number: uint16(number)}) //nolint:gosec // It is between two ports.
		if err != nil {
			return nil, err
		}
		if n := len(out); n > 0 && slices.Equal(out[n-1].Gate, gate) {
			out[n-1].Last++
			continue
		}
		out = append(out, e.From(uint16(number))) //nolint:gosec // As above.
		last := &out[len(out)-1]
		last.Last, last.Gate = uint16(number), gate //nolint:gosec // As above.
	}
	return out, nil
}

func (s *Service) gate(p firewall.Port) (networks.Gate, error) {
	if g, ok := s.gates[p]; ok {
		return g, nil
	}
	g, err := s.world.rules.Admits(p, s.world.interfaces)
	if err == nil {
		s.gates[p] = g
	}
	return g, err
}

// read reads the host's firewall and interfaces anew.
func (s *Service) read(ctx context.Context) error {
	rules, err := firewall.Read(nft.Ours)
	if err != nil {
		return err
	}
	if firewall.HasLegacy() {
		if _, err := rules.ReadLegacy(ctx); err != nil {
			return err
		}
	}
	links, err := s.Host.Links()
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	w := &world{rules: rules}
	for _, l := range links {
		if l.Kind == "loopback" || l.Master != "" { // What comes by a port has come by its bridge.
			continue
		}
		w.interfaces = append(w.interfaces, l.Name)
		for _, p := range l.Addresses {
			if a := p.Addr(); !a.IsLinkLocalUnicast() {
				w.addresses = append(w.addresses, a)
			}
		}
	}
	s.world, s.gates = w, map[firewall.Port]networks.Gate{}
	return nil
}

// calm is how long it is looked through at most once what is let in: those who
// write rules do so in many steps.
const calm = 300 * time.Millisecond

// lookAgain is how often it is looked whether rules of iptables-legacy have
// changed, which nobody announces.
const lookAgain = 2 * time.Second

// retry is how long it takes until what has failed is tried again.
const retry = 3 * time.Second

// Run has what is published follow the host's firewall, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	events := make(chan error, 1)
	rules, err := announce.Listen(events, unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return err
	}
	defer rules.Close()

	links, err := announce.Listen(events, unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return err
	}
	defer links.Close()

	legacy := new(firewall.LegacyWatch)
	silent := announce.Silent{Every: lookAgain, Changed: func() bool { return legacy.Changed() || s.isDue() }}
	return announce.FollowAlso(ctx, events, calm, silent, func() {
		if err := s.review(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot look through the host's firewall", "err", err)
		}
	})
}

// isDue reports whether what has failed is to be tried again.
func (s *Service) isDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.unsure.IsZero() && time.Since(s.unsure) >= retry
}

// review tells those who want to know if others are let in than before. What
// fails of that is done again.
func (s *Service) review(ctx context.Context) error {
	if moved, err := s.moved(ctx); err != nil || !moved {
		return err
	}
	var failed []error
	for _, fn := range s.Changed {
		failed = append(failed, fn(ctx))
	}
	err := errors.Join(failed...)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unsure = time.Now()
	}
	return err
}

// moved reads all anew, and reports whether what was answered is not true any
// more.
func (s *Service) moved(ctx context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, old := s.gates, s.world
	moved := !s.unsure.IsZero()
	if len(before) == 0 && !moved {
		s.world = nil // It is read when somebody asks.
		return false, nil
	}
	s.unsure = time.Now()
	if err := s.read(ctx); err != nil {
		return false, err
	}
	moved = moved || !slices.Equal(old.addresses, s.world.addresses)
	for p, was := range before {
		is, err := s.gate(p)
		if err != nil {
			return false, err
		}
		moved = moved || !slices.Equal(was, is)
	}
	s.unsure = time.Time{}
	return moved, nil
}
