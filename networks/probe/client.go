package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/pause"
)

// How long a question waits for its answer before it is asked again: at first,
// as what is sent before a bridge has seen a new port is lost, and at last.
const (
	firstResend = 100 * time.Millisecond
	resend      = time.Second
)

// A Client speaks what guests speak, on an interface of the network namespace
// of the calling thread. Its methods are called on a thread that is locked.
type Client struct {
	Interface string
	Patience  time.Duration // How long it waits for an answer in all.
}

// An Offer is what DHCP gave.
type Offer struct {
	Address netip.Addr
	Options map[byte][]byte // By their codes, RFC 2132.
}

// Options and types of messages of DHCP, RFC 2132.
const (
	optMask     = 1
	optRouter   = 3
	optDNS      = 6
	optHostName = 12
	optAddress  = 50
	optType     = 53
	optServer   = 54

	dhcpDiscover = 1
	dhcpRequest  = 3
	dhcpAck      = 5
	dhcpRelease  = 7
)

// DHCP gets an IPv4 address for a MAC address.
func (c Client) DHCP(ctx context.Context, hw net.HardwareAddr, hostName string) (Offer, error) {
	conn, err := c.listen(ctx, "udp4", ":68")
	if err != nil {
		return Offer{}, err
	}
	defer func() { _ = conn.Close() }() // Nothing was written that is not sent.

	to := &net.UDPAddr{IP: net.IPv4bcast, Port: 67}
	var options []byte
	if hostName != "" {
		options = append([]byte{optHostName, byte(len(hostName))}, hostName...)
	}
	offer, err := ask(ctx, c, conn, question[Offer]{to, dhcpMessage(hw, dhcpDiscover, options), isDHCP})
	if err != nil {
		return Offer{}, fmt.Errorf("discover: %w", err)
	}
	options = append(options, optAddress, 4)
	options = append(options, offer.Address.AsSlice()...)
	options = append(options, optServer, 4)
	options = append(options, offer.Options[optServer]...)
	got, err := ask(ctx, c, conn, question[Offer]{to, dhcpMessage(hw, dhcpRequest, options), isDHCP})
	if err != nil {
		return Offer{}, fmt.Errorf("request: %w", err)
	}
	if kind := got.Options[optType]; len(kind) != 1 || kind[0] != dhcpAck {
		return Offer{}, errs.Newf(errs.Unavailable, "the server refused the address %s that it had offered", offer.Address)
	}
	return got, nil
}

// Release gives an address back to the server that it is from. The interface
// has to have it.
func (c Client) Release(ctx context.Context, hw net.HardwareAddr, o Offer) error {
	server, ok := netip.AddrFromSlice(o.Options[optServer])
	if !ok {
		return errs.Invalidf("the server did not tell who it is")
	}
	conn, err := c.listen(ctx, "udp4", ":68")
	if err != nil {
		return err
	}
	msg := dhcpMessage(hw, dhcpRelease, append([]byte{optServer, 4}, server.AsSlice()...))
	copy(msg[12:], o.Address.AsSlice()) // The client's address.
	_, err = conn.WriteTo(msg, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 67)))
	return errors.Join(err, conn.Close())
}

// dhcpMessage makes a message of a client, RFC 2131.
func dhcpMessage(hw net.HardwareAddr, kind byte, options []byte) []byte {
	msg := make([]byte, 240, 300)
	msg[0], msg[1], msg[2] = 1, 1, byte(len(hw))
	copy(msg[4:8], hw[2:])
	msg[10] = 0x80 // Answer by broadcast: there is no address yet.
	copy(msg[28:], hw)
	copy(msg[236:], []byte{99, 130, 83, 99})
	msg = append(msg, optType, 1, kind, 55, 5, optMask, optRouter, optDNS, 15, 121)
	msg = append(msg, options...)
	return append(msg, 255)
}

func isDHCP(sent, got []byte) (Offer, bool) {
	if len(got) < 240 || got[0] != 2 || string(got[4:8]) != string(sent[4:8]) {
		return Offer{}, false
	}
	o := Offer{Address: netip.AddrFrom4([4]byte(got[16:20])), Options: map[byte][]byte{}}
	for rest := got[240:]; len(rest) > 1 && rest[0] != 255; {
		if rest[0] == 0 {
			rest = rest[1:]
			continue
		}
		size := int(rest[1])
		if len(rest) < 2+size {
			return Offer{}, false
		}
		o.Options[rest[0]], rest = append([]byte(nil), rest[2:2+size]...), rest[2+size:]
	}
	return o, true
}

