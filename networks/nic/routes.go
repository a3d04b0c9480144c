package nic

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/errs"
)

// byAdministrator marks routes as ip(8) does what somebody has added by hand.
const byAdministrator = unix.RTPROT_STATIC

// route makes the host's routes to a NIC. Those to a bridged one lead to the
// bridge, behind which somebody answers for the addresses.
func (h Host) route(n NIC) error {
	if n.Unplugged && n.Kind != Bridged {
		return nil // They come with the carrier.
	}
	routes, err := h.wanted(n)
	if err != nil {
		return err
	}
	if len(routes) > 0 && n.Kind != Bridged {
		if err := forward(n); err != nil {
			return err
		}
	}
	for _, r := range routes {
		if err := h.addRoute(r); err != nil {
			return err
		}
	}
	if n.Kind != Routed && (n.Kind != IPVlan || n.Mode == "l2") {
		return nil
	}
	return h.answer(n)
}

func (h Host) addRoute(r netlink.Route) error {
	err := h.Net.RouteAdd(&r)
	if !errors.Is(err, unix.EEXIST) {
		if err != nil {
			return fmt.Errorf("add a route to %s: %w", r.Dst, err)
		}
		return nil
	}
	have, err := h.Net.RouteListFiltered(familyOf(r), &netlink.Route{Dst: r.Dst, Table: r.Table}, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	for _, o := range have {
		if o.LinkIndex != r.LinkIndex {
			return errs.Conflictf("the host has a route to %s already, by another interface (%s)", r.Dst, nameOf(h.Net, o.LinkIndex))
		}
	}
	return nil
}

func nameOf(h *netlink.Handle, index int) string {
	if l, err := h.LinkByIndex(index); err == nil {
		return l.Attrs().Name
	}
	return fmt.Sprint(index)
}

func familyOf(r netlink.Route) int {
	if r.Dst.IP.To4() != nil {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// outer is the interface of the host that routes to a NIC lead to.
func (n NIC) outer() string {
	switch n.Kind {
	case Bridged:
		return n.Parent
	case IPVlan:
		return "lo" // The host has only to know that they are not on the parent.
	}
	return n.HostName
}

// wanted are the routes that a NIC has on the host.
func (h Host) wanted(n NIC) ([]netlink.Route, error) {
	var all []netlink.Route
	for _, f := range n.families() {
		tables, err := h.tables(n, f)
		if err != nil {
			return nil, err
		}
		for _, table := range tables {
			all = append(all, n.routesOf(f, table)...)
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	l, err := h.link(n.outer())
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].LinkIndex, all[i].Protocol = l.Attrs().Index, byAdministrator
	}
	return all, nil
}

// routesOf are the routes of a family in one table.
func (n NIC) routesOf(f family, table int) []netlink.Route {
	var all []netlink.Route
	own := n.Kind == Routed || n.Kind == IPVlan && n.Mode != "l2"
	for _, a := range f.Addresses {
		if own {
			all = append(all, netlink.Route{Dst: ipNet(netip.PrefixFrom(a.Addr(), a.Addr().BitLen())), Table: table, Scope: netlink.SCOPE_LINK})
		}
	}
	for _, p := range f.Routes {
		r := netlink.Route{Dst: ipNet(p), Table: table, Scope: netlink.SCOPE_LINK}
		if n.Kind == Routed && len(f.Addresses) > 0 { // The guest answers for its own addresses only.
			r.Gw, r.Scope, r.Flags = f.Addresses[0].Addr().AsSlice(), netlink.SCOPE_UNIVERSE, int(netlink.FLAG_ONLINK)
		}
		all = append(all, r)
	}
	return all
}

// tables are those that the routes of a NIC are in.
func (h Host) tables(n NIC, f family) ([]int, error) {
	if len(f.Tables) > 0 {
		return f.Tables, nil
	}
	if n.VRF == "" {
		return []int{unix.RT_TABLE_MAIN}, nil
	}
	l, err := h.link(n.VRF)
	if err != nil {
		return nil, err
	}
	vrf, ok := l.(*netlink.Vrf)
	if !ok {
		return nil, errs.Invalidf("vrf: the host's interface %q is no VRF", n.VRF)
	}
	return []int{int(vrf.Table)}, nil
}

// forward has the host route what comes from a NIC and goes to it.
func forward(n NIC) error {
	if len(n.IPv4.Addresses)+len(n.IPv4.Routes) > 0 {
		if err := host.ForwardIPv4(); err != nil {
			return err
		}
	}
	if len(n.IPv6.Addresses)+len(n.IPv6.Routes) > 0 {
		return host.ForwardIPv6()
	}
	return nil
}

// answer has the host answer on the parent for the addresses of a guest.
func (h Host) answer(n NIC) error {
	if n.Parent == "" {
		return nil
	}
	l, err := h.link(n.Lower())
	if err != nil {
		return err
	}
	if len(n.IPv6.Addresses) > 0 {
		if err := host.SetSysctl("ipv6/conf/"+n.Lower()+"/proxy_ndp", "1"); err != nil {
			return err
		}
	}
	for _, a := range neighbors(n, l) {
		if err := h.Net.NeighSet(&a); err != nil {
			return fmt.Errorf("answer for %s on %s: %w", a.IP, n.Lower(), err)
		}
	}
	return nil
}

func neighbors(n NIC, l netlink.Link) []netlink.Neigh {
	var all []netlink.Neigh
	for _, f := range n.families() {
		for _, a := range f.Addresses {
			one := netlink.Neigh{LinkIndex: l.Attrs().Index, Family: netlink.FAMILY_V4, Flags: netlink.NTF_PROXY, IP: a.Addr().AsSlice()}
			if f.six {
				one.Family = netlink.FAMILY_V6
			}
			all = append(all, one)
		}
	}
	return all
}

// unroute takes back what the host has of a NIC that does not go with its
// interface.
func (h Host) unroute(n NIC) error {
	if n.Kind == Bridged || n.Kind == IPVlan {
		if err := h.removeRoutes(n); err != nil {
			return err
		}
	}
	if n.Kind != Routed && n.Kind != IPVlan || n.Parent == "" {
		return nil
	}
	l, err := h.Net.LinkByName(n.Lower())
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, a := range neighbors(n, l) {
		if err := h.Net.NeighDel(&a); err != nil && !gone(err) {
			return fmt.Errorf("answer for %s on %s no more: %w", a.IP, n.Lower(), err)
		}
	}
	return nil
}

func (h Host) removeRoutes(n NIC) error {
	routes, err := h.wanted(n)
	if errs.Is(err, errs.NotFound) { // The interface went, and they with it.
		return nil
	}
	if err != nil {
		return err
	}
	for _, r := range routes {
		if err := h.Net.RouteDel(&r); err != nil && !gone(err) {
			return fmt.Errorf("remove the route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

// gone reports whether err says that what is to be removed is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, fs.ErrNotExist)
}
