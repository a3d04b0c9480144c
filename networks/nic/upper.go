package nic

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "vepa": netlink.MACVLAN_MODE_VEPA,
	"passthru": netlink.MACVLAN_MODE_PASSTHRU, "private": netlink.MACVLAN_MODE_PRIVATE,
}

var ipvlanModes = map[string]netlink.IPVlanMode{
	"": netlink.IPVLAN_MODE_L3S, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
}

// makeUpper makes an interface on one of the host's.
func (h Host) makeUpper(n NIC, g *Guest) error {
	lower, err := h.link(n.Lower())
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.ParentIndex = n.inner(), orElse(n.MTU, lower.Attrs().MTU), lower.Attrs().Index
	if g != nil {
		attrs.Name, attrs.Namespace = n.Name, netlink.NsFd(int(g.File.Fd()))
	} else if err := h.removeLink(n.inner()); err != nil { // Of a start that a crash has cut short.
		return err
	}
	upper, err := n.upper(attrs)
	if err != nil {
		return err
	}
	err = h.Net.LinkAdd(upper)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return errs.Newf(errs.Unsupported, "the kernel has no interfaces of type %s", n.Kind)
	case errors.Is(err, unix.EEXIST):
		return errs.Conflictf("the instance has a network interface %q already", n.Name)
	case errors.Is(err, unix.EBUSY):
		return errs.Conflictf("the host's interface %q is used otherwise, by a bridge or by a NIC of another type", n.Lower())
	case err != nil:
		return fmt.Errorf("make an interface on %s: %w", n.Lower(), err)
	}
	return h.route(n)
}

// upper is the interface that a NIC on another is, with attributes.
func (n NIC) upper(attrs netlink.LinkAttrs) (netlink.Link, error) {
	if n.Kind == IPVlan {
		mode, ok := ipvlanModes[n.Mode]
		if !ok {
			return nil, errs.Invalidf("nic %q has ipvlan mode %q: l2, l3 and l3s are allowed", n.Device, n.Mode)
		}
		return &netlink.IPVlan{LinkAttrs: attrs, Mode: mode}, nil
	}
	mode, ok := macvlanModes[n.Mode]
	if !ok {
		return nil, errs.Invalidf("nic %q has macvlan mode %q: bridge, vepa, passthru and private are allowed", n.Device, n.Mode)
	}
	var err error
	attrs.HardwareAddr, err = n.mac()
	return &netlink.Macvlan{LinkAttrs: attrs, Mode: mode}, err
}

// madeByUs is how interfaces of the host are known that were made for NICs.
const madeByUs = "cuib"

// vlanName is how a VLAN of an interface is called.
func vlanName(parent string, id int) string {
	name := parent + "." + strconv.Itoa(id)
	if len(name) < unix.IFNAMSIZ {
		return name
	}
	return InnerName(parent)[:8] + "." + strconv.Itoa(id)
}

// makeLower makes the VLAN that a NIC is on, if there is none.
func (h Host) makeLower(n NIC) error {
	name := n.Lower()
	if name == n.Parent {
		return nil
	}
	if _, err := h.Net.LinkByName(name); !missing(err) {
		return err
	}
	parent, err := h.link(n.Parent)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU = name, parent.Attrs().Index, parent.Attrs().MTU
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: n.VLAN.ID, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
	if n.VLAN.GVRP {
		vlan.Gvrp = &n.VLAN.GVRP
	}
	err = h.Net.LinkAdd(vlan)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errs.Newf(errs.Unsupported, "the kernel has no VLANs (802.1q)")
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make VLAN %d of %s: %w", n.VLAN.ID, n.Parent, err)
	}
	l, err := h.link(name)
	if err != nil {
		return err
	}
	if err := h.Net.LinkSetAlias(l, madeByUs); err != nil {
		return err
	}
	return h.Net.LinkSetUp(l)
}