// DHCPv6 gets an IPv6 address for a MAC address, in an exchange of two
// messages, RFC 8415.
func (c Client) DHCPv6(ctx context.Context, hw net.HardwareAddr) (netip.Addr, error) {
	duid := append([]byte{0, 3, 0, 1}, hw...)
	ia := append([]byte{1, 2, 3, 4}, make([]byte, 8)...)
	msg := []byte{1, hw[3], hw[4], hw[5]} // Solicit.
	for _, o := range []struct {
		code byte
		data []byte
	}{{1, duid}, {3, ia}, {14, nil}, {8, []byte{0, 0}}} {
		msg = append(msg, 0, o.code, 0, byte(len(o.data)))
		msg = append(msg, o.data...)
	}
	conn, err := c.listen(ctx, "udp6", ":546")
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }() // Nothing was written that is not sent.

	to := &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: 547, Zone: c.Interface}
	return ask(ctx, c, conn, question[netip.Addr]{to, msg, isDHCPv6})
}

func isDHCPv6(sent, got []byte) (netip.Addr, bool) {
	if len(got) < 4 || got[0] != 7 || string(got[1:4]) != string(sent[1:4]) {
		return netip.Addr{}, false
	}
	ia := option6(got[4:], 3)
	if len(ia) < 12 {
		return netip.Addr{}, false
	}
	addr := option6(ia[12:], 5)
	if len(addr) < 16 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(addr[:16])), true
}

func option6(rest []byte, code uint16) []byte {
	for len(rest) >= 4 {
		size := int(binary.BigEndian.Uint16(rest[2:]))
		if len(rest) < 4+size {
			return nil
		}
		if binary.BigEndian.Uint16(rest) == code {
			return rest[4 : 4+size]
		}
		rest = rest[4+size:]
	}
	return nil
}

// Lookup asks a server for the addresses of a name. That there is none is an
// answer, too.
func (c Client) Lookup(ctx context.Context, server netip.Addr, name string, typ dnsmessage.Type) ([]netip.Addr, error) {
	of, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, errs.Invalidf("name %q: %w", name, err)
	}
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: of, Type: typ, Class: dnsmessage.ClassINET}},
	}
	msg, err := q.Pack()
	if err != nil {
		return nil, err
	}
	conn, err := c.listen(ctx, "udp", ":0")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // Nothing was written that is not sent.

	return ask(ctx, c, conn, question[[]netip.Addr]{net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 53)), msg, isDNS})
}

func isDNS(_, data []byte) (all []netip.Addr, ok bool) {
	var m dnsmessage.Message
	if m.Unpack(data) != nil || m.ID != 7 {
		return nil, false
	}
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, netip.AddrFrom4(r.A))
		case *dnsmessage.AAAAResource:
			all = append(all, netip.AddrFrom16(r.AAAA))
		}
	}
	return all, true
}

// Reach sends datagrams to an address until one is answered.
func (c Client) Reach(ctx context.Context, to netip.AddrPort) error {
	conn, err := c.listen(ctx, "udp", ":0")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // Nothing was written that is not sent.

	_, err = ask(ctx, c, conn, question[struct{}]{
		net.UDPAddrFromAddrPort(to), []byte("ping"), func(_, _ []byte) (struct{}, bool) { return struct{}{}, true },
	})
	return err
}

// listen opens a socket that can send on the interface without an address
// there.
func (c Client) listen(ctx context.Context, network, addr string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var serr error
		err := raw.Control(func(fd uintptr) {
			serr = errors.Join(
				unix.BindToDevice(int(fd), c.Interface),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
			)
		})
		return errors.Join(err, serr)
	}}
	return lc.ListenPacket(ctx, network, addr)
}

// A question is a message, to whom it goes, and what its answer looks like.
type question[T any] struct {
	to    net.Addr
	msg   []byte
	parse func(sent, got []byte) (T, bool)
}

// ask asks until an answer comes, or the client's patience ends.
func ask[T any](ctx context.Context, c Client, conn net.PacketConn, q question[T]) (T, error) {
	var none T
	buf := make([]byte, 4096)
	var last error
	wait := firstResend
	for end := time.Now().Add(c.Patience); time.Now().Before(end) && ctx.Err() == nil; wait = min(2*wait, resend) {
		// What is not up yet is tried again.
		if _, last = conn.WriteTo(q.msg, q.to); last != nil {
			_ = pause.For(ctx, 50*time.Millisecond)
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return none, err
		}
		for {
			size, _, err := conn.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				last = err // A port that is closed, or a host that cannot be reached.
				_ = pause.For(ctx, 50*time.Millisecond)
				break
			}
			if got, ok := q.parse(q.msg, buf[:size]); ok {
				return got, nil
			}
		}
	}
	return none, fmt.Errorf("no answer from %s: %w", q.to, errors.Join(os.ErrDeadlineExceeded, last, ctx.Err()))
}
