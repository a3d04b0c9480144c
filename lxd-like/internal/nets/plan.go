package nets

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// The values of an address that are none.
const (
	auto = "auto"
	none = "none"
)

// An occasion says when a configuration is completed.
type occasion int

const (
	created occasion = iota // What is not said has its default.
	updated                 // What is not said is not wanted.
)

// complete returns a network's configuration with addresses chosen where it
// leaves that to us.
func (s *Service) complete(n db.Network, when occasion) (map[string]string, error) {
	config := map[string]string{}
	for k, v := range n.Config {
		if v != "" {
			config[k] = v
		}
	}
	if !netkeys.HasBridge(n.Type) {
		return config, nil
	}
	nameOverlay(n, config)
	for _, f := range []struct {
		prefix string
		free   func([]netip.Prefix, func(int) int) (netip.Prefix, error)
		absent bool
	}{
		{"ipv4.", networks.FreeIPv4, false},
		{"ipv6.", networks.FreeIPv6, !s.Host.HasIPv6()},
	} {
		key := f.prefix + "address"
		if config[key] == "" {
			config[key] = none
			if when == created && !f.absent {
				config[key] = auto
			}
		}
		if config[key] != auto {
			continue
		}
		used, err := s.Host.Used(project.Link(n.Name))
		if err != nil {
			return nil, err
		}
		p, err := f.free(used, choice(n))
		if err != nil {
			return nil, err
		}
		config[key] = p.String()
		if config[f.prefix+"nat"] == "" {
			config[f.prefix+"nat"] = "true"
		}
	}
	return config, nil
}

// checkFree returns an error if a network that cfg has, and old had not,
// overlaps another that the host knows.
func (s *Service) checkFree(ctx context.Context, cfg, old networks.Config) error {
	had := networksOf(old)
	for _, p := range networksOf(cfg) {
		if slices.Contains(had, p) {
			continue
		}
		used, err := s.Host.Uses(cfg.Name)
		if err != nil {
			return err
		}
		all, err := s.records(ctx)
		if err != nil {
			return err
		}
		for _, u := range used {
			if networks.Overlaps([]netip.Prefix{u.Prefix}, p) {
				return errs.Conflictf("network %s overlaps %s, as this host has %s: give another, or \"auto\"", p, u.Prefix, by(all, u))
			}
		}
	}
	return nil
}

// networksOf are those that the host routes to a network.
func networksOf(cfg networks.Config) []netip.Prefix {
	var all []netip.Prefix
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() {
			all = append(all, f.Address.Masked())
		}
		all = append(all, f.Routes...)
	}
	return all
}

// checkStatics returns an error if a host has a static address that fits the
// configuration before and not the one after.
func (s *Service) checkStatics(ctx context.Context, network string, before, after networks.Config) error {
	hosts, err := s.recorded(ctx, network)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		for _, c := range []struct {
			addr     netip.Addr
			was, now networks.Family
		}{{h.IPv4, before.IPv4, after.IPv4}, {h.IPv6, before.IPv6, after.IPv6}} {
			if !c.addr.IsValid() || networks.CheckStatic(c.was, c.addr) != nil {
				continue
			}
			if err := networks.CheckStatic(c.now, c.addr); err != nil {
				return errs.Conflictf("cannot change network %q: instance %s has a static address on it: %w", network, project.QuoteInstance(h.Instance), err)
			}
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
