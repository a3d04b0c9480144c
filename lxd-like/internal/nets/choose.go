package nets

import (
	"context"
	"net/netip"

	"github.com/cuib/cuib/networks"
)

// Choose returns which of the addresses that an instance has it is to be
// reached at in a network: the first of each family there that is not reserved
// for another.
func (s *Service) Choose(ctx context.Context, network, instance string, addresses []netip.Prefix) (four, six netip.Addr, err error) {
	n, _, err := s.get(ctx, network)
	if err != nil {
		return four, six, err
	}
	cfg, err := s.config(n)
	if err != nil {
		return four, six, err
	}
	for _, p := range addresses {
		a := p.Addr()
		f, to, h := cfg.IPv4, &four, networks.Host{Instance: instance, IPv4: a}
		if a.Is6() {
			f, to, h = cfg.IPv6, &six, networks.Host{Instance: instance, IPv6: a}
		}
		if to.IsValid() || !f.Address.IsValid() || !f.Address.Masked().Contains(a) || a == f.Address.Addr() || s.checkKnown(network, h) != nil {
			continue
		}
		*to = a
	}
	return four, six, nil
}
