package firewall

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// Needs returns the packets that have to pass for a bridge that is as cfg says:
// what guests ask of the host, and what goes through it by the interface that
// the default route has now.
func Needs(cfg networks.Config) ([]Packet, error) {
	var out []Packet
	for _, f := range []struct {
		family networks.Family
		ipv6   bool
		number int
	}{{cfg.IPv4, false, netlink.FAMILY_V4}, {cfg.IPv6, true, netlink.FAMILY_V6}} {
		if !f.family.Address.IsValid() {
			continue
		}
		uplink, err := wayOut(f.number)
		if err != nil {
			return nil, err
		}
		out = append(out, needs(cfg.Name, f.family, uplink)...)
	}
	return out, nil
}

// Inward returns the packets that have to pass for the host to reach the guests
// of a bridge. A network does its work without them.
func Inward(cfg networks.Config) []Packet {
	var out []Packet
	for version, f := range map[string]networks.Family{"IPv4": cfg.IPv4, "IPv6": cfg.IPv6} {
		if !f.Address.IsValid() {
			continue
		}
		host, guest := f.Address.Addr(), f.Address.Addr().Next()
		p := Packet{IPv6: host.Is6(), Proto: unix.IPPROTO_TCP}
		there, back := p, p
		there.What, there.Hook, there.Out, there.Port, there.Src, there.Dst = "connections of the host to instances ("+version+")", Output, cfg.Name, 80, host, guest
		back.What, back.Hook, back.In, back.Reply, back.Src, back.Dst = "answers of instances to the host ("+version+")", Input, cfg.Name, true, guest, host
		out = append(out, there, back)
		if host.Is6() {
			found := p
			found.What, found.Hook, found.In, found.Proto, found.ICMPType, found.Src, found.Dst = "neighbor advertisements of instances (IPv6)", Input, cfg.Name, unix.IPPROTO_ICMPV6, 136, guest, host
			out = append(out, found)
		}
	}
	return out
}

// foreign is an interface that the rules of nobody name.
const foreign = "cuibdr"

// Outside returns the packets that have to pass for others to reach the guests
// of a bridge that is routed and has no NAT, by an interface that no rule is for.
func Outside(cfg networks.Config) []Packet {
	var out []Packet
	for version, f := range map[string]networks.Family{"IPv4": cfg.IPv4, "IPv6": cfg.IPv6} {
		if !f.Address.IsValid() || !f.Routing || f.NAT {
			continue
		}
		guest := f.Address.Addr().Next()
		p := Packet{Hook: Forward, IPv6: guest.Is6(), Proto: unix.IPPROTO_TCP}
		there, back := p, p
		there.What, there.In, there.Out, there.Port, there.Dst = "connections from other networks to instances ("+version+")", foreign, cfg.Name, 80, guest
		back.What, back.In, back.Out, back.Reply, back.Src = "answers of instances to other networks ("+version+")", cfg.Name, foreign, true, guest
		out = append(out, there, back)
	}
	return out
}

