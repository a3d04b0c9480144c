package nic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/errs"
)

// ethernet is the MTU of Ethernet.
const ethernet = 1500

// makePair makes a pair of interfaces, and of the host's end what it is to be.
// It comes up last: nothing that the guest sends passes before.
func (h Host) makePair(n NIC, g *Guest) error {
	outer, err := h.addPair(n, g)
	if err != nil {
		return err
	}
	if err := h.connect(n, outer); err != nil {
		return err
	}
	if err := h.admit(n, outer); err != nil {
		return err
	}
	if err := h.guard(n); err != nil {
		return err
	}
	if !n.Unplugged {
		if err := h.Net.LinkSetUp(outer); err != nil {
			return fmt.Errorf("set %s up: %w", n.HostName, err)
		}
	}
	if n.Kind == Routed && !n.Unplugged {
		if err := h.hostAddresses(n, outer); err != nil {
			return err
		}
	}
	return h.route(n)
}

func (h Host) addPair(n NIC, g *Guest) (netlink.Link, error) {
	mac, err := n.mac()
	if err != nil {
		return nil, err
	}
	mtu, err := h.mtu(n)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = n.HostName, mtu
	veth := &netlink.Veth{
		LinkAttrs: attrs, PeerName: n.inner(), PeerHardwareAddr: mac, PeerMTU: uint32(mtu), PeerTxQLen: -1, //nolint:gosec // The MTU is one.
	}
	if n.QueueLength > 0 {
		veth.TxQLen, veth.PeerTxQLen = n.QueueLength, n.QueueLength
	}
	if g != nil {
		veth.PeerName, veth.PeerNamespace = n.Name, netlink.NsFd(int(g.File.Fd()))
	} else if err := h.removeLink(n.inner()); err != nil { // Of a start that a crash has cut short.
		return nil, err
	}
	if err := h.Net.LinkAdd(veth); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return nil, errs.Conflictf("network interface %q exists already on the host, or %q inside", n.HostName, n.Name)
		}
		return nil, fmt.Errorf("make %s: %w", n.HostName, err)
	}
	outer, err := h.link(n.HostName)
	if err != nil {
		return nil, err
	}
	return outer, h.Net.LinkSetAlias(outer, madeByUs)
}

// mtu is that of a NIC whose MTU nobody has chosen.
func (h Host) mtu(n NIC) (int, error) {
	lower := n.Lower()
	if n.MTU != 0 || lower == "" {
		return orElse(n.MTU, ethernet), nil
	}
	l, err := h.link(lower)
	if err != nil {
		return 0, err
	}
	return l.Attrs().MTU, nil
}

func orElse(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}

// connect makes the host's end a port of a bridge, or puts it into a VRF.
func (h Host) connect(n NIC, outer netlink.Link) error {
	master := n.VRF
	if n.Kind == Bridged {
		master = n.Parent
	}
	if master == "" {
		return nil
	}
	l, err := h.link(master)
	if err != nil {
		return err
	}
	err = h.Net.LinkSetMaster(outer, l)
	if errors.Is(err, unix.EXFULL) {
		return errs.Conflictf("%s has as many ports as a bridge can have, which are 1023", master)
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", master, err)
	}
	if n.Kind != Bridged {
		return nil
	}
	if n.Isolated {
		if err := h.Net.LinkSetIsolated(outer, true); err != nil {
			return fmt.Errorf("isolate %s: %w", n.HostName, err)
		}
	}
	if !n.VLAN.some() {
		return nil
	}
	return h.tag(VLAN{}, n.VLAN, outer, l)
}

// filter has nftables look at what comes from the guest.
func (h Host) filter(n NIC) error {
	if h.Ports == nil {
		return nil
	}
	p, err := n.port()
	if err != nil {
		return err
	}
	return h.Ports.Set(p)
}

// guard has nftables let pass what the ACLs of a NIC say, at its end on the host,
// which is there.
func (h Host) guard(n NIC) error {
	if h.Ports == nil || n.Kind != Bridged {
		return nil
	}
	return h.Ports.ACLs().Set(n.ACLPort())
}

// ACLPort returns what nftables has of the ACLs of a NIC.
func (n NIC) ACLPort() nft.ACLPort { return nft.ACLPort{Link: n.HostName, Ref: n.ACL} }

// port is what nftables is to do with what comes from the guest.
func (n NIC) port() (nft.Port, error) {
	p := nft.Port{
		Link: n.HostName, Bridged: n.Kind == Bridged, Priority: n.Priority,
		OnlyIPv4: n.IPv4.Only, IPv4: n.IPv4.Addresses, OnlyIPv6: n.IPv6.Only, IPv6: n.IPv6.Addresses,
	}
	if n.Egress != 0 {
		p.Through = n.shaper()
	}
	if n.Kind == Routed {
		p.IPv4 = slices.Concat(p.IPv4, n.IPv4.Routes)
		p.IPv6 = slices.Concat(p.IPv6, n.IPv6.Routes)
	}
	if !n.FilterMAC {
		return p, nil
	}
	var err error
	p.MAC, err = n.mac()
	return p, err
}

// FilterPort returns what nftables has of a NIC that runs.
func (n NIC) FilterPort() (p nft.Port, some bool) {
	if !n.Pair() {
		return nft.Port{}, false
	}
	p, err := n.port()
	return p, err == nil
}

// hostAddresses gives the host's end of a routed NIC the addresses that guests
// know their gateway by.
func (h Host) hostAddresses(n NIC, outer netlink.Link) error {
	for _, f := range n.families() {
		if !f.HostAddress.IsValid() {
			continue
		}
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(f.HostAddress, f.HostAddress.BitLen()))}
		if f.six {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := h.Net.AddrAdd(outer, a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give %s address %s: %w", n.HostName, f.HostAddress, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
