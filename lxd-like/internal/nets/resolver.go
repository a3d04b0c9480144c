package nets

import (
	"context"
	"net/netip"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/resolved"
)

// A resolver lets programs of the host find the names of networks. It is
// [resolved.Registrar].
type resolver interface {
	Set(links []resolved.Link)
}

// tellResolver tells the host's resolver of the networks that there are.
func (s *Service) tellResolver(ctx context.Context) error {
	if s.Resolver == nil {
		return nil
	}
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	var links []resolved.Link
	for _, n := range all {
		cfg, err := s.config(n)
		if err != nil || n.Status != db.Ready || !netkeys.HasBridge(n.Type) || cfg.DNS.Mode == networks.DNSNone || cfg.DNS.Domain == "" {
			continue
		}
		l := resolved.Link{Name: cfg.Name, Domains: append([]string{cfg.DNS.Domain}, networks.ReverseDomains(cfg)...)}
		for _, p := range []netip.Prefix{cfg.IPv4.Address, cfg.IPv6.Address} {
			if p.IsValid() {
				l.Servers = append(l.Servers, p.Addr())
			}
		}
		if len(l.Servers) > 0 {
			links = append(links, l)
		}
	}
	s.Resolver.Set(links)
	return nil
}
