package devices_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestProxy(t *testing.T) {
	env := devices.Env{
		Instance: "c1",
		Volatile: map[string]string{"volatile.eth1.host_name": "veth1"},
		Devices: map[string]profiles.Device{
			"eth0": {"type": "nic", "network": "lan", "ipv4.address": "10.0.0.2"},
			"eth1": {"type": "nic", "network": "br1", "ipv4.address": "10.1.0.2", "ipv6.address": "fd42::2"},
			"eth2": {"type": "nic", "network": "br2", "ipv4.address": "10.2.0.2", "host_name": "port2"},
		},
		Link: func(_ context.Context, network string) (networks.Link, error) {
			if network == "lan" {
				return networks.Link{Kind: "macvlan", Parent: "up0"}, nil
			}
			return networks.Link{Kind: "bridged", Parent: network}, nil
		},
	}
	nat := func(listen, connect, target, bridge, port string) proxies.Rule {
		return proxies.Rule{NAT: true, Listen: listen, Connect: connect, Target: netip.MustParseAddr(target), Bridge: bridge, Port: port}
	}
	for _, tt := range []struct {
		dev  profiles.Device
		want proxies.Rule
		err  string
	}{
		{
			profiles.Device{"listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:80", "proxy_protocol": "yes"},
			proxies.Rule{Listen: "tcp:0.0.0.0:80", Connect: "tcp:127.0.0.1:80", Header: true},
			"",
		},
		{
			profiles.Device{"bind": "container", "listen": "unix:/a", "connect": "unix:/b", "mode": "0600", "uid": "1", "gid": "2", "security.uid": "3", "security.gid": "4"},
			proxies.Rule{Inside: true, Listen: "unix:/a", Connect: "unix:/b", Mode: "0600", UID: "1", GID: "2", AsUID: "3", AsGID: "4"},
			"",
		},
		{
			profiles.Device{"nat": "true", "listen": "tcp:0.0.0.0:80", "connect": "tcp:0.0.0.0:80"},
			nat("tcp:0.0.0.0:80", "tcp:0.0.0.0:80", "10.1.0.2", "br1", "veth1"), "",
		},
		{
			profiles.Device{"nat": "true", "listen": "tcp:0.0.0.0:80", "connect": "tcp:10.2.0.2:80"},
			nat("tcp:0.0.0.0:80", "tcp:10.2.0.2:80", "10.2.0.2", "br2", "port2"), "",
		},
		{
			profiles.Device{"nat": "true", "listen": "tcp:[::]:80", "connect": "tcp:[::]:80"},
			nat("tcp:[::]:80", "tcp:[::]:80", "fd42::2", "br1", "veth1"), "",
		},
		{
			profiles.Device{"nat": "true", "listen": "tcp:0.0.0.0:80", "connect": "tcp:10.0.0.2:80"},
			proxies.Rule{},
			"nat: connect is to 10.0.0.2, want the static address of a bridged nic of the instance: its option ipv4.address",
		},
		{
			profiles.Device{"nat": "true", "listen": "tcp:[::]:80", "connect": "tcp:[fd42::3]:80"},
			proxies.Rule{},
			"its option ipv6.address",
		},
	} {
		tt.dev["type"] = "proxy"
		p, err := devices.Make(t.Context(), "p", tt.dev, env)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) || !errs.Is(err, errs.Invalid) {
				t.Errorf("%v: got %v, want %q", tt.dev, err, tt.err)
			}
			if r := devices.Recall(t.Context(), "p", tt.dev, env); r.Proxy == (proxies.Rule{}) {
				t.Errorf("%v: it is forgotten", tt.dev)
			}
		case err != nil || p.Proxy != tt.want:
			t.Errorf("%v: got %+v, %v", tt.dev, p.Proxy, err)
		}
	}
}

func TestDiffOfProxies(t *testing.T) {
	rule := func(port string) devices.Plan {
		return devices.Plan{Proxy: proxies.Rule{Listen: "tcp:0.0.0.0:" + port, Connect: "tcp:127.0.0.1:80"}}
	}
	have := map[string]devices.Plan{"same": rule("1"), "changed": rule("2"), "gone": rule("3")}
	want := map[string]devices.Plan{"same": rule("1"), "changed": rule("4"), "new": rule("3")}
	c, err := devices.Diff(have, want)
	if err != nil || strings.Join(c.Remove, ",") != "gone,changed" || strings.Join(c.Add, ",") != "changed,new" {
		t.Errorf("got %+v, %v", c, err)
	}
}

// TestProxiesInTheHostsNetwork has those that make sense where host and instance
// are one side, and refuses the others.
func TestProxiesInTheHostsNetwork(t *testing.T) {
	env := devices.Env{Devices: map[string]profiles.Device{"net": {"type": "nic", "nictype": "host"}}}
	for _, tt := range []struct{ listen, connect, nat, want string }{
		{"tcp:0.0.0.0:80", "tcp:127.0.0.1:8080", "", ""},
		{"tcp:198.51.100.2:80", "tcp:127.0.0.1:80", "", ""},
		{"unix:/run/web", "unix:/run/web", "", ""}, // One is the host's, the other the instance's.
		{"udp:0.0.0.0:80", "tcp:127.0.0.1:80", "", ""},
		{"tcp:0.0.0.0:80", "tcp:127.0.0.1:80", "", `connect: got "tcp:127.0.0.1:80", which the proxy itself would listen on (tcp:0.0.0.0:80), as the instance is in the host's own network (device "net")`},
		{"tcp:[::]:8000-8010", "tcp:127.0.0.1:8005", "", "which the proxy itself would listen on"},
		{"unix:@web", "unix:@web", "", "which the proxy itself would listen on"},
		{"tcp:0.0.0.0:80", "tcp::8080", "true", `nat: the instance is in the host's own network (device "net")`},
	} {
		dev := profiles.Device{"type": "proxy", "listen": tt.listen, "connect": tt.connect, "nat": tt.nat}
		_, err := devices.Make(t.Context(), "p", dev, env)
		if tt.want == "" && err == nil || tt.want != "" && errs.Is(err, errs.Invalid) && strings.Contains(err.Error(), tt.want) {
			continue
		}
		t.Errorf("%v: got %v", tt, err)
	}
}
