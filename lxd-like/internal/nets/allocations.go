package nets

import (
	"context"
	"net/netip"
	"net/url"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
)

// What of a network has an address of its own, by which others can have it.
const (
	forwards  db.PartKind[struct{}] = "network forward"
	balancers db.PartKind[struct{}] = "network load balancer"
)

// Allocations returns the addresses that managed networks have, and those who
// are on them: those of a network that cannot tell them are left out.
func (s *Service) Allocations(ctx context.Context) ([]api.NetworkAllocation, error) {
	records, err := s.records(ctx)
	if err != nil {
		return nil, err
	}
	all := []api.NetworkAllocation{}
	for _, n := range records {
		if n.Status != db.Ready {
			continue
		}
		own, err := s.allocated(ctx, n)
		if err != nil {
			s.Log.WarnContext(ctx, "cannot tell the addresses of a network", "network", n.Name, "err", err)
			continue
		}
		parts, err := s.published(ctx, n.Name)
		if err != nil {
			return nil, err
		}
		all = append(append(all, own...), parts...)
	}
	return all, nil
}

// allocated are the addresses of a network and of the instances on it.
func (s *Service) allocated(ctx context.Context, n db.Network) ([]api.NetworkAllocation, error) {
	cfg, err := s.config(n)
	if err != nil {
		return nil, err
	}
	var all []api.NetworkAllocation
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() {
			all = append(all, api.NetworkAllocation{Address: f.Address.String(), UsedBy: networkURL(n.Name), Type: "network", NAT: f.NAT, Network: n.Name})
		}
	}
	leases, err := s.given(ctx, n)
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if l.Host.Instance == "" {
			continue
		}
		nat := cfg.IPv4.NAT
		if l.Address.Is6() {
			nat = cfg.IPv6.NAT
		}
		all = append(all, api.NetworkAllocation{
			Address: netip.PrefixFrom(l.Address, l.Address.BitLen()).String(), UsedBy: instanceURL(l.Host.Instance),
			Type: "instance", NAT: nat, Hwaddr: l.Host.MAC, Network: n.Name,
		})
	}
	return all, nil
}

// published are the addresses that a network has of the host.
func (s *Service) published(ctx context.Context, network string) (all []api.NetworkAllocation, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, k := range []struct {
			kind      db.PartKind[struct{}]
			typ, path string
		}{{forwards, "network-forward", "/forwards/"}, {balancers, "network-load-balancer", "/load-balancers/"}} {
			parts, err := db.NetworkParts(ctx, tx, k.kind, network)
			if err != nil {
				return err
			}
			for _, p := range parts {
				address := p.Name
				if a, err := netip.ParseAddr(p.Name); err == nil {
					address = netip.PrefixFrom(a, a.BitLen()).String()
				}
				all = append(all, api.NetworkAllocation{Address: address, UsedBy: networkURL(network) + k.path + url.PathEscape(p.Name), Type: k.typ, Network: network})
			}
		}
		return nil
	})
	return all, err
}

// given are the addresses that a network has given out, and those that
// instances make of their MAC addresses. A host that only calls itself so is no
// instance.
func (s *Service) given(ctx context.Context, n db.Network) ([]networks.Lease, error) {
	d, err := s.driver(n.Type)
	if err != nil {
		return nil, err
	}
	cfg, err := s.withHosts(ctx, n)
	if err != nil {
		return nil, err
	}
	leases, err := d.Leases(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var all []networks.Lease
	has := map[netip.Addr]bool{}
	for _, l := range leases {
		has[l.Address] = true
		all = append(all, l)
	}
	for _, h := range cfg.Hosts {
		if a := networks.Autoconf(cfg.IPv6, h.MAC); a.IsValid() && !h.IPv6.IsValid() && !has[a] {
			all = append(all, networks.Lease{Host: h, Address: a})
		}
	}
	return all, nil
}
