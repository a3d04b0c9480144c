package runtime

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// A netNS is the network namespace of a container, and ours.
type netNS struct {
	host, guest *netlink.Handle
	file        *os.File // Of the guest's.
}

func openNetNS(in *guestInit) (*netNS, error) {
	file, err := os.Open(filepath.Join(procDir(in.pid), "ns/net"))
	if err != nil {
		return nil, err
	}
	if in.ended() { // The number may be another process's by now.
		file.Close()
		return nil, errs.Newf(errs.Unavailable, "the instance has ended or reboots")
	}
	guest, err := handleAt(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		guest.Close()
		return nil, errors.Join(err, file.Close())
	}
	return &netNS{host, guest, file}, nil
}

func (s *netNS) close() {
	s.host.Close()
	s.guest.Close()
	s.file.Close()
}

// AddNIC gives a running container a network interface.
func (r *Runtime) AddNIC(ctx context.Context, name string, n NIC) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	if slices.ContainsFunc(c.spec.NICs, func(o NIC) bool { return o.Name == n.Name }) {
		return errs.Conflictf("instance %q has a network interface %q already", name, n.Name)
	}
	ns, err := openNetNS(in)
	if err != nil {
		return c.orGone(err)
	}
	defer ns.close()
	if _, err := ns.guest.LinkByName(n.Name); err == nil {
		return errs.Conflictf("instance %q has a network interface %q already", name, n.Name)
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	u.Push("remove "+n.Name, func(context.Context) error { return ns.remove(n) })
	if err := ns.add(n); err != nil {
		return c.orGone(fmt.Errorf("network interface %s: %w", n.Name, err))
	}
	return r.respec(c, func(s *Spec) { s.NICs = append(slices.Clone(s.NICs), n) })
}

// RemoveNIC takes a network interface from a running container. That the guest
// has removed it itself is no error.
func (r *Runtime) RemoveNIC(_ context.Context, name string, n NIC) error {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	is := func(o NIC) bool { return o.Name == n.Name }
	i := slices.IndexFunc(c.spec.NICs, is)
	if i < 0 {
		return errs.NotFoundf("instance %q has no network interface %q", name, n.Name)
	}
	ns, err := openNetNS(in)
	if err != nil {
		return c.orGone(err)
	}
	defer ns.close()
	if err := ns.remove(c.spec.NICs[i]); err != nil {
		return c.orGone(fmt.Errorf("network interface %s: %w", n.Name, err))
	}
	return r.respec(c, func(s *Spec) { s.NICs = slices.DeleteFunc(slices.Clone(s.NICs), is) })
}

// add makes the interface. Its end inside is made there at once, so that
// its name is never seen on the host.
func (s *netNS) add(n NIC) error {
	parent, err := s.host.LinkByName(n.Parent)
	if err != nil {
		return errs.NotFoundf("network %q: %w", n.Parent, err)
	}
	mac, err := n.mac()
	if err != nil {
		return err
	}
	mtu := n.MTU
	if mtu == 0 {
		mtu = parent.Attrs().MTU
	}
	switch n.Kind {
	case "bridged":
		err = s.addVeth(n, parent, mac, mtu)
	case "macvlan":
		err = s.addMacvlan(n, parent, mac, mtu)
	default:
		return errs.Invalidf("nic %q has kind %q: bridged and macvlan are allowed", n.Device, n.Kind)
	}
	if err != nil {
		return err
	}
	inner, err := s.guest.LinkByName(n.Name)
	if err != nil {
		return err
	}
	return s.guest.LinkSetUp(inner)
}

func (n NIC) mac() (net.HardwareAddr, error) {
	if n.MAC == "" {
		return nil, nil // The kernel chooses one.
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return nil, errs.Invalidf("MAC address %q: %w", n.MAC, err)
	}
	return mac, nil
}

func (s *netNS) addVeth(n NIC, bridge netlink.Link, mac net.HardwareAddr, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = n.HostName, mtu
	err := s.host.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: n.Name, PeerHardwareAddr: mac, PeerMTU: uint32(mtu), //nolint:gosec // The MTU is one.
		PeerNamespace: netlink.NsFd(int(s.file.Fd())),
	})
	if err != nil {
		return fmt.Errorf("make %s: %w", n.HostName, err)
	}
	outer, err := s.host.LinkByName(n.HostName)
	if err != nil {
		return err
	}
	if err := s.host.LinkSetMaster(outer, bridge); err != nil {
		return fmt.Errorf("connect to %s: %w", n.Parent, err)
	}
	return s.host.LinkSetUp(outer)
}

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "vepa": netlink.MACVLAN_MODE_VEPA,
	"passthru": netlink.MACVLAN_MODE_PASSTHRU, "private": netlink.MACVLAN_MODE_PRIVATE,
}

func (s *netNS) addMacvlan(n NIC, parent netlink.Link, mac net.HardwareAddr, mtu int) error {
	mode, ok := macvlanModes[n.Mode]
	if !ok {
		return errs.Invalidf("nic %q has macvlan mode %q: bridge, vepa, passthru and private are allowed", n.Device, n.Mode)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.ParentIndex, attrs.HardwareAddr = n.Name, mtu, parent.Attrs().Index, mac
	attrs.Namespace = netlink.NsFd(int(s.file.Fd()))
	return s.host.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: mode})
}

// remove removes the interface, if it is there.
func (s *netNS) remove(n NIC) error {
	if n.HostName != "" && n.Kind == "bridged" {
		return removeLink(s.host, n.HostName)
	}
	return removeLink(s.guest, n.Name)
}

// unplug removes the host's ends of the interfaces of a container that is
// being killed, while its processes end. liblxc does that after their end, and
// does it still where this fails; but the kernel takes as long for the one as
// for the other.
func (c *container) unplug() {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return
	}
	defer host.Close()
	for _, n := range c.specNow().NICs {
		if n.HostName != "" && n.Kind == "bridged" {
			_ = removeLink(host, n.HostName)
		}
	}
}

func removeLink(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil
	}
	if err != nil {
		return err
	}
	return h.LinkDel(link)
}