// removeLower removes a VLAN that was made for NICs.
func (h Host) removeLower(name string) error {
	l, err := h.Net.LinkByName(name)
	if missing(err) {
		return nil
	}
	if err != nil || l.Attrs().Alias != madeByUs {
		return err
	}
	return h.Net.LinkDel(l)
}

// tag has a port of a bridge pass the VLANs of now instead of those of old.
func (h Host) tag(old, now VLAN, outer, bridge netlink.Link) error {
	br, ok := bridge.(*netlink.Bridge)
	if ok && (br.VlanFiltering == nil || !*br.VlanFiltering) {
		err := h.Net.BridgeSetVlanFiltering(bridge, true)
		if err == nil {
			br, err = h.filtersVLANs(bridge.Attrs().Name)
		}
		if err != nil {
			return errs.Newf(errs.Unsupported, "vlan: the kernel does not tell VLANs apart on bridges: %w", err)
		}
	}
	usual := 1 // Of ports that nobody has told otherwise.
	if ok && br.VlanDefaultPVID != nil {
		usual = int(*br.VlanDefaultPVID)
	}
	if now.ID == 0 && !now.Untagged {
		now.ID = usual
	}
	old.Tagged = append([]int{usual}, old.Tagged...)
	if err := h.leave(old, now, outer); err != nil {
		return err
	}
	return h.join(now, outer)
}

func (h Host) leave(old, now VLAN, outer netlink.Link) error {
	for _, id := range append([]int{old.ID}, old.Tagged...) {
		if id == 0 || id == now.ID || slices.Contains(now.Tagged, id) {
			continue
		}
		if err := h.Net.BridgeVlanDel(outer, vid(id), false, false, false, true); err != nil && !gone(err) {
			return fmt.Errorf("leave VLAN %d: %w", id, err)
		}
	}
	return nil
}

func (h Host) join(v VLAN, outer netlink.Link) error {
	if v.ID != 0 {
		if err := h.Net.BridgeVlanAdd(outer, vid(v.ID), true, true, false, true); err != nil {
			return fmt.Errorf("join VLAN %d: %w", v.ID, err)
		}
	}
	for _, id := range v.Tagged {
		if err := h.Net.BridgeVlanAdd(outer, vid(id), false, false, false, true); err != nil {
			return fmt.Errorf("join VLAN %d: %w", id, err)
		}
	}
	return nil
}

// some reports whether a port has VLANs of its own.
func (v VLAN) some() bool { return v.ID != 0 || v.Untagged || len(v.Tagged) > 0 }

func vid(id int) uint16 { return uint16(id) } //nolint:gosec // It is below 4095.

var errNoFilter = errors.New("it takes no notice")

// filtersVLANs looks whether a bridge does what it was told: a kernel that
// cannot says nothing.
func (h Host) filtersVLANs(name string) (*netlink.Bridge, error) {
	l, err := h.link(name)
	if err != nil {
		return nil, err
	}
	br, ok := l.(*netlink.Bridge)
	if !ok || br.VlanFiltering == nil || !*br.VlanFiltering {
		return nil, errNoFilter
	}
	return br, nil
}

// take makes an interface of the host ready to be an instance's, and moves it
// into one that runs.
func (h Host) take(n NIC, g *Guest) error {
	l, err := h.link(n.Lower())
	if err != nil {
		return err
	}
	if m := l.Attrs().MasterIndex; m != 0 {
		return errs.Conflictf("the host's interface %q is a part of %s", n.Lower(), nameOf(h.Net, m))
	}
	if err := h.Net.LinkSetDown(l); err != nil {
		return err
	}
	if err := setLink(h.Net, l, n.MAC, n.MTU); err != nil {
		return err
	}
	if g == nil {
		return nil
	}
	return move(l, n.inner(), n.Name, place{h.Net, nil}, place{g.Net, g.File})
}

// A place is a network namespace.
type place struct {
	net  *netlink.Handle
	file *os.File
}

