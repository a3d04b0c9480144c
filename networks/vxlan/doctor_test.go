package vxlan_test

import (
	"net/netip"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/probe"
	"github.com/cuib/cuib/shared/testenv"
)

// TestTriedOut has the doctor try out an overlay, and connect to a port that
// leads to a guest on another host.
func TestTriedOut(t *testing.T) {
	testenv.Kernel(t)
	all := hosts(t, []string{"192.0.2.2/26", "192.0.2.66/26"})
	two := all[1].add("two", mac2)
	there := lease(t, two, mac2)
	tellClients(t, two, there)
	exchange(t, all)
	exchange(t, all)
	all[0].in(func() {
		all[0].cfg.Published = []networks.Published{
			{Listen: netip.MustParseAddr("192.0.2.2"), Protocol: 6, First: 82, Last: 82, Targets: []netip.AddrPort{netip.AddrPortFrom(there, 80)}},
		}
		must(t, all[0].driver.ApplyParts(t.Context(), all[0].cfg))
		checks, err := probe.Run(t.Context(), all[0].cfg)
		must(t, err)
		ports, err := probe.Published(t.Context(), all[0].cfg.Published)
		must(t, err)
		if len(checks) < 8 || len(ports) != 1 {
			t.Errorf("got %v and %v", checks, ports)
		}
		for _, c := range append(checks, ports...) {
			if c.Status == probe.Failed || c.Status == probe.Skipped && c.Name != "connection to other networks (IPv6)" {
				t.Errorf("%s: %s: %s", c.Name, c.Status, c.Detail)
			}
		}
	})
}
