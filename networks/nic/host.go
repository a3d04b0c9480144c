package nic

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/errs"
)

// A Host makes NICs on this host. The caller serializes those that change one
// NIC.
type Host struct {
	Net   *netlink.Handle // Of the host.
	Ports *nft.Ports      // Nil where nothing is filtered or limited.
}

// A Guest is the network namespace of a running instance.
type Guest struct {
	Net  *netlink.Handle
	File *os.File // Of the namespace.
}

// Make makes a NIC. Without a guest its end inside stays on the host as
// [NIC.Start] says, where liblxc takes it from.
func (h Host) Make(ctx context.Context, n NIC, g *Guest) error {
	if err := h.probe(ctx, n); err != nil {
		return err
	}
	if err := h.makeLower(n); err != nil {
		return err
	}
	switch n.Kind {
	case Bridged, P2P, Routed:
		if err := h.makePair(n, g); err != nil {
			return err
		}
	case Macvlan, IPVlan:
		if err := h.makeUpper(n, g); err != nil {
			return err
		}
	case Physical:
		if err := h.take(n, g); err != nil {
			return err
		}
	default:
		return errs.Invalidf("nic %q has kind %q, which is unknown", n.Device, n.Kind)
	}
	if g == nil {
		return nil
	}
	return g.setUp(n)
}

// Start is the interface of the host that liblxc gives an instance which
// starts.
func (n NIC) Start() string {
	if n.Kind == Physical {
		return n.Lower()
	}
	return n.inner()
}

func (n NIC) inner() string {
	if n.Inner != "" {
		return n.Inner
	}
	return InnerName(n.HostName, n.Device, n.MAC)
}

// InnerName returns a name for an interface that has another inside, made of
// what tells it from all others.
func InnerName(of ...string) string {
	sum := sha256.New()
	for _, s := range of {
		sum.Write([]byte(s + "\x00"))
	}
	return "cu" + hex.EncodeToString(sum.Sum(nil)[:6])
}

// Remove takes a NIC away, with all that belongs to it on the host: what is
// left of it, as a crash can have left anything. used says whether another
// instance needs an interface of the host that was made for NICs.
func (h Host) Remove(n NIC, g *Guest, used func(lower string) bool) error {
	var failed []error
	switch {
	case n.Kind == Physical:
		failed = append(failed, h.giveBack(n, g))
	case n.Pair():
		failed = append(failed, h.unroute(n), h.removeOuter(n, g), h.removeLink(n.shaper()))
	case g != nil:
		failed = append(failed, removeLink(g.Net, n.Name))
	}
	if n.Kind == Macvlan || n.Kind == IPVlan {
		failed = append(failed, h.unroute(n), h.removeLink(n.inner()))
	}
	if h.Ports != nil && n.Pair() {
		failed = append(failed, h.Ports.Unset(n.HostName), h.Ports.ACLs().Unset(n.HostName))
	}
	if lower := n.Lower(); lower != n.Parent && !used(lower) {
		failed = append(failed, h.removeLower(lower))
	}
	return errors.Join(failed...)
}

// removeOuter removes the host's end. Of an instance that does not run it can be
// somebody else's that has the name.
func (h Host) removeOuter(n NIC, g *Guest) error {
	if g == nil {
		// The end inside is still here if the instance did not start.
		if err := h.removeLink(n.inner()); err != nil {
			return err
		}
		l, err := h.Net.LinkByName(n.HostName)
		if missing(err) || err == nil && l.Attrs().Alias != madeByUs {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return h.removeLink(n.HostName)
}

func (h Host) removeLink(name string) error { return removeLink(h.Net, name) }

func removeLink(h *netlink.Handle, name string) error {
	if name == "" {
		return nil
	}
	link, err := h.LinkByName(name)
	if missing(err) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if errors.Is(err, unix.ENODEV) { // The other end went, and this one with it.
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove network interface %s: %w", name, err)
	}
	return nil
}

// missing reports whether err says that there is no such interface.
func missing(err error) bool {
	_, ok := errors.AsType[netlink.LinkNotFoundError](err)
	return ok
}

// link returns an interface of the host that a NIC needs.
func (h Host) link(name string) (netlink.Link, error) {
	l, err := h.Net.LinkByName(name)
	if missing(err) {
		return nil, errs.NotFoundf("the host has no network interface %q", name)
	}
	if err != nil {
		return nil, fmt.Errorf("look at network interface %s: %w", name, err)
	}
	return l, nil
}

// setUp gives the end inside what liblxc gives it when an instance starts.
func (g *Guest) setUp(n NIC) error {
	l, err := g.Net.LinkByName(n.Name)
	if err != nil {
		return err
	}
	if err := g.Net.LinkSetUp(l); err != nil {
		return err
	}
	if n.Kind != Routed && n.Kind != IPVlan {
		return nil
	}
	for _, f := range n.families() {
		if err := g.address(l, f); err != nil {
			return err
		}
	}
	return nil
}

// address gives an interface its addresses and the default route.
func (g *Guest) address(l netlink.Link, f family) error {
	for _, a := range f.Addresses {
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if f.six {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := g.Net.AddrAdd(l, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	everywhere := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	if f.six {
		everywhere = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	}
	r := netlink.Route{LinkIndex: l.Attrs().Index, Dst: everywhere}
	switch {
	case f.Gateway.IsValid():
		r.Gw, r.Flags = f.Gateway.AsSlice(), int(netlink.FLAG_ONLINK)
	case f.Onlink:
		r.Scope = netlink.SCOPE_LINK
	default:
		return nil
	}
	if err := g.Net.RouteReplace(&r); err != nil {
		return fmt.Errorf("add the default route: %w", err)
	}
	return nil
}