// move moves an interface from one namespace into another, with a name on the
// way that neither has.
func move(l netlink.Link, way, name string, from, to place) error {
	if err := from.net.LinkSetName(l, way); err != nil {
		return fmt.Errorf("move %s: %w", l.Attrs().Name, err)
	}
	if err := from.net.LinkSetNsFd(l, int(to.file.Fd())); err != nil {
		return fmt.Errorf("move %s: %w", l.Attrs().Name, err)
	}
	moved, err := to.net.LinkByName(way)
	if err == nil {
		err = to.net.LinkSetName(moved, name)
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", l.Attrs().Name, err)
	}
	return nil
}

// setLink gives an interface an address and an MTU, if it has others.
func setLink(h *netlink.Handle, l netlink.Link, address string, mtu int) error {
	if mac, err := networks.ParseMAC(address); err == nil && mac.String() != l.Attrs().HardwareAddr.String() {
		if err := h.LinkSetHardwareAddr(l, mac); err != nil {
			return fmt.Errorf("give %s the address %s: %w", l.Attrs().Name, mac, err)
		}
	}
	if mtu != 0 && mtu != l.Attrs().MTU {
		if err := h.LinkSetMTU(l, mtu); err != nil {
			return fmt.Errorf("give %s the MTU %d: %w", l.Attrs().Name, mtu, err)
		}
	}
	return nil
}

// giveBack makes an interface of the host be what it was before.
func (h Host) giveBack(n NIC, g *Guest) error {
	name := n.Lower()
	had := true
	if g != nil {
		var err error
		if had, err = g.release(n, h.Net); err != nil {
			return err
		}
	}
	l, err := h.returned(n)
	if l == nil || err != nil { // It has gone, as those do that exist in the host only.
		return err
	}
	if !had && n.isAnother(l) {
		return nil
	}
	if l.Attrs().Name != name || l.Attrs().MTU != n.Before.MTU || l.Attrs().HardwareAddr.String() != n.Before.MAC {
		if err := h.Net.LinkSetDown(l); err != nil {
			return err
		}
	}
	if l.Attrs().Name != name {
		if err := h.Net.LinkSetName(l, name); err != nil {
			return fmt.Errorf("name %s %s again: %w", l.Attrs().Name, name, err)
		}
	}
	if err := setLink(h.Net, l, n.Before.MAC, n.Before.MTU); err != nil {
		return err
	}
	if n.Before.Up {
		return h.Net.LinkSetUp(l)
	}
	return nil
}

// isAnother reports whether an interface of the host has the place of one that
// a guest had, and that has gone.
func (n NIC) isAnother(l netlink.Link) bool {
	a := l.Attrs()
	return n.Before.Index != 0 && a.Index != n.Before.Index && !slices.Contains([]string{n.MAC, n.Before.MAC}, a.HardwareAddr.String())
}

// returned is the interface of the host that a NIC was, nil if it is gone. Of a
// namespace that ends the kernel gives back what the host had, by the name that
// it had there.
func (h Host) returned(n NIC) (netlink.Link, error) {
	l, err := h.Net.LinkByName(n.Lower())
	if err == nil || !missing(err) {
		return l, err
	}
	if n.Before.Index == 0 {
		return nil, nil //nolint:nilnil // As the comment says.
	}
	l, err = h.Net.LinkByIndex(n.Before.Index)
	if missing(err) {
		return nil, nil //nolint:nilnil // As above.
	}
	names := []string{n.Name, n.inner(), "dev" + strconv.Itoa(n.Before.Index)}
	if err == nil && !slices.Contains(names, l.Attrs().Name) {
		return nil, nil //nolint:nilnil // Another has its number.
	}
	return l, err
}

// release moves an interface of the host out of a guest, and reports whether
// that had it.
func (g *Guest) release(n NIC, to *netlink.Handle) (had bool, err error) {
	l, err := g.Net.LinkByName(n.Name)
	if missing(err) {
		l, err = g.Net.LinkByName(n.inner())
	}
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	if err := g.Net.LinkSetDown(l); err != nil {
		return true, err
	}
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, err
	}
	defer host.Close()
	return true, move(l, n.inner(), n.Lower(), place{g.Net, nil}, place{to, host})
}
