package nets

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Pin chooses addresses that a host is to be held to: those that it has, or
// those that DHCP has given it, or others that nobody has. They are its own
// until it is forgotten. A network without a family has none to choose.
func (s *Service) Pin(ctx context.Context, network string, h networks.Host, want networks.Pin) (networks.Host, error) {
	n, d, err := s.ready(ctx, network)
	if err != nil {
		return h, err
	}
	cfg, err := s.config(n)
	if err != nil {
		return h, err
	}
	p := pinning{s: s, network: n, host: h}
	p.others = sync.OnceValues(func() (others, error) { return s.others(ctx, n.Name, h, d, cfg) })
	for _, f := range []struct {
		name string
		want bool
		of   networks.Family
		to   *netip.Addr
	}{{"ipv4", want.Four, cfg.IPv4, &h.IPv4}, {"ipv6", want.Six, cfg.IPv6, &h.IPv6}} {
		had := *f.to
		*f.to = netip.Addr{}
		if !f.want || !f.of.Address.IsValid() {
			continue
		}
		if *f.to, err = p.choose(f.of, had); err != nil {
			return h, errs.Newf(errs.KindOf(err), "security.%s_filtering: %w", f.name, err)
		}
	}
	return h, nil
}

// A pinning is one call of Pin.
type pinning struct {
	s       *Service
	network db.Network
	host    networks.Host
	others  func() (others, error)
}

// others are the addresses that others have, and those that DHCP gave the host.
type others struct {
	taken  map[netip.Addr]bool
	leased []netip.Addr
}

func (p pinning) choose(f networks.Family, had netip.Addr) (netip.Addr, error) {
	if had.IsValid() && networks.CheckStatic(f, had) == nil && p.reserve(had, nil) {
		return had, nil
	}
	all, err := p.others()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all.leased {
		if networks.CheckStatic(f, a) == nil && p.reserve(a, all.taken) {
			return a, nil
		}
	}
	ranges := f.Ranges
	if len(ranges) == 0 {
		ranges = []networks.Range{{First: f.Address.Masked().Addr(), Last: networks.Last(f.Address)}}
	}
	var why error
	some := false // That could be its own, and are somebody's.
	for _, r := range ranges {
		for a := range candidates(r, p.host.MAC) {
			if err := networks.CheckStatic(f, a); err != nil {
				why = cmp.Or(why, err)
				continue
			}
			if p.reserve(a, all.taken) {
				return a, nil
			}
			some = true
		}
	}
	if some {
		why = errs.Newf(errs.Unavailable, "network %q has no free address", p.network.Name)
	}
	return netip.Addr{}, why
}

// tries is how many addresses are tried, at most.
const tries = 1 << 16

// candidates are the addresses of a range, from one on that is made of who
// asks: not all try the same ones.
func candidates(r networks.Range, mac string) func(func(netip.Addr) bool) {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(strings.ToLower(mac))) // It never fails.
	size := uint64(tries)
	first, last := r.First.AsSlice(), r.Last.AsSlice()
	low := len(first) - 2 // The last two bytes have all that are tried.
	span := uint64(last[low])<<8 + uint64(last[low+1]) - uint64(first[low])<<8 - uint64(first[low+1]) + 1
	if slices.Equal(first[:low], last[:low]) {
		size = span
	}
	start := sum.Sum64() % size
	return func(yield func(netip.Addr) bool) {
		for i := range size {
			n := uint64(first[low])<<8 + uint64(first[low+1]) + (start+i)%size
			raw := slices.Clone(first)
			raw[low], raw[low+1] = byte(n>>8), byte(n)
			if a, ok := netip.AddrFromSlice(raw); ok && !yield(a) {
				return
			}
		}
	}
}

