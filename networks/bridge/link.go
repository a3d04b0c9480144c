package bridge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/crash"
	"github.com/cuib/cuib/shared/errs"
)

// defaultMTU is Ethernet's.
const defaultMTU = 1500

// applyLink makes the bridge be as cfg says, and returns its index.
func applyLink(cfg networks.Config) (int, error) {
	mac, err := hwaddr(cfg)
	if err != nil {
		return 0, err
	}
	l, err := bridgeOf(cfg, mac)
	if err != nil {
		return 0, err
	}
	if err := isBridge(l); err != nil {
		return 0, err
	}
	if alias := aliasOf(cfg.Name); l.Attrs().Alias != alias {
		if err := netlink.LinkSetAlias(l, alias); err != nil {
			return 0, fmt.Errorf("set alias %q: %w", alias, err)
		}
	}
	if mtu := mtuOf(cfg); l.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(l, mtu); err != nil {
			return 0, fmt.Errorf("set MTU %d: %w", mtu, err)
		}
	}
	if l.Attrs().HardwareAddr.String() != mac.String() {
		if err := netlink.LinkSetHardwareAddr(l, mac); err != nil {
			return 0, fmt.Errorf("set address %s: %w", mac, err)
		}
	}
	if err := applySysctls(cfg); err != nil {
		return 0, err
	}
	if err := applyAddresses(l, mac, cfg); err != nil {
		return 0, err
	}
	return l.Attrs().Index, start(l, cfg)
}

// start gives a bridge its ports, and sets it up.
func start(l netlink.Link, cfg networks.Config) error {
	if err := applyPorts(l, cfg); err != nil {
		return err
	}
	// Bridges are made without STP, and we leave it so.
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := snoop(l, !cfg.NoSnooping); err != nil {
		return err
	}
	if err := applyExternal(l, cfg); err != nil {
		return err
	}
	return applyRoutes(l, cfg)
}

// snoop has the bridge learn who wants which multicast, or send all to all.
func snoop(l netlink.Link, on bool) error { //nolint:revive // a value and not a switch
	if br, ok := l.(*netlink.Bridge); ok && br.MulticastSnooping != nil && *br.MulticastSnooping == on {
		return nil
	}
	// A kernel that cannot learn it sends all to all.
	if err := netlink.BridgeSetMcastSnoop(l, on); err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("set multicast snooping: %w", err)
	}
	return nil
}

// bridgeOf returns the bridge of the network, which it makes if there is none.
// One that somebody has renamed gets its name back, with all its ports.
func bridgeOf(cfg networks.Config, mac net.HardwareAddr) (netlink.Link, error) {
	l, err := netlink.LinkByName(cfg.Name)
	if !missing(err) {
		return l, err
	}
	all, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, l := range all {
		if l.Type() != "bridge" || l.Attrs().Alias != aliasOf(cfg.Name) {
			continue
		}
		if err := rename(l, cfg.Name); err != nil {
			return nil, fmt.Errorf("rename %s: %w", l.Attrs().Name, err)
		}
		return netlink.LinkByName(cfg.Name)
	}
	return addLink(cfg, mac)
}

// aliasOf is what a network's bridge is known by whatever name it has. Its MAC
// address does not tell: another network can have the same.
func aliasOf(network string) string { return "cuib bridge " + network }

// rename gives an interface a name. Kernels before 6.2 rename none that is up.
func rename(l netlink.Link, name string) error {
	err := netlink.LinkSetName(l, name)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := netlink.LinkSetDown(l); err != nil {
		return err
	}
	return netlink.LinkSetName(l, name) // It is set up then.
}

func addLink(cfg networks.Config, mac net.HardwareAddr) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = cfg.Name, mac, mtuOf(cfg)
	defer crash.Point("after the bridge", cfg.Name)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, err
	}
	return netlink.LinkByName(cfg.Name)
}

// applyPorts puts the ports of running instances back into the bridge, if it
// was deleted below them.
func applyPorts(bridge netlink.Link, cfg networks.Config) error {
	for _, h := range cfg.Hosts {
		if h.Port == "" {
			continue
		}
		l, err := netlink.LinkByName(h.Port)
		if missing(err) {
			continue
		}
		if err != nil {
			return err
		}
		if l.Type() != "veth" || l.Attrs().MasterIndex != 0 {
			continue
		}
		if err := netlink.LinkSetMaster(l, bridge); err != nil {
			return fmt.Errorf("attach %s: %w", h.Port, err)
		}
	}
	return nil
}

// isBridge returns an error if l, which has the name of one of our bridges,
// is something else.
func isBridge(l netlink.Link) error {
	if l.Type() != "bridge" {
		return errs.Conflictf("network interface %q exists already and is no bridge (%s)", l.Attrs().Name, l.Type())
	}
	return nil
}

// applyAddresses makes the bridge have the addresses of cfg and no others,
// but for those that the kernel makes itself. Of these it needs one, which
// instances know the router by. The kernel makes it when the bridge comes up,
// and not again when somebody flushes it.
func applyAddresses(l netlink.Link, mac net.HardwareAddr, cfg networks.Config) error {
	have, err := addresses(l)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	var want []netip.Prefix
	for _, p := range []netip.Prefix{cfg.IPv4.Address, cfg.IPv6.Address} {
		if p.IsValid() {
			want = append(want, p)
		}
	}
	if cfg.IPv6.Address.IsValid() && !slices.ContainsFunc(have, isLinkLocal) {
		want = append(want, linkLocal(mac))
	}
	for _, a := range have {
		p := prefix(a)
		if i := slices.Index(want, p); i >= 0 {
			want = slices.Delete(want, i, i+1)
			continue
		}
		if isLinkLocal(a) {
			continue
		}
		if err := netlink.AddrDel(l, &a); err != nil {
			return fmt.Errorf("delete address %s: %w", p, err)
		}
	}
	for _, p := range want {
		if err := netlink.AddrAdd(l, address(p)); err != nil {
			return fmt.Errorf("add address %s: %w", p, err)
		}
	}
	return nil
}

// addresses returns those of an interface.
func addresses(l netlink.Link) ([]netlink.Addr, error) {
	return whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
}

// whole lists something of the kernel's, and again if it changed meanwhile.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	for {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
}

func isLinkLocal(a netlink.Addr) bool {
	addr := prefix(a).Addr()
	return addr.Is6() && addr.IsLinkLocalUnicast()
}

// linkLocal returns the address that the kernel makes of a MAC address.
func linkLocal(mac net.HardwareAddr) netip.Prefix {
	addr := netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 0x02, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.PrefixFrom(addr, 64)
}

func prefix(a netlink.Addr) netip.Prefix {
	addr, _ := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(addr, bits)
}

// address returns p for the kernel. A bridge without ports could not finish
// the detection of duplicates, so there is none.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	} else if p.Bits() < 31 {
		a.Broadcast = networks.Last(p).AsSlice()
	}
	return a
}

// hwaddr returns the bridge's address. Without one of its own a bridge would
// take that of a port, and change it with them.
func hwaddr(cfg networks.Config) (net.HardwareAddr, error) {
	if cfg.HWAddr != "" {
		return networks.ParseMAC(cfg.HWAddr)
	}
	sum := sha256.Sum256([]byte("cuib bridge " + cfg.Name))
	return net.HardwareAddr{0x02, 0x66, 0x6a, sum[0], sum[1], sum[2]}, nil
}

func mtuOf(cfg networks.Config) int {
	if cfg.MTU == 0 {
		return defaultMTU
	}
	return cfg.MTU
}
