package nets

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/shared/project"
)

// countEvery is how often the addresses are counted that are left.
const countEvery = 20 * time.Second

// watchAddresses warns of networks that have no address left to give out, until
// ctx ends: a guest that gets none is told nothing.
func (s *Service) watchAddresses(ctx context.Context) {
	t := time.NewTicker(countEvery)
	defer t.Stop()
	for {
		if err := s.countAddresses(ctx); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot count the addresses of networks", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (s *Service) countAddresses(ctx context.Context) error {
	all, err := s.records(ctx)
	if err != nil {
		return err
	}
	for _, n := range all {
		cfg, err := s.config(n)
		if err != nil || n.Status != db.Ready || !netkeys.HasBridge(n.Type) || !cfg.IPv4.DHCP || !cfg.IPv4.Address.IsValid() || cfg.IPv4.Closed {
			s.Warnings.Resolve(ctx, warnings.NetworkFull, networkURL(n.Name))
			continue
		}
		d, err := s.driver(n.Type)
		if err != nil {
			return err
		}
		if cfg, err = s.withHosts(ctx, n); err != nil {
			return err
		}
		leases, err := d.Leases(ctx, cfg)
		if err != nil {
			return fmt.Errorf("read the leases of network %q: %w", n.Name, err)
		}
		if left, of := leftOf(cfg.IPv4, leases); left > 0 {
			s.Warnings.Resolve(ctx, warnings.NetworkFull, networkURL(n.Name))
		} else {
			s.Warnings.Raise(ctx, warnings.NetworkFull, networkURL(n.Name), fmt.Sprintf("network %s has given out all its %d addresses of IPv4: instances without one get none until leases end. Remedy: more in ipv4.dhcp.ranges, a larger ipv4.address, or a shorter ipv4.dhcp.expiry", project.Quote(n.Name), of))
		}
	}
	return nil
}

// leftOf counts the addresses that DHCP can give out still, of all those that it
// has.
func leftOf(f networks.Family, leases []networks.Lease) (left, of int) {
	own := map[netip.Addr]bool{f.Address.Addr(): true, f.Gateway: true}
	given := map[netip.Addr]bool{}
	for _, l := range leases {
		given[l.Address] = !own[l.Address]
	}
	for _, r := range dnsmasq.Ranges(f) {
		size := int(number(r.Last)-number(r.First)) + 1 - within(r, own)
		of += size
		left += size - within(r, given)
	}
	return left, of
}

// within counts those addresses that are in a range.
func within(r networks.Range, all map[netip.Addr]bool) (n int) {
	for a, counts := range all {
		if counts && a.Is4() && !a.Less(r.First) && !r.Last.Less(a) {
			n++
		}
	}
	return n
}

// number is an address of IPv4 as a number.
func number(a netip.Addr) uint32 {
	raw := a.As4()
	return binary.BigEndian.Uint32(raw[:])
}
