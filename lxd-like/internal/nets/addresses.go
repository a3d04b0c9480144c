package nets

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/cuib/cuib/networks"
)

// An Address is what an instance, or the host, has on a managed network.
type Address struct {
	Name    string // The key of the instance; empty for the host.
	Address netip.Addr
}

// Addresses returns the addresses on a managed network that instances have for
// sure: those that it has given them, and those of IPv6 that they make of their
// MAC addresses. What guests call themselves is not told.
func (s *Service) Addresses(ctx context.Context, network string) ([]Address, error) {
	n, d, err := s.get(ctx, network)
	if err != nil {
		return nil, err
	}
	cfg, err := s.withHosts(ctx, n)
	if err != nil {
		return nil, err
	}
	leases, err := d.Leases(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("read the leases of network %q: %w", network, err)
	}
	var all []Address
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() {
			all = append(all, Address{"", f.Address.Addr()})
		}
	}
	known := map[string]string{}
	for _, h := range cfg.Hosts {
		known[strings.ToLower(h.MAC)] = h.Instance
	}
	for _, l := range leases {
		if name := known[strings.ToLower(l.Host.MAC)]; name != "" {
			all = append(all, Address{name, l.Address})
		}
	}
	for _, h := range cfg.Hosts {
		if a := networks.Autoconf(cfg.IPv6, h.MAC); a.IsValid() && !h.IPv6.IsValid() {
			all = append(all, Address{h.Instance, a})
		}
	}
	return all, nil
}
