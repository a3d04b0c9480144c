package vxlan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
)

// maxStrangers is how many MAC addresses are told of that are no instance's,
// such as those of containers in instances: a guest can make up any number.
const maxStrangers = 512

// describe returns what this host tells the others: the instances that it has,
// running or not, and who else was heard on the bridge.
func describe(cfg networks.Config) (networks.Member, error) {
	t, u, err := seen(cfg)
	if err != nil {
		return networks.Member{}, err
	}
	m := networks.Member{Underlay: u.local, View: view(cfg.Overlay, u), Same: same(cfg, u)}
	here, err := heard(cfg)
	if err != nil {
		return m, err
	}
	addrs, err := addresses(cfg, t)
	if err != nil {
		return m, err
	}
	told := map[string]bool{}
	for _, h := range cfg.Hosts {
		mac := lower(h.MAC)
		if told[mac] {
			continue
		}
		told[mac] = true
		g := networks.Guest{Name: h.Name, MAC: mac, Addresses: addrs[mac], Here: here[mac] || attached(cfg, h.Port)}
		if a := autoconf(cfg, mac); a.IsValid() && !slices.Contains(g.Addresses, a) {
			g.Addresses = append(g.Addresses, a)
		}
		m.Guests = append(m.Guests, g)
	}
	strangers := 0
	for mac := range here {
		if !told[mac] && strangers < maxStrangers {
			strangers++
			m.Guests = append(m.Guests, networks.Guest{MAC: mac, Addresses: addrs[mac], Here: true})
		}
	}
	if self, ok := t.self(cfg, u); ok {
		m.Guests = append(m.Guests, networks.Guest{MAC: self.MAC, Addresses: t.own(), Here: true, Host: true})
	}
	for i := range m.Guests {
		slices.SortFunc(m.Guests[i].Addresses, netip.Addr.Compare)
	}
	slices.SortFunc(m.Guests, func(a, b networks.Guest) int { return strings.Compare(a.MAC, b.MAC) })
	return m, nil
}

// same is what must be the same on all hosts.
func same(cfg networks.Config, u underlay) string {
	o := cfg.Overlay
	return fmt.Sprintf("vxlan.id=%d vxlan.port=%d encryption=%s ipv4.address=%s ipv6.address=%s",
		o.ID, o.Port, u.encrypt, text(cfg.IPv4.Address), text(cfg.IPv6.Address))
}

func text(p netip.Prefix) string {
	if !p.IsValid() {
		return "none"
	}
	return p.String()
}

// heard returns the MAC addresses that the bridge has heard on ports other
// than that to other hosts.
func heard(cfg networks.Config) (map[string]bool, error) {
	bridge, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	port, err := netlink.LinkByName(portName(cfg.Name))
	if err != nil {
		return nil, ignoreMissing(err)
	}
	k, err := forwarding(bridge.Attrs().Index, port.Attrs().Index)
	return k.local, err
}

// attached reports whether the host's end of an instance's NIC is on the
// bridge, also if it has not said anything yet.
func attached(cfg networks.Config, port string) bool {
	if port == "" {
		return false
	}
	bridge, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return false
	}
	l, err := netlink.LinkByName(port)
	return err == nil && l.Attrs().MasterIndex == bridge.Attrs().Index
}

// addresses returns the addresses that are known here of MAC addresses: given
// ones, and those that the host has talked to.
func addresses(cfg networks.Config, t *table) (map[string][]netip.Addr, error) {
	out := map[string][]netip.Addr{}
	add := func(mac string, a netip.Addr) {
		if within(cfg, a) && !slices.Contains(out[mac], a) {
			out[mac] = append(out[mac], a)
		}
	}
	full := cfg
	full.Hosts = nil
	for _, h := range cfg.Hosts {
		full.Hosts = append(full.Hosts, t.kept(cfg, h))
	}
	given, err := dnsmasq.Leases(full)
	if err != nil {
		return nil, err
	}
	for _, l := range given {
		add(lower(l.Host.MAC), l.Address)
	}
	bridge, err := netlink.LinkByName(cfg.Name)
	if err != nil {
		return out, ignoreMissing(err)
	}
	const known = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := listNeighbors(bridge.Attrs().Index, family)
		if err != nil {
			return nil, err
		}
		for _, n := range all {
			if a, ok := netip.AddrFromSlice(n.IP); ok && n.State&known != 0 && n.Flags&netlink.NTF_EXT_LEARNED == 0 {
				add(n.HardwareAddr.String(), a.Unmap())
			}
		}
	}
	return out, nil
}

// autoconf returns the address that a guest makes of its MAC address, if
// guests make theirs themselves.
func autoconf(cfg networks.Config, mac string) netip.Addr {
	f := cfg.IPv6
	hw, err := net.ParseMAC(mac)
	if err != nil || !f.Address.IsValid() || !f.DHCP || f.Stateful || f.Address.Bits() != 64 {
		return netip.Addr{}
	}
	raw := f.Address.Addr().As16()
	copy(raw[8:], []byte{hw[0] ^ 0x02, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]})
	return netip.AddrFrom16(raw)
}
