package bridge_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// TestTunnel joins a bridge with one that somebody made on another host.
func TestTunnel(t *testing.T) {
	testenv.Kernel(t)
	for name, tt := range map[string]struct {
		tunnel networks.Tunnel
		other  []string // What the other host has.
	}{
		"to a host": {
			networks.Tunnel{Protocol: "vxlan", Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.2"), ID: 77, Port: 4789},
			[]string{"id", "77", "dstport", "4789", "local", "192.0.2.2", "remote", "192.0.2.1"},
		},
		"to a group": {
			networks.Tunnel{Protocol: "vxlan", Interface: "uplink"},
			[]string{"id", "1", "dstport", "8472", "group", "239.0.0.1", "dev", "eth0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.Tunnels = nil
			cfg = apply(t, cfg)
			world := networkstest.World(t)
			cfg.Tunnels = []networks.Tunnel{tt.tunnel}
			cfg.Tunnels[0].Name = "one"
			d := bridge.Driver{}
			must(t, d.Apply(t.Context(), cfg))
			world.Must(t, func() error {
				testenv.Run(t, append([]string{"ip", "link", "add", "vx", "type", "vxlan"}, tt.other...)...)
				testenv.Run(t, "ip", "link", "set", "vx", "up")
				return networkstest.Address("vx", "10.7.8.50/24")
			})
			conn := world.Listen(t, "10.7.8.50:7")
			go func() {
				buf := make([]byte, 100)
				for {
					n, from, err := conn.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = conn.WriteTo(buf[:n], from)
				}
			}()
			guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
			guest.Must(t, func() error { return networkstest.Address("eth0", "10.7.8.60/24") })
			guest.Ping(t, netip.MustParseAddrPort("10.7.8.50:7"))

			before := testenv.Run(t, "ip", "-o", "link", "show", "type", "vxlan")
			must(t, d.Apply(t.Context(), cfg))
			if after := testenv.Run(t, "ip", "-o", "link", "show", "type", "vxlan"); after != before {
				t.Errorf("applied twice, it is another tunnel: %s and before %s", after, before)
			}
			cfg.Tunnels = nil
			must(t, d.Apply(t.Context(), cfg))
			if got := testenv.Run(t, "ip", "-o", "link", "show", "type", "vxlan"); got != "" {
				t.Errorf("it is still there: %s", got)
			}
		})
	}
}

func TestTunnelRefused(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	for want, tunnel := range map[string]networks.Tunnel{
		"eth9": {Protocol: "vxlan", Interface: "eth9"},
		"GRE":  {Protocol: "gre", Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.2")},
	} {
		tunnel.Name = "one"
		cfg.Tunnels = []networks.Tunnel{tunnel}
		err := bridge.Driver{}.Apply(t.Context(), cfg)
		if err == nil && want == "GRE" {
			continue // This kernel has it.
		}
		if !errs.Is(err, errs.Unsupported) && !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