// needs returns the packets of one of IPv4 and IPv6.
func needs(bridge string, f networks.Family, uplink string) []Packet {
	host := f.Address.Addr()
	guest := host.Next() // Any other than the host's own.
	p := Packet{IPv6: host.Is6(), Src: guest}
	version := map[bool]string{false: "IPv4", true: "IPv6"}[p.IPv6]

	var out []Packet
	add := func(what string, change func(p *Packet)) {
		p := p
		p.What = fmt.Sprintf("%s (%s)", what, version)
		change(&p)
		out = append(out, p)
	}
	toHost := func(proto uint8, port uint16) func(p *Packet) {
		return func(p *Packet) { p.Hook, p.In, p.Dst, p.Proto, p.Port = Input, bridge, host, proto, port }
	}
	switch {
	case f.DHCP && !p.IPv6:
		add("DHCP requests of instances", func(p *Packet) {
			p.Hook, p.In, p.Proto, p.Port = Input, bridge, unix.IPPROTO_UDP, 67
			p.Src, p.Dst = netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255})
		})
		add("DHCP answers to instances", func(p *Packet) {
			p.Hook, p.Out, p.Proto, p.Port, p.Src, p.Dst = Output, bridge, unix.IPPROTO_UDP, 68, host, guest
		})
	case p.IPv6:
		add("router solicitations of instances", func(p *Packet) {
			p.Hook, p.In, p.Proto, p.ICMPType, p.Src, p.Dst = Input, bridge, unix.IPPROTO_ICMPV6, 133, netip.Addr{}, netip.MustParseAddr("ff02::2")
		})
		add("router advertisements to instances", func(p *Packet) {
			p.Hook, p.Out, p.Proto, p.ICMPType, p.Src, p.Dst = Output, bridge, unix.IPPROTO_ICMPV6, 134, netip.Addr{}, netip.MustParseAddr("ff02::1")
		})
	}
	if p.IPv6 && f.Stateful {
		add("DHCP requests of instances", toHost(unix.IPPROTO_UDP, 547))
	}
	add("DNS queries of instances", toHost(unix.IPPROTO_UDP, 53))
	if !f.Routing {
		return out
	}
	add("connections of instances to other networks", func(p *Packet) {
		p.Hook, p.In, p.Out, p.Proto, p.Port = Forward, bridge, uplink, unix.IPPROTO_TCP, 443
	})
	add("answers from other networks to instances", func(p *Packet) {
		p.Hook, p.In, p.Out, p.Proto, p.Reply, p.Src, p.Dst = Forward, uplink, bridge, unix.IPPROTO_TCP, true, netip.Addr{}, guest
	})
	return out
}

// wayOut returns the interface of the default route; "" if there is none.
func wayOut(family int) (string, error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.LinkIndex == 0 || r.Dst != nil && (!r.Dst.IP.IsUnspecified() || ones(r.Dst.Mask) != 0) {
			continue
		}
		link, err := net.InterfaceByIndex(r.LinkIndex)
		if err == nil {
			return link.Name, nil
		}
	}
	return "", nil
}

func ones(m net.IPMask) int {
	n, _ := m.Size()
	return n
}

// Remedy tells what lets the packets of a bridge pass, as the owner of the
// table has it done.
func (o Obstacle) Remedy(bridge string) string {
	p := o.Packet
	if inward := o.inward(bridge); inward != "" {
		return inward
	}
	switch {
	case o.Owner == Docker && p.Hook == Forward:
		return fmt.Sprintf("%[1]s -I DOCKER-USER -i %[2]s -j ACCEPT; %[1]s -I DOCKER-USER -o %[2]s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", o.iptables(), bridge)
	case o.Owner == UFW && p.Hook == Forward:
		return "ufw route allow in on " + bridge
	case o.Owner == UFW && p.Hook == Input && p.Proto == unix.IPPROTO_UDP:
		return fmt.Sprintf("ufw allow in on %s to any port %d proto udp", bridge, p.Port)
	case o.Owner == Firewalld:
		return fmt.Sprintf("firewall-cmd --permanent --zone=trusted --change-interface=%s; firewall-cmd --reload", bridge)
	}
	out := p.Hook == Output || p.Hook == Forward && p.Out == bridge
	if o.Legacy {
		return fmt.Sprintf("%s -I %s %s %s -j ACCEPT", o.iptables(), o.Base, map[bool]string{false: "-i", true: "-o"}[out], bridge)
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s %q accept", o.Family, o.Table, o.Base, map[bool]string{false: "iifname", true: "oifname"}[out], bridge)
}

// inward is the remedy for connections from other networks, of owners whose
// other rules let only answers in; empty for all else.
func (o Obstacle) inward(bridge string) string {
	switch in := o.Packet.Hook == Forward && o.Packet.Out == bridge && !o.Packet.Reply; {
	case in && o.Owner == Docker:
		return fmt.Sprintf("%s -I DOCKER-USER -o %s -j ACCEPT", o.iptables(), bridge)
	case in && o.Owner == UFW:
		return "ufw route allow out on " + bridge
	}
	return ""
}

// iptables is the program for the table.
func (o Obstacle) iptables() string {
	name := map[bool]string{false: "iptables", true: "ip6tables"}[o.Packet.IPv6]
	if o.Legacy {
		return name + "-legacy"
	}
	return name
}
