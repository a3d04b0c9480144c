package vxlan_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/vxlan"
	"github.com/cuib/cuib/shared/testenv"
)

// TestPublished connects to what one host publishes of guests on both, from
// outside, from the host itself and from a guest, and asks whom the guests saw.
func TestPublished(t *testing.T) {
	testenv.Kernel(t)
	for name, under := range map[string][]string{
		"IPv4": {"192.0.2.2/26", "192.0.2.66/26"},
		"IPv6": {"2001:db8:1::2/64", "2001:db8:2::2/64"},
	} {
		t.Run(name, func(t *testing.T) { published(t, under) })
	}
}

func published(t *testing.T, under []string) {
	all := hosts(t, under)
	one, two := all[0].add("one", mac1), all[1].add("two", mac2)
	here, there := lease(t, one, mac1), lease(t, two, mac2)
	listen := netip.MustParsePrefix(under[0]).Addr()
	if listen.Is6() {
		here, there = autoconfigured(t, one, mac1), autoconfigured(t, two, mac2)
	}
	tellClients(t, one, here)
	tellClients(t, two, there)
	echo(t, two, there)
	exchange(t, all)
	exchange(t, all)
	all[0].in(func() {
		all[0].cfg.Published = []networks.Published{
			{Listen: listen, Protocol: 6, First: 81, Last: 81, Targets: []netip.AddrPort{netip.AddrPortFrom(here, 80)}},
			{Listen: listen, Protocol: 6, First: 82, Last: 82, Targets: []netip.AddrPort{netip.AddrPortFrom(there, 80)}},
			{Listen: listen, Protocol: 17, First: 83, Last: 83, Targets: []netip.AddrPort{netip.AddrPortFrom(there, 7)}},
		}
		must(t, all[0].driver.ApplyParts(t.Context(), all[0].cfg))
	})
	own := ownOf(t, all[0], listen)
	router := netip.MustParsePrefix(under[0]).Masked().Addr().Next()
	gateway := netip.MustParseAddr("10.7.8.1")
	if listen.Is6() {
		gateway = netip.MustParseAddr("fd42:1:2:3::1")
	}
	outside, guest := networkstest.Here(t), one
	for _, tt := range []struct {
		name string
		from *networkstest.NS
		to   netip.AddrPort
		want netip.Addr
	}{
		{"from outside to a guest here", outside, netip.AddrPortFrom(listen, 81), router},
		{"from outside to a guest elsewhere", outside, netip.AddrPortFrom(listen, 82), own},
		{"from the host to a guest here", all[0].NS, netip.AddrPortFrom(listen, 81), listen},
		{"from the host to a guest elsewhere", all[0].NS, netip.AddrPortFrom(listen, 82), own},
		{"from the host straight to a guest elsewhere", all[0].NS, netip.AddrPortFrom(there, 80), own},
		{"from a guest to itself", guest, netip.AddrPortFrom(listen, 81), gateway},
		{"from a guest to one elsewhere", guest, netip.AddrPortFrom(listen, 82), own},
		{"from a guest straight to one elsewhere", guest, netip.AddrPortFrom(there, 80), here},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := seenAs(t, tt.from, tt.to); got != tt.want {
				t.Errorf("the guest saw %s, want %s", got, tt.want)
			}
		})
	}
	moved(t, all, router)
}

// moved takes the guest of the second port to the first host, where it sees its
// clients again.
func moved(t *testing.T, all []*host, router netip.Addr) {
	t.Helper()
	// A flow of datagrams goes on, too.
	flow, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(all[0].cfg.Published[2].Listen, 83)))
	must(t, err)
	t.Cleanup(func() { _ = flow.Close() })
	again(t, flow, "before")
	guest := all[0].add("moved", mac2)
	all[1].remove("two")
	exchange(t, all)
	a := lease(t, guest, mac2)
	listen := all[0].cfg.Published[1].Listen
	if listen.Is6() {
		a = autoconfigured(t, guest, mac2)
	}
	tellClients(t, guest, a)
	exchange(t, all)
	echo(t, guest, a)
	again(t, flow, "after")
	if got := seenAs(t, networkstest.Here(t), netip.AddrPortFrom(listen, 82)); got != router {
		t.Errorf("the guest, which has moved here, saw %s, want %s", got, router)
	}
}

// again sends a text until it comes back.
func again(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	buf := make([]byte, 100)
	testenv.Eventually(t, "the text "+text, func() bool {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := conn.Write([]byte(text)); err != nil {
			return false // The other end is not there yet.
		}
		n, err := conn.Read(buf)
		return err == nil && string(buf[:n]) == text
	})
}

// autoconfigured gives a guest the address of IPv6 that it makes of its MAC.
func autoconfigured(t *testing.T, guest *networkstest.NS, mac string) netip.Addr {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	must(t, err)
	raw := netip.MustParseAddr("fd42:1:2:3::").As16()
	copy(raw[8:], []byte{hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]})
	a := netip.AddrFrom16(raw)
	guest.Must(t, func() error {
		_ = networkstest.Address("eth0", a.String()+"/64") // The kernel may have been first.
		_ = networkstest.Route(netip.MustParseAddr("fd42:1:2:3::1"))
		return nil
	})
	return a
}

// ownOf is the address of a host's own that it tells, of the family of another.
func ownOf(t *testing.T, h *host, like netip.Addr) (own netip.Addr) {
	t.Helper()
	h.in(func() {
		m, err := vxlan.Describe(h.cfg)
		must(t, err)
		for _, g := range m.Guests {
			for _, a := range g.Addresses {
				if g.Host && a.Is4() == like.Is4() {
					own = a
				}
			}
		}
	})
	if !own.IsValid() {
		t.Fatal("the host tells of no address of its own")
	}
	return own
}

// tellClients has a guest tell who connects to its port 80 their address.
func tellClients(t *testing.T, guest *networkstest.NS, a netip.Addr) {
	t.Helper()
	var l net.Listener
	testenv.Eventually(t, "the guest listens", func() bool {
		return guest.Do(func() (err error) {
			l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(a, 80).String())
			return err
		}) == nil
	})
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()) //nolint:forcetypeassert // it is TCP
			_ = conn.Close()
		}
	}()
}

// seenAs connects until somebody answers, and returns as whom it was seen.
func seenAs(t *testing.T, from *networkstest.NS, to netip.AddrPort) (seen netip.Addr) {
	t.Helper()
	testenv.Eventually(t, "an answer from "+to.String(), func() bool {
		return from.Do(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }() // It was read from.
			text, err := io.ReadAll(conn)
			if err != nil {
				return err
			}
			seen, err = netip.ParseAddr(string(text))
			return err
		}) == nil
	})
	return seen
}
