package probe_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/probe"
	"github.com/cuib/cuib/shared/testenv"
)

// TestPublished connects to published ports from outside, with rules of others
// in the way and without.
func TestPublished(t *testing.T) {
	testenv.Kernel(t)
	cfg := network(t, false)
	guest := networkstest.Guest(t, cfg.Name, "veth1", "10:66:6a:00:00:01")
	for _, a := range []string{"10.7.8.9/24", "fd42:1:2:3::9/64"} {
		p := netip.MustParsePrefix(a)
		guest.Must(t, func() error { return networkstest.Address("eth0", a) })
		_ = guest.Do(func() error { return networkstest.Route(p.Masked().Addr().Next()) }) // A router may have announced itself before.
		listen(t, guest, netip.AddrPortFrom(p.Addr(), 80).String())
	}
	lead := func(listen string, port uint16, target string, gate ...networks.Passage) networks.Published {
		return networks.Published{
			Listen: netip.MustParseAddr(listen), Protocol: 6, First: port, Last: port, Gate: gate,
			Targets: []netip.AddrPort{netip.MustParseAddrPort(target)},
		}
	}
	cfg.Published = []networks.Published{
		lead("0.0.0.0", 8080, "10.7.8.9:80"), lead("192.0.2.1", 8081, "10.7.8.9:80"), lead("2001:db8::1", 8080, "[fd42:1:2:3::9]:80"),
		lead("192.0.2.1", 8082, "10.7.8.9:99"), lead("192.0.2.1", 8083, "10.7.8.9:80", networks.Passage{}),
		lead("192.0.2.1", 8084, "10.7.8.9:80", networks.Passage{In: "uplink", Open: true}),
		{Listen: netip.MustParseAddr("192.0.2.1"), Protocol: 17, First: 53, Last: 53, Targets: []netip.AddrPort{netip.MustParseAddrPort("10.7.8.9:53")}},
	}
	if err := (bridge.Driver{}).Apply(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	look := func(want ...string) {
		t.Helper()
		checks, err := probe.Published(t.Context(), cfg.Published)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range checks {
			got = append(got, fmt.Sprint(c.Name, " ", c.Status))
			t.Logf("%-50s %s", c.Name, c.Detail)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
		}
	}
	skipped := []string{"published port 192.0.2.1:8082 (IPv4) skipped", "published port 192.0.2.1:8083 (IPv4) skipped", "published port 192.0.2.1:8084 (IPv4) skipped"}
	look(append([]string{"published port 0.0.0.0:8080 (IPv4) ok", "published port 192.0.2.1:8081 (IPv4) ok", "published port [2001:db8::1]:8080 (IPv6) ok"}, skipped...)...)
	testenv.Run(t, "nft", `table ip foreign { chain f { type filter hook forward priority 0; oifname "`+cfg.Name+`" meta l4proto tcp ct original proto-dst 8081 drop; }; }`)
	look(append([]string{"published port 0.0.0.0:8080 (IPv4) ok", "published port 192.0.2.1:8081 (IPv4) failed", "published port [2001:db8::1]:8080 (IPv6) ok"}, skipped...)...)
}

// listen takes connections in a namespace.
func listen(t *testing.T, ns *networkstest.NS, at string) {
	t.Helper()
	var l net.Listener
	ns.Must(t, func() (err error) {
		l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", at)
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
}
