package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// ofNetwork marks the routes that a network has, and no NIC on it. It is a
// number that nobody has in rt_protos of iproute2.
const ofNetwork netlink.RouteProtocol = 93

// applyRoutes makes the host route the networks behind guests to the bridge,
// which is up, and no others any more.
func applyRoutes(l netlink.Link, cfg networks.Config) error {
	have, err := routesOf(l)
	if err != nil {
		return err
	}
	want := slices.Concat(cfg.IPv4.Routes, cfg.IPv6.Routes)
	for _, r := range have {
		if i := slices.Index(want, dst(r)); i >= 0 {
			want = slices.Delete(want, i, i+1)
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove the route to %s: %w", r.Dst, err)
		}
	}
	for _, p := range want {
		r := netlink.Route{LinkIndex: l.Attrs().Index, Protocol: ofNetwork, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		err := netlink.RouteAdd(&r)
		if errors.Is(err, unix.EEXIST) {
			return errs.Conflictf("the host has a route to %s already: take it out of ipv4.routes and ipv6.routes, or away from the host", p)
		}
		if err != nil {
			return fmt.Errorf("add a route to %s: %w", p, err)
		}
	}
	return nil
}

// routed reports whether the host has the network's routes.
func routed(l netlink.Link, cfg networks.Config) (bool, error) {
	want := slices.Concat(cfg.IPv4.Routes, cfg.IPv6.Routes)
	if len(want) == 0 {
		return true, nil
	}
	have, err := routesOf(l)
	for _, p := range want {
		if !slices.ContainsFunc(have, func(r netlink.Route) bool { return dst(r) == p }) {
			return false, err
		}
	}
	return true, err
}

func routesOf(l netlink.Link) ([]netlink.Route, error) {
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Protocol: ofNetwork}
	all, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return all, nil
}

func dst(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	return netip.PrefixFrom(addr, bits)
}
