package nft_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/conntrack"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// A client asks from one port, so that its packets are one flow.
type client struct {
	conn net.PacketConn
	to   netip.Addr
}

// newClient is one in a namespace.
func newClient(t *testing.T, ns *networkstest.NS, to netip.Addr, local string) client {
	t.Helper()
	return client{ns.Listen(t, local), to}
}

// asks sends until somebody answers, and returns who that is.
func (c client) asks(t *testing.T, port int) (who string) {
	t.Helper()
	buf := make([]byte, 100)
	for ok := true; ok; { // What answered before.
		_, ok = read(c.conn, buf)
	}
	to := netip.AddrPortFrom(c.to, uint16(port))
	testenv.Eventually(t, "an answer from "+to.String(), func() bool {
		if _, err := c.conn.WriteTo([]byte("?"), net.UDPAddrFromAddrPort(to)); err != nil {
			return false
		}
		n, ok := read(c.conn, buf)
		who = string(buf[:n])
		return ok
	})
	return who
}

// TestFlows changes where ports lead, of which clients have flows, and asks on
// from the same ports. All other flows stay.
func TestFlows(t *testing.T) {
	testenv.Kernel(t, "nft")
	for name, six := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) { flows(t, six) })
	}
}

func flows(t *testing.T, six bool) { //nolint:revive // a value and not a switch
	networkstest.Host(t)
	prefix := func(net, host int) string { return fmt.Sprintf("10.0.%d.%d", net, host) }
	bits := 24
	if six {
		prefix = func(net, host int) string { return fmt.Sprintf("fd42:%d::%d", net, host) }
		bits = 64
	}
	testenv.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	testenv.Run(t, "sh", "-ec", "ip link add br0 type bridge; ip link set br0 up")
	place := func(host, dev string, net, n int) *networkstest.NS {
		ns := networkstest.New(t)
		ns.Plug(t, host, dev, "")
		ns.Must(t, func() error {
			if err := networkstest.Address("eth0", fmt.Sprintf("%s/%d", prefix(net, n), bits)); err != nil {
				return err
			}
			return networkstest.Route(netip.MustParseAddr(prefix(net, 1)))
		})
		return ns
	}
	must(t, networkstest.Address("br0", fmt.Sprintf("%s/%d", prefix(1, 1), bits)))
	one, two := place("g1", "br0", 1, 2), place("g2", "br0", 1, 3)
	far := place("up0", "", 2, 2)
	must(t, networkstest.Address("up0", fmt.Sprintf("%s/%d", prefix(2, 1), bits)))
	at := func(a string, port int) string {
		return netip.AddrPortFrom(netip.MustParseAddr(a), uint16(port)).String()
	}
	for name, ns := range map[string]*networkstest.NS{"one": one, "two": two} {
		answer(t, ns, at(map[string]string{"one": prefix(1, 2), "two": prefix(1, 3)}[name], 53), name)
	}
	answer(t, networkstest.Here(t), at(prefix(2, 1), 5301), "host")

	cfg := networks.Config{Name: "br0"}
	f := networks.Family{Address: netip.MustParsePrefix(fmt.Sprintf("%s/%d", prefix(1, 1), bits)), Routing: true, Firewall: true}
	if six {
		cfg.IPv6 = f
	} else {
		cfg.IPv4 = f
	}
	listen := netip.MustParseAddr(prefix(2, 1))
	lead := func(port int, targets ...int) networks.Published {
		e := networks.Published{Listen: listen, Protocol: 17, First: uint16(port), Last: uint16(port)}
		for _, n := range targets {
			e.Targets = append(e.Targets, netip.AddrPortFrom(netip.MustParseAddr(prefix(1, n)), 53))
		}
		return e
	}
	apply := func(list ...networks.Published) {
		cfg.Published = list
		must(t, nft.Apply(cfg))
	}
	changes(t, func() client { return newClient(t, far, listen, at(prefix(2, 2), 0)) }, apply, lead)
}

func changes(t *testing.T, begin func() client, apply func(...networks.Published), lead func(int, ...int) networks.Published) {
	t.Helper()
	expect := func(c client, port int, want string) {
		t.Helper()
		if got := c.asks(t, port); got != want {
			t.Errorf("port %d leads to %s, want %s", port, got, want)
		}
	}
	a, b, c := begin(), begin(), begin()
	apply(lead(5300, 2), lead(5400, 2))
	expect(a, 5300, "one")
	expect(b, 5400, "one")
	expect(c, 5301, "host")
	kept := entry(t, b)
	apply(lead(5300, 3), lead(5400, 2)) // Another target.
	expect(a, 5300, "two")
	apply(lead(5300, 3), lead(5400, 2), lead(5301, 3)) // One that came to the host.
	expect(c, 5301, "two")
	apply(lead(5300, 2, 3), lead(5400, 2)) // Two take turns; the other one is gone.
	expect(c, 5301, "host")
	expect(a, 5300, "two")
	apply(lead(5300, 2), lead(5400, 2)) // A back end is down.
	expect(a, 5300, "one")
	e := lead(5300, 3)
	e.Listen, e.First, e.Last = netip.IPv4Unspecified(), 5299, 5350
	if lead(1).Listen.Is6() {
		e.Listen = netip.IPv6Unspecified()
	}
	e.Targets[0] = netip.AddrPortFrom(e.Targets[0].Addr(), 0)
	apply(e, lead(5400, 2)) // To where nobody answers.
	if got := entry(t, a); got != "" {
		t.Errorf("the flow stays: %s", got)
	}
	if got := entry(t, b); got != kept {
		t.Errorf("a flow whose target has not changed is another: %q, and was %q", got, kept)
	}
	apply()
	if got := entry(t, b); got != "" {
		t.Errorf("what leads nowhere has a flow: %s", got)
	}
}

// entry is what the kernel keeps of a client's flow: where it goes to and its
// number; nothing if there is none.
func entry(t *testing.T, c client) string {
	t.Helper()
	from := c.conn.LocalAddr().(*net.UDPAddr).AddrPort() //nolint:forcetypeassert // it is UDP
	all, err := conntrack.Flows(conntrack.Filter{Six: from.Addr().Is6()})
	must(t, err)
	for _, f := range all {
		if f.From == from {
			return fmt.Sprint(f.To, f.Answerer, f.ID)
		}
	}
	return ""
}

// answer answers what comes to an address with a name.
func answer(t *testing.T, ns *networkstest.NS, at, name string) {
	t.Helper()
	conn := ns.Listen(t, at)
	go func() {
		for buf := make([]byte, 100); ; {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(name), from)
		}
	}()
}

// read reads what comes soon.
func read(conn net.PacketConn, buf []byte) (n int, ok bool) {
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	n, _, err := conn.ReadFrom(buf)
	return n, err == nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
