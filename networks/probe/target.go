package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// A target is something behind the host that answers: its router.
type target struct {
	address netip.Addr // Not valid if there is none, for the reason why.
	why     string
}

// behind returns what is behind the host and answers the host itself.
func behind(ctx context.Context, family int) target {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return target{why: fmt.Sprintf("the host's routes cannot be read: %v", err)}
	}
	for _, r := range routes {
		a, ok := netip.AddrFromSlice(r.Gw)
		if !ok || r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		a = a.Unmap()
		if a.IsLinkLocalUnicast() {
			return target{why: fmt.Sprintf("the host's router %s cannot be reached from behind it", a)}
		}
		t := target{address: a}
		if err := t.reach(ctx); err != nil {
			return target{why: fmt.Sprintf("the host's router %s does not answer the host either", a)}
		}
		return t
	}
	return target{why: "the host has no default route"}
}

// domain is the port of DNS, which most routers have or refuse.
const domain = 53

// reach connects, or is refused, which takes both directions too. A router that
// does neither may answer a ping.
func (t target) reach(ctx context.Context) error {
	d := net.Dialer{Timeout: patience / 2}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(t.address, domain).String())
	if err == nil {
		return conn.Close()
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	if _, perr := echo(ctx, t.address); perr == nil {
		return nil
	}
	return err
}

// echo pings an address, and returns how long that took.
func echo(ctx context.Context, to netip.Addr) (time.Duration, error) {
	network, from, request, answer := "ip4:icmp", "0.0.0.0", icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
	if to.Is6() {
		network, from, request, answer = "ip6:ipv6-icmp", "::", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, network, from)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // Nothing was written that is not sent.

	id := os.Getpid() & 0xffff
	msg, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte("cuib")}}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	return ask(ctx, Client{Patience: patience}, conn, question[time.Duration]{
		&net.IPAddr{IP: to.AsSlice()}, msg,
		func(_, got []byte) (time.Duration, bool) {
			m, err := icmp.ParseMessage(request.Protocol(), got)
			if err != nil || m.Type != answer {
				return 0, false
			}
			body, ok := m.Body.(*icmp.Echo)
			return time.Since(began), ok && body.ID == id
		},
	})
}
