// Package host reads the host's interfaces, addresses and routes.
package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// Kernel reads what the kernel of this host has. Its methods see the network
// namespace of the thread that calls them.
type Kernel struct{}

// Link is a network interface of the host.
type Link struct {
	Name      string
	Index     int
	Kind      string // bridge, physical, loopback, macvlan, vlan, bond or unknown.
	MAC       string
	MTU       int
	Up        bool
	Addresses []netip.Prefix
	Ports     []string // Of a bridge.
	Master    string   // The bridge or bond that it is a part of; empty for none.
	Counters  Counters
}

// Counters are what an interface has counted since it was made.
type Counters struct {
	BytesReceived, BytesSent, PacketsReceived, PacketsSent          uint64
	ErrorsReceived, ErrorsSent, PacketsDropped, PacketsDroppedOnOut uint64
}

// Links returns all interfaces.
func (Kernel) Links() ([]Link, error) {
	var all []netlink.Link
	err := retry(func() (err error) {
		all, err = netlink.LinkList()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	ports, names := map[int][]string{}, map[int]string{}
	for _, l := range all {
		names[l.Attrs().Index] = l.Attrs().Name
		if master := l.Attrs().MasterIndex; master != 0 {
			ports[master] = append(ports[master], l.Attrs().Name)
		}
	}
	addrs, err := addresses()
	if err != nil {
		return nil, err
	}
	out := make([]Link, 0, len(all))
	for _, l := range all {
		a := l.Attrs()
		out = append(out, Link{
			Name: a.Name, Index: a.Index, Kind: kind(l), MAC: a.HardwareAddr.String(), MTU: a.MTU,
			Up: a.RawFlags&unix.IFF_UP != 0, Addresses: addrs[a.Index], Ports: ports[a.Index], Master: names[a.MasterIndex], Counters: counters(a.Statistics),
		})
	}
	return out, nil
}

// Find returns the interface of the given name.
func (Kernel) Find(name string) (Link, error) {
	all, err := Kernel{}.Links()
	if err != nil {
		return Link{}, err
	}
	for _, l := range all {
		if l.Name == name {
			return l, nil
		}
	}
	return Link{}, errs.NotFoundf("network interface %q not found", name)
}

// Gateways returns those of the host's default routes through an interface.
func (Kernel) Gateways(name string) ([]netip.Addr, error) {
	l, err := netlink.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find network interface %s: %w", name, err)
	}
	var routes []netlink.Route
	err = retry(func() (err error) {
		routes, err = netlink.RouteList(l, netlink.FAMILY_ALL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes of %s: %w", name, err)
	}
	var out []netip.Addr
	for _, r := range routes {
		bits := 0
		if r.Dst != nil {
			bits, _ = r.Dst.Mask.Size()
		}
		if gw, ok := netip.AddrFromSlice(r.Gw); ok && bits == 0 {
			out = append(out, gw.Unmap())
		}
	}
	return out, nil
}

// A Use is why a network is not free.
type Use struct {
	netip.Prefix

	Interface string
	By        string // Such as "the route to 10.0.0.0/8 by tun0".
}

// Used returns the networks of the host's addresses and routes, but for those
// of the interface except.
func (k Kernel) Used(except string) ([]netip.Prefix, error) {
	uses, err := k.Uses(except)
	all := make([]netip.Prefix, 0, len(uses))
	for _, u := range uses {
		all = append(all, u.Prefix)
	}
	return all, err
}

// Uses is Used with what there is in each network.
func (Kernel) Uses(except string) ([]Use, error) {
	links, err := Kernel{}.Links()
	if err != nil {
		return nil, err
	}
	var used []Use
	skip, names := -1, map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
		if l.Name == except {
			skip = l.Index
			continue
		}
		for _, a := range l.Addresses {
			used = append(used, Use{a.Masked(), l.Name, fmt.Sprintf("the address %s of %s", a, l.Name)})
		}
	}
	var routes []netlink.Route
	err = retry(func() (err error) {
		routes, err = netlink.RouteList(nil, netlink.FAMILY_ALL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || r.LinkIndex == skip {
			continue
		}
		addr, _ := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if p := netip.PrefixFrom(addr, bits); p.IsValid() && bits > 0 {
			used = append(used, Use{p, names[r.LinkIndex], fmt.Sprintf("the route to %s by %s", p, names[r.LinkIndex])})
		}
	}
	return used, nil
}

// HasIPv6 reports whether the kernel speaks IPv6.
func (Kernel) HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// addresses returns the addresses of all interfaces, by index.
func addresses() (map[int][]netip.Prefix, error) {
	var all []netlink.Addr
	err := retry(func() (err error) {
		all, err = netlink.AddrList(nil, netlink.FAMILY_ALL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := map[int][]netip.Prefix{}
	for _, a := range all {
		addr, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		out[a.LinkIndex] = append(out[a.LinkIndex], netip.PrefixFrom(addr, bits))
	}
	return out, nil
}

// retry asks again when the answer was disturbed by a change.
func retry(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
}

func kind(l netlink.Link) string {
	switch typ := l.Type(); {
	case l.Attrs().RawFlags&unix.IFF_LOOPBACK != 0:
		return "loopback"
	case typ == "device":
		return "physical"
	case typ == "bridge" || typ == "macvlan" || typ == "vlan" || typ == "bond":
		return typ
	}
	return "unknown"
}

func counters(s *netlink.LinkStatistics) Counters {
	if s == nil {
		return Counters{}
	}
	return Counters{
		BytesReceived: s.RxBytes, BytesSent: s.TxBytes, PacketsReceived: s.RxPackets, PacketsSent: s.TxPackets,
		ErrorsReceived: s.RxErrors, ErrorsSent: s.TxErrors, PacketsDropped: s.RxDropped, PacketsDroppedOnOut: s.TxDropped,
	}
}
