package runtime

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

func handleAt(ns *os.File) (*netlink.Handle, error) {
	return netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE)
}

// netlink opens a socket in the network namespace of init.
func (in *guestInit) netlink() (*netlink.Handle, error) {
	file, err := os.Open(filepath.Join(procDir(in.pid), "ns/net"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if in.ended() { // The number may be another process's by now.
		return nil, errs.Newf(errs.Unavailable, "the instance has ended or reboots")
	}
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
		return nil, c.orGone(err)
	}
	defer guest.Close()
	if sharesHost(c.specNow()) {
		return outward(guest)
	}
	links, err := guest.LinkList()
	if err != nil {
		return nil, c.orGone(err)
	}
	addresses, err := guest.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, c.orGone(err)
	}
	hostNames := map[string]string{}
	for _, n := range c.specNow().NICs {
		hostNames[n.Name] = r.hostName(name, n)
	}
	all := map[string]Interface{}
	for _, l := range links {
		one := describe(l.Attrs())
		one.HostName = hostNames[l.Attrs().Name]
		one.Addresses = prefixes(slices.DeleteFunc(slices.Clone(addresses), func(a netlink.Addr) bool { return a.LinkIndex != l.Attrs().Index }))
		all[l.Attrs().Name] = one
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
