package vxlan

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// How many bytes a packet of the underlay has that is not the guest's: the
// headers of VXLAN, UDP and the guest's Ethernet, besides that of IP.
const (
	vxlanHeaders = 8 + 8 + 14
	ipv4Header   = 20
	ipv6Header   = 40
	// A WireGuard packet has a UDP header, 16 bytes of its own, and 16 to
	// authenticate it.
	wireHeaders = 8 + 16 + 16
)

// underlay is the way to the other hosts as it is now.
type underlay struct {
	local   netip.Addr // Our own address; not valid for no peers and none given.
	mtu     int        // Of the network.
	wireMTU int        // Of the interface of WireGuard.
	encrypt string     // networks.EncryptNone or networks.EncryptWireGuard.
}

// seen is what the host knows of a network: its table, and the way to the others.
func seen(cfg networks.Config) (*table, underlay, error) {
	t, err := readTable(cfg)
	if err != nil {
		return nil, underlay{}, err
	}
	u, err := below(cfg, t)
	return t, u, err
}

// below works out the way to the other hosts. Where there is no route to them
// at the moment, as while a host starts, it is as it was last.
func below(cfg networks.Config, last *table) (underlay, error) {
	o := cfg.Overlay
	u := underlay{local: o.Local}
	path := 0
	var unreachable error
	for _, p := range o.Peers {
		r, err := routeTo(o, p)
		if err != nil {
			unreachable = err
			continue
		}
		if !u.local.IsValid() {
			u.local = r.local
		}
		if path == 0 || r.mtu < path {
			path = r.mtu
		}
	}
	if !u.local.IsValid() {
		u.local = last.Local
	}
	if !u.local.IsValid() && len(o.Peers) > 0 {
		return u, fmt.Errorf("find the way to the other hosts: %w", unreachable)
	}
	if err := sameFamily(o, u.local); err != nil {
		return u, err
	}
	var err error
	if u.encrypt, err = encryption(o); err != nil {
		return u, err
	}
	if path == 0 && last.MTU != 0 {
		u.mtu = last.MTU
		u.wireMTU = last.MTU + ipv6Header + vxlanHeaders
		return u, nil
	}
	if path == 0 {
		path = 1500
	}
	u.wireMTU, u.mtu = fit(path, u)
	return u, nil
}

// fit returns the MTU of the interface of WireGuard and of the network where
// packets of the underlay can have path bytes.
func fit(path int, u underlay) (wire, overlay int) {
	ip := ipv4Header
	if u.local.Is6() {
		ip = ipv6Header
	}
	wire = path - ip - wireHeaders
	if u.encrypt == networks.EncryptWireGuard {
		return wire, wire - ipv6Header - vxlanHeaders
	}
	return wire, path - ip - vxlanHeaders
}

type way struct {
	local netip.Addr
	mtu   int
}

func routeTo(o networks.Overlay, peer netip.Addr) (way, error) {
	opts := &netlink.RouteGetOptions{Oif: o.Interface}
	if o.Local.IsValid() {
		opts.SrcAddr = o.Local.AsSlice()
	}
	routes, err := netlink.RouteGetWithOptions(peer.AsSlice(), opts)
	if err != nil || len(routes) == 0 {
		return way{}, errs.Newf(errs.Unavailable, "there is no route to the host %s of vxlan.peers: %w", peer, err)
	}
	r := routes[0]
	l, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return way{}, err
	}
	local, _ := netip.AddrFromSlice(r.Src)
	w := way{local.Unmap(), l.Attrs().MTU}
	if r.MTU != 0 {
		w.mtu = min(w.mtu, r.MTU)
	}
	if w.local == peer {
		return way{}, errs.Invalidf(`configuration key "vxlan.peers": %s is this host itself: name only the others`, peer)
	}
	return w, nil
}

func sameFamily(o networks.Overlay, local netip.Addr) error {
	for _, p := range o.Peers {
		if p == local {
			return errs.Invalidf(`configuration key "vxlan.peers": %s is this host itself: name only the others`, p)
		}
		if p.Is4() != local.Is4() {
			return errs.Invalidf(`configuration key "vxlan.peers": %s and %s, the address of this host, are of different families: give all of one`, p, local)
		}
	}
	return nil
}

// underlayLink returns the index of the interface that packets leave by; 0 for
// any.
func underlayLink(o networks.Overlay) (int, error) {
	if o.Interface == "" {
		return 0, nil
	}
	l, err := netlink.LinkByName(o.Interface)
	if missing(err) {
		return 0, errs.NotFoundf(`configuration key "vxlan.interface": network interface %q not found`, o.Interface)
	}
	if err != nil {
		return 0, err
	}
	return l.Attrs().Index, nil
}

// derive returns bytes that only those have who know the network's key. They
// are of the network's own, and others for each purpose.
func derive(o networks.Overlay, purpose string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(o.Key), nil, fmt.Sprintf("cuib vxlan %d %s", o.ID, purpose), n)
}

// inner is the address of a host within the network's interfaces of WireGuard.
func inner(o networks.Overlay, member netip.Addr) (netip.Addr, error) {
	first, err := derive(o, "prefix", 5)
	if err != nil {
		return netip.Addr{}, err
	}
	own, err := derive(o, "address "+member.String(), 8)
	if err != nil {
		return netip.Addr{}, err
	}
	raw := append([]byte{0xfd}, first...)
	raw = append(raw, 0, 0)
	addr, _ := netip.AddrFromSlice(append(raw, own...)) // 16 bytes.
	return addr, nil
}

// destination is where packets of VXLAN for a member go.
func destination(o networks.Overlay, u underlay, member netip.Addr) (netip.Addr, error) {
	if u.encrypt != networks.EncryptWireGuard {
		return member, nil
	}
	return inner(o, member)
}

func equalIP(a net.IP, b netip.Addr) bool {
	got, ok := netip.AddrFromSlice(a)
	return ok && got.Unmap() == b || !b.IsValid() && (len(a) == 0 || a.IsUnspecified())
}

func sortedPeers(o networks.Overlay) []netip.Addr {
	return slices.SortedFunc(slices.Values(o.Peers), netip.Addr.Compare)
}
