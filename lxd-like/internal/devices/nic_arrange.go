package devices

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// The lengths of networks that addresses of an ipvlan of mode l2 are in, if
// they do not say.
const (
	usualIPv4 = 24
	usualIPv6 = 64
)

// arrange says what the host does for a NIC. The options are valid each and
// together.
func arrange(name string, n *runtime.NIC, dev profiles.Device, env Env, link networks.Link) error {
	n.Unplugged = dev["connected"] != "" && !yes(dev, "connected")
	n.QueueLength, _ = strconv.Atoi(dev["queue.tx.length"]) // As all that follow, it is valid or empty.
	priority, _ := strconv.ParseUint(dev["limits.priority"], 10, 32)
	n.Priority = uint32(priority)
	n.Ingress, n.Egress = rate(dev, "limits.ingress"), rate(dev, "limits.egress")
	n.Isolated = yes(dev, "security.port_isolation")
	n.ACL = aclsOf(dev)
	four, six := yes(dev, "security.ipv4_filtering"), yes(dev, "security.ipv6_filtering")
	n.FilterMAC = four || six || yes(dev, "security.mac_filtering")
	n.VLAN = vlans(dev, link)
	n.IPv4.Only, n.IPv6.Only = four, six
	if n.Kind == nic.CNI {
		return arrangePlugins(n, dev)
	}
	if n.Kind == nic.Bridged && (four || six) {
		if err := hold(name, n, dev, env, link); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name, host string
		to         *nic.Family
	}{{"ipv4", "169.254.0.1", &n.IPv4}, {"ipv6", "fe80::1", &n.IPv6}} {
		if err := routes(f.name, dev, f.to); err != nil {
			return err
		}
		if n.Kind == nic.Routed || n.Kind == nic.IPVlan {
			if err := give(f.name, f.host, n, dev, f.to); err != nil {
				return err
			}
		}
	}
	return nil
}

// vlans are those that the NIC says, or else its network.
func vlans(dev profiles.Device, link networks.Link) nic.VLAN {
	v := nic.VLAN{Untagged: dev["vlan"] == "none", GVRP: yes(dev, "gvrp")}
	v.ID, _ = strconv.Atoi(dev["vlan"]) // As the others, it is valid or empty.
	v.Tagged, _ = profiles.ParseVLANs(dev["vlan.tagged"])
	if dev["vlan"] == "" && link.VLAN != 0 {
		v.ID, v.GVRP = link.VLAN, link.GVRP
	}
	if dev["vlan.tagged"] == "" {
		v.Tagged = link.Tagged
	}
	return v
}

// aclsOf says which ACLs a NIC has.
func aclsOf(dev profiles.Device) acl.Ref {
	const option = "security.acls"
	all := acl.Ref{Network: dev["network"], ACLs: profiles.SplitList(dev[option])}
	if len(all.ACLs) == 0 {
		return acl.Ref{}
	}
	of := func(direction string) acl.Default {
		return acl.Default{Action: dev[option+".default."+direction+".action"], Logged: dev[option+".default."+direction+".logged"]}
	}
	all.Ingress, all.Egress = of(acl.Ingress), of(acl.Egress)
	return all
}

func rate(dev profiles.Device, option string) int64 {
	v := dev[option]
	if v == "" {
		v = dev["limits.max"]
	}
	n, _ := profiles.ParseBitRate(v) // 0 for none.
	return n
}

// hold says which addresses a bridged NIC is held to: those that it has as a
// host of its network, and those that it makes of its MAC address.
func hold(name string, n *runtime.NIC, dev profiles.Device, env Env, link networks.Link) error {
	h, err := host(name, dev, env, n.MAC)
	if err != nil {
		return err
	}
	if n.IPv4.Only && h.IPv4.IsValid() {
		n.IPv4.Addresses = []netip.Prefix{single(h.IPv4)}
	}
	if !n.IPv6.Only || dev["ipv6.address"] == "none" {
		return nil
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return err
	}
	if h.IPv6.IsValid() {
		n.IPv6.Addresses = append(n.IPv6.Addresses, single(h.IPv6))
	}
	if link.Autoconf.IsValid() {
		n.IPv6.Addresses = append(n.IPv6.Addresses, single(ofMAC(link.Autoconf.Addr(), mac)))
	}
	n.IPv6.Addresses = append(n.IPv6.Addresses, single(ofMAC(netip.MustParseAddr("fe80::"), mac)))
	return nil
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// ofMAC is the address that a guest makes of its MAC address in a network.
func ofMAC(network netip.Addr, mac net.HardwareAddr) netip.Addr {
	raw := network.As16()
	copy(raw[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(raw)
}

// routes are what the host is to route to a NIC.
func routes(f string, dev profiles.Device, to *nic.Family) error {
	for _, option := range []string{f + ".routes", f + ".routes.external"} {
		for _, v := range profiles.SplitList(dev[option]) {
			p, err := netip.ParsePrefix(v)
			if err != nil {
				return errs.Invalidf("%s: %w", option, err)
			}
			to.Routes = append(to.Routes, p)
		}
	}
	return nil
}

// give says which addresses a routed NIC or an ipvlan has from its start.
func give(f, host string, n *runtime.NIC, dev profiles.Device, to *nic.Family) error {
	l2 := n.Kind == nic.IPVlan && n.Mode == "l2"
	for _, v := range profiles.SplitList(dev[f+".address"]) {
		a, bits, err := address(v)
		if err != nil {
			return errs.Invalidf("%s.address: %w", f, err)
		}
		p := single(a)
		switch {
		case l2 && bits >= 0:
			p = netip.PrefixFrom(a, bits)
		case l2 && a.Is4():
			p = netip.PrefixFrom(a, usualIPv4)
		case l2:
			p = netip.PrefixFrom(a, usualIPv6)
		}
		to.Addresses = append(to.Addresses, p)
	}
	to.Only = n.Kind == nic.Routed
	for _, v := range append(profiles.SplitList(dev[f+".host_tables"]), profiles.SplitList(dev[f+".host_table"])...) {
		id, _ := strconv.Atoi(v) // It is valid.
		to.Tables = append(to.Tables, id)
	}
	if dev[f+".host_table"] != "" {
		to.Tables = append([]int{mainTable}, to.Tables...) // It is one more.
	}
	to.Probe = n.Kind == nic.Routed && n.Parent != "" && (dev[f+".neighbor_probe"] == "" || yes(dev, f+".neighbor_probe"))
	return gateway(f, host, n, dev, to)
}

const mainTable = 254

func gateway(f, host string, n *runtime.NIC, dev profiles.Device, to *nic.Family) error {
	some := len(to.Addresses) > 0
	v := dev[f+".gateway"]
	switch {
	case n.Kind == nic.IPVlan && n.Mode == "l2":
		if v == "" || v == "none" {
			return nil
		}
		a, err := netip.ParseAddr(v)
		if err != nil {
			return errs.Invalidf("%s.gateway: %w", f, err)
		}
		to.Gateway = a
		return nil
	case n.Kind == nic.IPVlan:
		to.Onlink = some && v != "none"
		return nil
	}
	if own := dev[f+".host_address"]; own != "" {
		host = own
	} else if !some || v == "none" {
		return nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return errs.Invalidf("%s.host_address: %w", f, err)
	}
	to.HostAddress = a
	if some && v != "none" {
		to.Gateway = a
	}
	return nil
}
