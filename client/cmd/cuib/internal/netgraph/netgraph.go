// Package netgraph draws what is connected with what: the host's interfaces,
// networks, what is published, and instances. It is made from what the API says,
// asks nobody, and draws the same each time.
package netgraph

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

// Source is what a picture is made from.
type Source struct {
	Networks  []api.Network
	States    map[string]api.NetworkState // Of networks and of the host's interfaces.
	Instances []api.InstanceFull
	Forwards  map[string][]api.NetworkForward // By network.
	Balancers map[string][]api.NetworkLoadBalancer
	Peers     map[string][]string // Networks that a network is joined with.
}

// Graph is what there is, in order.
type Graph struct {
	Uplinks   []Interface
	Networks  []Network
	Published []Published
	Instances []Instance
}

// Interface is one of the host.
type Interface struct {
	Name, Kind string
	Up         bool
	Addresses  []string
	Gateways   []string // Of the host's default routes through it.
}

// Network is a managed network, or a bridge of the host with instances on it.
type Network struct {
	Interface

	Status  string   // As the API has it; empty for what is not managed.
	Uplinks []Uplink // What is behind it.
	Peers   []string // Networks, and hosts of an overlay.
}

// Uplink is how a network gets out.
type Uplink struct{ Interface, How string }

// Published is something of the host that leads to instances.
type Published struct {
	Kind    string // forward, load balancer or proxy.
	Network string // Empty for a proxy.
	Listen  string
	Ports   []PublishedPort
}

// PublishedPort is a part of it.
type PublishedPort struct {
	Listen  string
	Targets []Target
}

// Target is where a port leads to.
type Target struct{ Address, Instance string } // No instance if none has the address.

// Instance is an instance with its interfaces.
type Instance struct {
	Name, Status string
	NICs         []NIC
}

// NIC is an interface of an instance.
type NIC struct {
	Device, Name string
	Kind         string // Of one that is on no network: routed, p2p and so on; host for the host's own network.
	On           string // The network, or the host's interface; empty for neither.
	Addresses    []string
}

// New sorts out what there is.
func New(s Source) Graph {
	var g Graph
	managed := map[string]bool{}
	for _, n := range s.Networks {
		managed[n.Name] = n.Managed
	}
	used := map[string]bool{} // Interfaces that instances and networks are on.
	for _, in := range s.Instances {
		one := newInstance(in)
		for _, n := range one.NICs {
			used[n.On] = true
		}
		g.Instances = append(g.Instances, one)
		g.Published = append(g.Published, proxies(in)...)
	}
	for _, n := range s.Networks {
		if n.Managed {
			used[n.Config["parent"]] = true
		}
	}
	for _, n := range s.Networks {
		i := newInterface(n, s.States[n.Name])
		switch {
		case n.Managed || n.Type == "bridge" && used[n.Name]:
			one := Network{Interface: i, Status: n.Status, Peers: slices.Clone(s.Peers[n.Name])}
			one.Peers = append(one.Peers, list(n.Config["vxlan.peers"])...)
			g.Networks = append(g.Networks, one)
		case isUplink(n, i, used):
			g.Uplinks = append(g.Uplinks, i)
		}
	}
	for i, n := range g.Networks {
		if k := slices.IndexFunc(s.Networks, func(o api.Network) bool { return o.Name == n.Name }); managed[n.Name] {
			g.Networks[i].Uplinks = uplinks(s.Networks[k], g.Uplinks)
		}
	}
	owners := g.owners()
	for _, n := range s.Networks {
		g.Published = append(g.Published, forwards(n.Name, s.Forwards[n.Name], owners)...)
		g.Published = append(g.Published, balancers(n.Name, s.Balancers[n.Name], owners)...)
	}
	g.sort()
	return g
}

func (g *Graph) sort() {
	slices.SortFunc(g.Uplinks, func(a, b Interface) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(g.Networks, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(g.Instances, func(a, b Instance) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(g.Published, func(a, b Published) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Listen, b.Listen))
	})
}

