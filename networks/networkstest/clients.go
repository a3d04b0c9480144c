package networkstest

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/cuib/cuib/networks/probe"
	"github.com/cuib/cuib/shared/testenv"
)

// client speaks on the interface that [NS.Plug] makes.
var client = probe.Client{Interface: "eth0", Patience: testenv.Patience}

// DHCP gets the guest an IPv4 address, and returns it.
func (n *NS) DHCP(tb testing.TB, mac, hostName string) (got probe.Offer) {
	tb.Helper()
	hw, err := net.ParseMAC(mac)
	must(tb, err)
	n.Must(tb, func() (err error) {
		got, err = client.DHCP(tb.Context(), hw, hostName)
		return err
	})
	return got
}

// DHCPv6 gets the guest an IPv6 address, and returns it.
func (n *NS) DHCPv6(tb testing.TB, mac string) (got netip.Addr) {
	tb.Helper()
	hw, err := net.ParseMAC(mac)
	must(tb, err)
	n.Must(tb, func() (err error) {
		got, err = client.DHCPv6(tb.Context(), hw)
		return err
	})
	return got
}

// Lookup asks the server for the addresses of a name, and returns them.
func (n *NS) Lookup(tb testing.TB, server netip.Addr, name string, typ dnsmessage.Type) (got []netip.Addr) {
	tb.Helper()
	n.Must(tb, func() (err error) {
		got, err = client.Lookup(tb.Context(), server, name, typ)
		return err
	})
	return got
}

// Listen opens a socket for datagrams in the namespace.
func (n *NS) Listen(tb testing.TB, addr string) (conn net.PacketConn) {
	tb.Helper()
	n.Must(tb, func() (err error) {
		conn, err = new(net.ListenConfig).ListenPacket(tb.Context(), "udp", addr)
		return err
	})
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Ping sends datagrams to the address until one is answered.
func (n *NS) Ping(tb testing.TB, to netip.AddrPort) {
	tb.Helper()
	n.Must(tb, func() error { return client.Reach(tb.Context(), to) })
}
