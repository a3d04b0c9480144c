package netgraph

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

func proxies(in api.InstanceFull) []Published {
	var out []Published
	for _, name := range slices.Sorted(maps.Keys(in.ExpandedDevices)) {
		dev := in.ExpandedDevices[name]
		if dev["type"] != "proxy" {
			continue
		}
		to := Target{Address: dev["connect"], Instance: in.Name}
		from := dev["listen"]
		if dev["bind"] == "instance" || dev["bind"] == "guest" || dev["bind"] == "container" {
			from = "in " + in.Name + ": " + from
			to.Instance = ""
		}
		out = append(out, Published{Kind: "proxy", Listen: from, Ports: []PublishedPort{{Targets: []Target{to}}}})
	}
	return out
}

func target(address, port string, owners map[netip.Addr]string) Target {
	t := Target{Address: address}
	if ip, err := netip.ParseAddr(address); err == nil {
		t.Instance = owners[ip]
	}
	if port != "" {
		if strings.Contains(address, ":") {
			address = "[" + address + "]"
		}
		t.Address = address + ":" + port
	}
	return t
}

func forwards(network string, all []api.NetworkForward, owners map[netip.Addr]string) []Published {
	var out []Published
	for _, f := range all {
		one := Published{Kind: "forward", Network: network, Listen: f.ListenAddress}
		for _, p := range f.Ports {
			one.Ports = append(one.Ports, PublishedPort{
				Listen:  p.Protocol + " " + p.ListenPort,
				Targets: []Target{target(p.TargetAddress, cmp.Or(p.TargetPort, p.ListenPort), owners)},
			})
		}
		if to := f.Config["target_address"]; to != "" {
			one.Ports = append(one.Ports, PublishedPort{Listen: "the rest", Targets: []Target{target(to, "", owners)}})
		}
		out = append(out, one)
	}
	return out
}

func balancers(network string, all []api.NetworkLoadBalancer, owners map[netip.Addr]string) []Published {
	var out []Published
	for _, b := range all {
		backends := map[string]api.NetworkLoadBalancerBackend{}
		for _, e := range b.Backends {
			backends[e.Name] = e
		}
		one := Published{Kind: "load balancer", Network: network, Listen: b.ListenAddress}
		for _, p := range b.Ports {
			port := PublishedPort{Listen: p.Protocol + " " + p.ListenPort}
			for _, name := range p.TargetBackend {
				e := backends[name]
				port.Targets = append(port.Targets, target(e.TargetAddress, cmp.Or(e.TargetPort, p.ListenPort), owners))
			}
			one.Ports = append(one.Ports, port)
		}
		out = append(out, one)
	}
	return out
}

func (p PublishedPort) targets() string {
	var all []string
	for _, t := range p.Targets {
		text := t.Address
		if t.Instance != "" {
			text += " (" + t.Instance + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// lines are the ports as text.
func (p Published) lines() []string {
	var out []string
	for _, port := range p.Ports {
		out = append(out, strings.TrimSpace(port.Listen+" → "+port.targets()))
	}
	return out
}
