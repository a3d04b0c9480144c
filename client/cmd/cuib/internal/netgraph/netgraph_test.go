package netgraph_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/client/cmd/cuib/internal/netgraph"
	"github.com/cuib/cuib/shared/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func network(name, kind string, managed bool, config ...string) api.Network { //nolint:revive // A table reads better so.
	n := api.Network{Name: name, Type: kind, Managed: managed}
	n.Config = api.ConfigMap{}
	for i := 0; i < len(config); i += 2 {
		n.Config[config[i]] = config[i+1]
	}
	if managed {
		n.Status = "Created"
	}
	return n
}

func state(up string, addresses ...string) api.NetworkState {
	st := api.NetworkState{State: up}
	for _, a := range addresses {
		address, length, _ := strings.Cut(a, "/")
		scope := "global"
		if strings.HasPrefix(a, "fe80:") {
			scope = "link"
		}
		st.Addresses = append(st.Addresses, api.NetworkStateAddress{Address: address, Netmask: length, Scope: scope})
	}
	return st
}

func instance(name, status string, devices api.DevicesMap, addresses map[string][]string) api.InstanceFull {
	in := api.InstanceFull{Instance: api.Instance{Name: name, Status: status}, State: &api.InstanceState{Network: map[string]api.InstanceStateNetwork{}}}
	in.ExpandedDevices = devices
	for nic, all := range addresses {
		var link api.InstanceStateNetwork
		for _, a := range all {
			link.Addresses = append(link.Addresses, api.InstanceStateNetworkAddress{Address: a, Scope: "global"})
		}
		in.State.Network[nic] = link
	}
	return in
}

func sample() netgraph.Source {
	eno1 := state("up", "192.0.2.10/24", "2001:db8::10/64", "fe80::1/64")
	eno1.Gateways = []string{"192.0.2.1"}
	return netgraph.Source{
		Networks: []api.Network{
			network("br0", "bridge", false), network("cuibbr0", "bridge", true, "ipv4.address", "10.1.2.1/24", "ipv4.nat", "true", "ipv6.address", "fd42::1/64", "ipv6.nat", "true"),
			network("eno1", "physical", false), network("eno2", "physical", false), network("lan", "macvlan", true, "parent", "eno2"),
			network("lo", "loopback", false), network("virbr0", "bridge", false),
			network("over", "vxlan", true, "ipv4.address", "10.9.0.1/24", "ipv4.nat", "false", "vxlan.peers", "192.0.2.11,192.0.2.12"),
		},
		States: map[string]api.NetworkState{
			"eno1": eno1, "eno2": state("down"), "cuibbr0": state("up", "10.1.2.1/24", "fd42::1/64"), "br0": state("up"),
			"lan": state("up"), "over": state("up", "10.9.0.1/24"), "lo": state("up", "127.0.0.1/8"),
		},
		Instances: []api.InstanceFull{
			instance("web", "Running", api.DevicesMap{
				"eth0": {"type": "nic", "network": "cuibbr0", "name": "eth0"},
				"eth1": {"type": "nic", "nictype": "routed", "parent": "eno1", "name": "eth1", "ipv4.address": "192.0.2.77"},
				"http": {"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:80"},
				"root": {"type": "disk", "path": "/", "pool": "default"},
			}, map[string][]string{"eth0": {"fd42::7", "10.1.2.7"}, "eth1": {"192.0.2.77"}}),
			instance("near", "Running", api.DevicesMap{"eno1": {"type": "nic", "nictype": "host"}}, map[string][]string{"eno1": {"192.0.2.10"}}),
			instance("db", "Stopped", api.DevicesMap{"eth0": {"type": "nic", "network": "cuibbr0", "ipv4.address": "10.1.2.8"}}, nil),
			instance("vm", "Running", api.DevicesMap{
				"eth0": {"type": "nic", "nictype": "bridged", "parent": "br0"}, "eth1": {"type": "nic", "network": "over"},
				"eth2": {"type": "nic", "network": "lan"}, "eth3": {"type": "nic", "nictype": "cni", "cni.config": "web"},
			}, map[string][]string{"eth1": {"10.9.0.5"}}),
			instance("alone", "Stopped", nil, nil),
		},
		Forwards: map[string][]api.NetworkForward{"cuibbr0": {{
			ListenAddress: "192.0.2.10", NetworkForwardPut: api.NetworkForwardPut{
				Config: api.ConfigMap{"target_address": "10.1.2.99"},
				Ports:  []api.NetworkForwardPort{{Protocol: "tcp", ListenPort: "8080", TargetPort: "80", TargetAddress: "10.1.2.7"}},
			},
		}}},
		Balancers: map[string][]api.NetworkLoadBalancer{"cuibbr0": {{
			ListenAddress: "2001:db8::10", NetworkLoadBalancerPut: api.NetworkLoadBalancerPut{
				Backends: []api.NetworkLoadBalancerBackend{{Name: "a", TargetAddress: "fd42::7", TargetPort: "443"}, {Name: "b", TargetAddress: "fd42::8"}},
				Ports:    []api.NetworkLoadBalancerPort{{Protocol: "tcp", ListenPort: "443", TargetBackend: []string{"a", "b"}}},
			},
		}}},
		Peers: map[string][]string{"cuibbr0": {"over"}},
	}
}

func TestGolden(t *testing.T) {
	g := netgraph.New(sample())
	for name, got := range map[string]string{"graph.txt": g.Text(), "graph.dot": g.DOT(), "graph.svg": g.SVG()} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // It is public.
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", name, err, got, want)
		}
	}
}

// TestOrder draws the same whatever order the API has.
func TestOrder(t *testing.T) {
	want := netgraph.New(sample())
	s := sample()
	slices.Reverse(s.Networks)
	slices.Reverse(s.Instances)
	if got := netgraph.New(s); got.Text() != want.Text() || got.DOT() != want.DOT() || got.SVG() != want.SVG() {
		t.Errorf("got\n%s\nwant\n%s", got.Text(), want.Text())
	}
}

// TestHostile has names that no server gives, and guests' words least of all.
func TestHostile(t *testing.T) {
	evil := "a\"]; <script>&\\\n\x1b[2J"
	g := netgraph.New(netgraph.Source{
		Networks:  []api.Network{network(evil, "bridge", true)},
		Instances: []api.InstanceFull{instance(evil, evil, api.DevicesMap{evil: {"type": "nic", "network": evil, "name": evil}}, map[string][]string{evil: {evil}})},
	})
	if text := g.Text(); strings.Contains(text, "\x1b") || strings.Count(text, "\n") != 3 {
		t.Errorf("text: %q", text)
	}
	if dot := g.DOT(); strings.Contains(strings.ReplaceAll(dot, `\"`, ""), `"]; <`) || strings.Contains(dot, "\x1b") {
		t.Errorf("dot: %s", dot)
	}
	wellFormed(t, g.SVG())
	if strings.Contains(g.SVG(), "<script>") {
		t.Error("the picture has a script")
	}
}

func TestEmpty(t *testing.T) {
	g := netgraph.New(netgraph.Source{})
	if g.Text() != "host\n" {
		t.Errorf("got %q", g.Text())
	}
	wellFormed(t, g.SVG())
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
}
