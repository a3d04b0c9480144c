package netkeys_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/shared/errs"
)

// What LXD and Incus have for each type of network.
var peers = map[string]string{
	netkeys.Bridge: `bgp.ipv4.instances bgp.ipv4.nexthop bgp.ipv6.instances bgp.ipv6.nexthop bgp.peers.x.address bgp.peers.x.asn
		bgp.peers.x.holdtime bgp.peers.x.interface bgp.peers.x.password bridge.driver bridge.external_interfaces bridge.hwaddr
		bridge.mode bridge.mtu bridge.multicast_snooping dns.domain dns.mode dns.nameservers dns.search dns.zone.forward
		dns.zone.reverse.ipv4 dns.zone.reverse.ipv6 fan.overlay_subnet fan.underlay_subnet ipv4.address ipv4.dhcp
		ipv4.dhcp.expiry ipv4.dhcp.gateway ipv4.dhcp.ranges ipv4.dhcp.routes ipv4.firewall ipv4.nat ipv4.nat.address
		ipv4.nat.order ipv4.ovn.ranges ipv4.routes ipv4.routing ipv6.address ipv6.dhcp ipv6.dhcp.expiry ipv6.dhcp.ranges
		ipv6.dhcp.stateful ipv6.firewall ipv6.nat ipv6.nat.address ipv6.nat.order ipv6.ovn.ranges ipv6.ra ipv6.routes
		ipv6.routing raw.dnsmasq security.acls security.acls.default.egress.action security.acls.default.egress.logged
		security.acls.default.ingress.action security.acls.default.ingress.logged tunnel.x.group tunnel.x.id
		tunnel.x.interface tunnel.x.local tunnel.x.port tunnel.x.protocol tunnel.x.remote tunnel.x.ttl user.x`,
	netkeys.Macvlan: "gvrp mtu parent user.x vlan",
	netkeys.Physical: `bgp.peers.x.address bgp.peers.x.asn bgp.peers.x.holdtime bgp.peers.x.interface bgp.peers.x.password
		dns.nameservers gvrp ipv4.gateway ipv4.gateway.hwaddr ipv4.ovn.ranges ipv4.routes ipv4.routes.anycast ipv6.gateway
		ipv6.gateway.hwaddr ipv6.ovn.ranges ipv6.routes ipv6.routes.anycast mtu ovn.ingress_mode parent user.x vlan
		vlan.tagged`,
}

// TestPeers looks whether each key that LXD and Incus have is served, or
// refused with a reason.
func TestPeers(t *testing.T) {
	for typ, names := range peers {
		for name := range strings.FieldsSeq(names) {
			err := parse(typ, name, "\x01")
			if err == nil && (name == "user.x" || name == "raw.dnsmasq") { // Which are text.
				continue
			}
			served := err != nil && strings.Contains(err.Error(), "want ")
			refused := err != nil && strings.Contains(err.Error(), "cannot be set: ")
			if !errs.Is(err, errs.Invalid) || !served && !refused {
				t.Errorf("%s of %s: got %v", name, typ, err)
			}
		}
	}
}
