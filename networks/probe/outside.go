package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The networks that others are in: of those that documents have, and nobody
// else. The host has the first address, and they the second.
var (
	outside4 = netip.MustParsePrefix("198.51.100.253/30")
	outside6 = netip.MustParsePrefix("2001:db8:c1b:ffff::1/126")
)

// outside runs fn in a namespace that the host routes to the bridge, and that is
// gone when it returns. What it uses is of the family of an address.
func (t *trial) outside(of netip.Addr, fn func() error) error {
	return t.onHost(func() (err error) {
		host, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer host.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		here, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		defer here.Close()

		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("cuibdr%d", unix.Gettid()) // At most 13 characters.
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: inner, PeerNamespace: netlink.NsFd(int(here.Fd()))}
		if err := host.LinkAdd(veth); err != nil {
			return fmt.Errorf("connect another network: %w", err)
		}
		defer func() { err = errors.Join(err, host.LinkDel(veth)) }()

		gateway := outside4
		if of.Is6() {
			gateway = outside6
		}
		if err := join(host, veth, gateway); err != nil {
			return fmt.Errorf("connect another network: %w", err)
		}
		return fn()
	})
}

// join gives both ends of a veth their addresses. One is on the host, and the
// other here.
func join(host *netlink.Handle, veth netlink.Link, gateway netip.Prefix) error {
	peer, err := netlink.LinkByName(inner)
	if err != nil {
		return err
	}
	here := netip.PrefixFrom(gateway.Addr().Next(), gateway.Bits())
	return errors.Join(
		host.AddrAdd(veth, usable(gateway)), host.LinkSetUp(veth),
		netlink.AddrAdd(peer, usable(here)), netlink.LinkSetUp(peer),
		netlink.RouteAdd(&netlink.Route{LinkIndex: peer.Attrs().Index, Gw: gateway.Addr().AsSlice()}),
	)
}

// usable is an address that can be used at once.
func usable(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}