// isUplink leaves out what nobody asks for: the loopback, ends of pairs, what
// others have made.
func isUplink(n api.Network, i Interface, used map[string]bool) bool {
	return n.Type != "loopback" && (len(i.Gateways) > 0 || used[n.Name] || slices.Contains([]string{"physical", "bond", "vlan"}, n.Type))
}

func newInterface(n api.Network, st api.NetworkState) Interface {
	i := Interface{Name: n.Name, Kind: n.Type, Up: st.State == "up", Gateways: slices.Sorted(slices.Values(st.Gateways))}
	if n.Managed && n.Config["parent"] != "" {
		return i // The state is the parent's.
	}
	for _, a := range st.Addresses {
		if a.Scope != "link" {
			i.Addresses = append(i.Addresses, a.Address+"/"+a.Netmask)
		}
	}
	slices.SortFunc(i.Addresses, byFamily)
	return i
}

// byFamily has IPv4 before IPv6.
func byFamily(a, b string) int {
	return cmp.Or(cmp.Compare(strings.Count(a, ":"), strings.Count(b, ":")), cmp.Compare(a, b))
}

// uplinks says how a network gets out: by its parent, or by the host's default
// routes.
func uplinks(n api.Network, all []Interface) []Uplink {
	if parent := n.Config["parent"]; parent != "" {
		return []Uplink{{parent, "on"}}
	}
	how := ""
	for _, f := range []string{"ipv4", "ipv6"} {
		address := n.Config[f+".address"]
		switch {
		case address == "" || address == "none":
		case n.Config[f+".nat"] == "true" || n.Config[f+".nat"] == "1":
			how = "NAT"
		case how == "":
			how = "routed"
		}
	}
	if how == "" {
		return nil
	}
	var out []Uplink
	for _, i := range all {
		if len(i.Gateways) > 0 {
			out = append(out, Uplink{i.Name, how})
		}
	}
	return out
}

const ofHost = "host"

func newInstance(in api.InstanceFull) Instance {
	out := Instance{Name: in.Name, Status: strings.ToLower(in.Status)}
	for name, dev := range in.ExpandedDevices {
		if dev["type"] != "nic" {
			continue
		}
		n := NIC{Device: name, Name: cmp.Or(dev["name"], in.Config["volatile."+name+".name"], name), On: cmp.Or(dev["network"], dev["parent"])}
		if kind := dev["nictype"]; kind != "bridged" {
			n.Kind = kind
		}
		if config := dev["cni.config"]; config != "" {
			n.Kind += " " + config
		}
		if n.Kind != ofHost { // Whose addresses are not the instance's.
			n.Addresses = nicAddresses(in, dev, n.Name)
		}
		out.NICs = append(out.NICs, n)
	}
	slices.SortFunc(out.NICs, func(a, b NIC) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Device, b.Device)) })
	return out
}

// nicAddresses are those that it has, or else those that it is to have.
func nicAddresses(in api.InstanceFull, dev map[string]string, name string) []string {
	var out []string
	if in.State != nil {
		for _, a := range in.State.Network[name].Addresses {
			if a.Scope == "global" {
				out = append(out, a.Address)
			}
		}
	}
	if len(out) == 0 {
		for _, f := range []string{"ipv4.address", "ipv6.address"} {
			for _, a := range list(dev[f]) {
				if a != "none" {
					out = append(out, a)
				}
			}
		}
	}
	slices.SortFunc(out, byFamily)
	return out
}

func list(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
}

// owners are instances by their addresses.
func (g *Graph) owners() map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, in := range g.Instances {
		for _, n := range in.NICs {
			for _, a := range n.Addresses {
				if ip, err := netip.ParseAddr(a); err == nil {
					out[ip] = in.Name
				}
			}
		}
	}
	return out
}
