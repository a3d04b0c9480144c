package netkeys

import (
	"slices"
	"sync"

	"github.com/cuib/cuib/profiles"
)

// A Refusal is something that networks of LXD and Incus have, and none has
// here, with the reason.
type Refusal struct {
	Name  string   // The key, with * for any text.
	Value string   // The one value that is meant; empty for all.
	Types []string // The types of network that are meant; none for all.
	Why   string
}

const (
	whyBGP     = "nothing here speaks BGP: run FRR or BIRD on the host, they can announce the routes that the host has"
	whyOVN     = "there are no OVN networks"
	whyVSwitch = "bridges are the kernel's; give the port of an Open vSwitch to instances by nictype physical, or as one of bridge.external_interfaces"
	whyUplink  = "only routers of OVN networks ask for it; what is beyond the parent gives instances addresses and routes"
	whyFan     = "only kernels of Ubuntu have fan networks"
)

// Refusals returns all of them.
func Refusals() []Refusal { return slices.Clone(refusals()) }

// refusals are made once: each value of each network is looked up among them.
var refusals = sync.OnceValue(func() []Refusal {
	all := []Refusal{{Name: "bridge.driver", Value: "openvswitch", Why: whyVSwitch}}
	for _, name := range []string{"dns.nameservers", "ipv4.gateway", "ipv4.gateway.hwaddr", "ipv4.routes", "ipv4.routes.anycast", "ipv6.gateway", "ipv6.gateway.hwaddr", "ipv6.routes", "ipv6.routes.anycast"} {
		all = append(all, Refusal{Name: name, Types: []string{Physical}, Why: whyUplink})
	}
	for _, r := range []struct {
		why   string
		names []string
	}{
		{whyBGP, []string{"bgp.ipv4.*", "bgp.ipv6.*", "bgp.peers.*"}},
		{whyOVN, []string{"acceleration.parent", "bridge.multicast_relay", "ipv4.l3only", "ipv4.ovn.ranges", "ipv6.l3only", "ipv6.ovn.ranges", "network", "ovn.ingress_mode"}},
		{whyFan, []string{"bridge.mode", "fan.*"}},
	} {
		for _, name := range r.names {
			all = append(all, Refusal{Name: name, Why: r.why})
		}
	}
	return all
})

// refused returns why a type of network cannot have a key.
func refused(typ, name string) (why string, no bool) {
	for _, r := range refusals() {
		if r.Value == "" && profiles.Matches(r.Name, name) && (len(r.Types) == 0 || slices.Contains(r.Types, typ)) {
			return r.Why, true
		}
	}
	return "", false
}

// refusedValue returns why a key cannot have a value.
func refusedValue(name, value string) (why string, no bool) {
	for _, r := range refusals() {
		if r.Value == value && r.Name == name {
			return r.Why, true
		}
	}
	return "", false
}

// RefusedType returns why there are no networks of a type that LXD and Incus
// have.
func RefusedType(typ string) (why string, no bool) {
	why, no = map[string]string{
		"ovn":   whyOVN + "; a bridge serves what is on one host",
		"sriov": "virtual functions of network cards (SR-IOV) are not handed out; macvlan shares a card, and physical hands over the whole",
	}[typ]
	return why, no
}