func (s *Service) others(ctx context.Context, network string, h networks.Host, d networks.Driver, cfg networks.Config) (others, error) {
	recorded, err := s.recorded(ctx, network)
	if err != nil {
		return others{}, err
	}
	o := others{taken: map[netip.Addr]bool{}}
	for _, r := range recorded {
		if !strings.EqualFold(r.MAC, h.MAC) {
			o.taken[r.IPv4], o.taken[r.IPv6] = true, true
		}
	}
	leases, err := d.Leases(ctx, cfg)
	if err != nil {
		return others{}, fmt.Errorf("read the leases of network %q: %w", network, err)
	}
	for _, l := range leases {
		if strings.EqualFold(l.Host.MAC, h.MAC) {
			o.leased = append(o.leased, l.Address)
		} else {
			o.taken[l.Address] = true
		}
	}
	return o, nil
}

// reserve takes an address for the host, if it is nobody else's.
func (p pinning) reserve(a netip.Addr, taken map[netip.Addr]bool) bool {
	mac := strings.ToLower(p.host.MAC)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if taken[a] {
		return false
	}
	for _, o := range p.s.hosts[p.network.Name] {
		if !strings.EqualFold(o.MAC, mac) && (o.IPv4 == a || o.IPv6 == a) {
			return false
		}
	}
	if p.s.pins == nil {
		p.s.pins = map[string]map[netip.Addr]string{}
	}
	pins := p.s.pins[p.network.Name]
	if pins == nil {
		pins = map[netip.Addr]string{}
		p.s.pins[p.network.Name] = pins
	}
	if owner := pins[a]; owner != "" && owner != mac {
		return false
	}
	pins[a] = mac
	return true
}

// isPinned reports whether all addresses of a host are reserved for it.
func (s *Service) isPinned(network string, h networks.Host) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
		if a.IsValid() && s.pins[network][a] != strings.ToLower(h.MAC) {
			return false
		}
	}
	return true
}

// Release gives back what was reserved for a host, if the network has not been
// told of that.
func (s *Service) Release(network string, h networks.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.hosts[network][strings.ToLower(h.MAC)]; !known {
		s.unpin(network, h)
	}
}

// unpin gives back what was reserved for a host. The caller holds mu.
func (s *Service) unpin(network string, h networks.Host) {
	for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
		if s.pins[network][a] == strings.ToLower(h.MAC) {
			delete(s.pins[network], a)
		}
	}
}

// CheckClaim reports who else has what an instance is to have alone.
func (s *Service) CheckClaim(ctx context.Context, c networks.Claim) error {
	all, err := s.guests(ctx)
	if err != nil {
		return err
	}
	for _, in := range all {
		expanded := in.Expanded
		for _, name := range sortedKeys(expanded.Devices) {
			dev := expanded.Devices[name]
			if dev["type"] != "nic" || dev["network"] != "" || in.Name == c.Instance {
				continue
			}
			if err := conflicts(c, in.Name, dev, expanded.Options["volatile."+name+".hwaddr"]); err != nil {
				return err
			}
		}
	}
	return nil
}

func conflicts(c networks.Claim, instance string, dev profiles.Device, kept string) error {
	mac := dev["hwaddr"]
	if mac == "" {
		mac = kept
	}
	if c.MAC != "" && dev["parent"] == c.Parent && strings.EqualFold(mac, c.MAC) {
		return errs.Conflictf("hwaddr %s is taken on %s by instance %s", c.MAC, orHost(c.Parent), project.QuoteInstance(instance))
	}
	for _, option := range []string{"ipv4.address", "ipv6.address"} {
		for _, v := range profiles.SplitList(dev[option]) {
			text, _, _ := strings.Cut(v, "/")
			if a, err := netip.ParseAddr(text); err == nil && slices.Contains(c.Addresses, a) {
				return errs.Conflictf("address %s is taken by instance %s", a, project.QuoteInstance(instance))
			}
		}
	}
	return nil
}

func orHost(parent string) string {
	if parent == "" {
		return "the host"
	}
	return parent
}
