package runtime

import (
	"errors"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

func handleAt(ns *os.File) (*netlink.Handle, error) {
	return netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE)
}

// netlink opens a socket in the network namespace of init.
func (in *guestInit) netlink() (*netlink.Handle, error) {
	file, err := in.open("ns/net", os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return handleAt(file)
}

// Interfaces returns a running container's network interfaces by their names
// inside. Of one in the host's network they are those by which others reach the
// host.
func (r *Runtime) Interfaces(name string) (map[string]Interface, error) {
	c, in, err := r.findInit(name)
	if err != nil {
		return nil, err
	}
	guest, err := in.netlink()
	if err != nil {
		return nil, c.during(in, err)
	}
	defer guest.Close()
	if sharesHost(c.specNow()) {
		return outward(guest)
	}
	links, err := guest.LinkList()
	if interrupted(err) != nil {
		return nil, c.during(in, err)
	}
	addresses, err := addressesOf(guest)
	if err != nil {
		return nil, c.during(in, err)
	}
	hostNames := map[string]string{}
	for _, n := range c.specNow().NICs {
		hostNames[n.Name] = r.hostName(name, n)
	}
	all := map[string]Interface{}
	for _, l := range links {
		one := describe(l.Attrs())
		one.HostName = hostNames[l.Attrs().Name]
		one.Addresses = prefixes(addresses[l.Attrs().Index])
		all[l.Attrs().Name] = one
	}
	return all, nil
}

// interrupted drops an error that says that something has changed while it was
// listed. A guest can see to it that this is always so; what is missing or twice
// then was so a moment ago.
func interrupted(err error) error {
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil
	}
	return err
}

// addressesOf returns the addresses in a network namespace, by the index of
// their interfaces.
func addressesOf(h *netlink.Handle) (map[int][]netlink.Addr, error) {
	list, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if interrupted(err) != nil {
		return nil, err
	}
	all := map[int][]netlink.Addr{}
	for _, a := range list {
		all[a.LinkIndex] = append(all[a.LinkIndex], a)
	}
	return all, nil
}

func prefixes(addresses []netlink.Addr) []netip.Prefix {
	var all []netip.Prefix
	for _, a := range addresses {
		if a.IPNet == nil {
			continue
		}
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			bits, _ := a.Mask.Size()
			all = append(all, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	return all
}

func describe(a *netlink.LinkAttrs) Interface {
	one := Interface{Type: "broadcast", MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0}
	switch {
	case a.RawFlags&unix.IFF_LOOPBACK != 0:
		one.Type, one.MAC = "loopback", ""
	case a.RawFlags&unix.IFF_POINTOPOINT != 0:
		one.Type = "point-to-point"
	}
	if s := a.Statistics; s != nil {
		one.Counters = Counters{
			BytesIn: int64(s.RxBytes), BytesOut: int64(s.TxBytes), //nolint:gosec // Counters do not reach 2^63.
			PacketsIn: int64(s.RxPackets), PacketsOut: int64(s.TxPackets), //nolint:gosec // As above.
			ErrorsIn: int64(s.RxErrors), ErrorsOut: int64(s.TxErrors), //nolint:gosec // As above.
			DroppedIn: int64(s.RxDropped), DroppedOut: int64(s.TxDropped), //nolint:gosec // As above.
		}
	}
	return one
}
