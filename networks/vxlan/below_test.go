package vxlan_test

import (
	"net/netip"
	"testing"

	"github.com/cuib/cuib/shared/testenv"
)

// TestInterfaceBelow has a host's packets leave by one interface alone, and by
// any again, while guests run on the network.
func TestInterfaceBelow(t *testing.T) {
	testenv.Kernel(t)
	all := hosts(t, []string{"192.0.2.2/26", "192.0.2.66/26"})
	one, two := all[0].add("one", mac1), all[1].add("two", mac2)
	lease(t, one, mac1)
	b := lease(t, two, mac2)
	echo(t, two, b)
	exchange(t, all)
	exchange(t, all)
	one.Ping(t, netip.AddrPortFrom(b, 7))
	for _, name := range []string{"eth0", ""} {
		all[0].in(func() {
			all[0].cfg.Overlay.Interface = name
			must(t, all[0].driver.Apply(t.Context(), all[0].cfg))
		})
		one.Ping(t, netip.AddrPortFrom(b, 7))
	}
}
