package proxies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/profiles"
)

// forwards are what nftables is to have for an instance.
func (s *Service) forwards(ctx context.Context, instance string) (list []networks.Published, near nft.Near, err error) {
	var all []*proxy
	for _, p := range s.of(instance) {
		if p.rule.NAT {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *proxy) int { return cmp.Compare(a.owner.Device, b.owner.Device) })
	for _, p := range all {
		for _, target := range s.targets(p) {
			some, around, err := s.leads(ctx, p.rule, target)
			if err != nil {
				return nil, near, fmt.Errorf("device %q: %w", p.owner.Device, err)
			}
			list = append(list, some...)
			near.Bridges = added(near.Bridges, p.rule.Bridge)
			near.Subnets = added(near.Subnets, around)
		}
	}
	return list, near, nil
}

// Leading returns which ports of the host lead to instances on a bridge.
func (s *Service) Leading(ctx context.Context, bridge string) (list []networks.Published, err error) {
	for instance, all := range s.forwarding() {
		for _, p := range all {
			if p.rule.Bridge != bridge {
				continue
			}
			for _, target := range s.targets(p) {
				some, _, err := s.leads(ctx, p.rule, target)
				if err != nil {
					return nil, fmt.Errorf("device %q of instance %q: %w", p.owner.Device, instance, err)
				}
				list = append(list, some...)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b networks.Published) int {
		return cmp.Or(a.Listen.Compare(b.Listen), cmp.Compare(a.First, b.First))
	})
	return list, nil
}

func added[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// leads is what leads to a target, behind gates if the rule says so, and which
// addresses reach the target without the host.
func (s *Service) leads(ctx context.Context, r Rule, target netip.Addr) ([]networks.Published, netip.Prefix, error) {
	some, err := forward(r, target)
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	if !r.Public && s.Admit != nil {
		some = s.Admit(ctx, some)
	}
	around, err := subnet(r.Bridge, target)
	return some, around, err
}

// forward is what leads from where a rule listens to a target.
func forward(r Rule, target netip.Addr) ([]networks.Published, error) {
	listen, err := profiles.ParseProxyAddress(r.Listen)
	if err != nil {
		return nil, err
	}
	connect, err := profiles.ParseProxyAddress(r.Connect)
	if err != nil {
		return nil, err
	}
	e := networks.Published{Listen: listen.Host, Protocol: protocol(listen.Kind)}
	switch {
	case listen.Host.IsValid():
	case target.Is6():
		e.Listen = netip.IPv6Unspecified()
	default:
		e.Listen = netip.IPv4Unspecified()
	}
	return e.Spread(target, listen.List(), connect.List()), nil
}

// subnet is which addresses reach one behind a bridge without the host.
func subnet(bridge string, target netip.Addr) (netip.Prefix, error) {
	alone := netip.PrefixFrom(target, target.BitLen())
	l, err := netlink.LinkByName(bridge)
	if err != nil {
		return alone, fmt.Errorf("bridge %s: %w", bridge, err)
	}
	all, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return alone, fmt.Errorf("bridge %s: %w", bridge, err)
	}
	for _, a := range all {
		addr, _ := netip.AddrFromSlice(a.IP)
		bits, _ := a.Mask.Size()
		if p := netip.PrefixFrom(addr.Unmap(), bits).Masked(); p.Contains(target) {
			return p, nil
		}
	}
	return alone, nil
}

// reflect has a bridge send back to an instance what comes from there and is
// forwarded to it. The bridge does that itself where the kernel filters
// bridges; else the host does, which is above it.
func (s *Service) reflect(bridge, name string) error {
	on, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	switch {
	case errors.Is(err, fs.ErrNotExist), name == "":
		return nil
	case err != nil:
		return err
	case strings.TrimSpace(string(on)) == "0":
		return nil
	}
	l, err := netlink.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil // It comes when the guest has booted.
	}
	if err == nil && l.Attrs().MasterIndex != 0 {
		err = netlink.LinkSetHairpin(l, true)
	}
	if err != nil {
		return fmt.Errorf("port %s of bridge %s: %w", name, bridge, err)
	}
	return nil
}

// applyNAT makes nftables have what an instance is to have.
func (s *Service) applyNAT(ctx context.Context, instance string) error {
	s.nat.Lock()
	defer s.nat.Unlock()
	list, near, err := s.forwards(ctx, instance)
	if err != nil {
		return err
	}
	return errors.Join(s.Forward.Apply(instance, list, near), s.reflectAll(instance))
}

func (s *Service) reflectAll(instance string) error {
	var failed error
	for _, p := range s.of(instance) {
		if p.rule.NAT {
			failed = errors.Join(failed, s.reflect(p.rule.Bridge, s.port(p)))
		}
	}
	return failed
}

// Run puts the rules of nftables back when somebody removes them, and has ports
// of bridges that come again be as they are to be, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	c := newChanges()
	c.listen(ctx, g)
	g.Go(func() error { return s.keepFollowing(ctx) })
	g.Go(func() error {
		var k keeper
		for {
			if err := s.repairNAT(ctx, c.take(), &k); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "cannot keep rules of proxies", "err", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-c.some:
			}
		}
	})
	return g.Wait()
}

// Refresh has the rules follow what is let in now.
func (s *Service) Refresh(ctx context.Context) error {
	var failed error
	for name := range s.forwarding() {
		failed = errors.Join(failed, s.applyNAT(ctx, name))
	}
	return failed
}

// A keeper is what who keeps rules has found out.
type keeper struct {
	bridges map[string]int  // With their numbers as links.
	failed  map[string]bool // The instances that are looked at again, whatever is announced.
}

// repairNAT applies again what is not as it was applied. It looks at those rules
// alone that what was announced is about.
func (s *Service) repairNAT(ctx context.Context, c changed, k *keeper) error {
	s.nat.Lock()
	defer s.nat.Unlock()
	if k.bridges == nil {
		k.bridges = map[string]int{}
	}
	again := k.failed
	k.failed = map[string]bool{}
	moved := map[string]bool{} // By bridge.
	var failed error
	for name, all := range s.forwarding() {
		mine, ports := c.lost || again[name] || c.tables[s.Forward.Table(name)], false
		for _, p := range all {
			b := p.rule.Bridge
			if _, asked := moved[b]; !asked {
				moved[b] = c.isMoved(b, k.bridges)
			}
			mine, ports = mine || moved[b], ports || c.links[s.port(p)] != 0
		}
		var err error
		if mine {
			err = s.repairOne(ctx, name)
		}
		if mine || ports {
			err = errors.Join(err, s.reflectAll(name))
		}
		if err != nil {
			k.failed[name] = true
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func (s *Service) repairOne(ctx context.Context, instance string) error {
	list, near, err := s.forwards(ctx, instance)
	intact := false
	if err == nil && len(list) > 0 {
		intact, err = s.Forward.Intact(instance, list, near)
	}
	if err == nil && !intact {
		err = s.Forward.Apply(instance, list, near)
	}
	return err
}

// forwarding are the rules of nftables, by instance.
func (s *Service) forwarding() map[string][]*proxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]*proxy{}
	for of, p := range s.all {
		if p.rule.NAT {
			out[of.Instance] = append(out[of.Instance], p)
		}
	}
	return out
}
