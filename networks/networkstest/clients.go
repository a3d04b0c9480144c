package networkstest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/testenv"
)

// patience is how long an answer may take before a test fails, and resend how
// long until the question is asked again.
const (
	patience = testenv.Patience
	resend   = time.Second
)

// An Offer is what DHCP gave a guest.
type Offer struct {
	Address netip.Addr
	Options map[byte][]byte
}

// DHCP gets the guest an IPv4 address, and returns it.
func (n *NS) DHCP(tb testing.TB, mac, hostName string) (got Offer) {
	tb.Helper()
	hw, err := net.ParseMAC(mac)
	must(tb, err)
	n.Must(tb, func() error {
		conn, err := listen(tb.Context(), "udp4", ":68")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		to := &net.UDPAddr{IP: net.IPv4bcast, Port: 67}
		var options []byte
		if hostName != "" {
			options = append([]byte{12, byte(len(hostName))}, hostName...)
		}
		offer, err := ask(conn, to, dhcpMessage(hw, 1, options), isDHCP)
		if err != nil {
			return fmt.Errorf("discover: %w", err)
		}
		options = append(options, 50, 4)
		options = append(options, offer.Address.AsSlice()...)
		options = append(options, 54, 4)
		options = append(options, offer.Options[54]...)
		got, err = ask(conn, to, dhcpMessage(hw, 3, options), isDHCP)
		return err
	})
	const ack = 5
	if kind := got.Options[53]; len(kind) != 1 || kind[0] != ack {
		tb.Fatalf("DHCP answered with a message of type %v", kind)
	}
	return got
}

func dhcpMessage(hw net.HardwareAddr, kind byte, options []byte) []byte {
	msg := make([]byte, 240, 300)
	msg[0], msg[1], msg[2] = 1, 1, byte(len(hw))
	copy(msg[4:8], hw[2:])
	msg[10] = 0x80 // Answer by broadcast: there is no address yet.
	copy(msg[28:], hw)
	copy(msg[236:], []byte{99, 130, 83, 99})
	msg = append(msg, 53, 1, kind, 55, 4, 1, 3, 6, 15)
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
		o.Options[rest[0]], rest = rest[2:2+size], rest[2+size:]
	}
	return o, true
}

// DHCPv6 gets the guest an IPv6 address, and returns it.
func (n *NS) DHCPv6(tb testing.TB, mac string) (got netip.Addr) {
	tb.Helper()
	hw, err := net.ParseMAC(mac)
	must(tb, err)
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
	n.Must(tb, func() error {
		conn, err := listen(tb.Context(), "udp6", ":546")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		to := &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: 547, Zone: "eth0"}
		got, err = ask(conn, to, msg, isDHCPv6)
		return err
	})
	return got
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

// Lookup asks the server for the addresses of a name, and returns them.
func (n *NS) Lookup(tb testing.TB, server netip.Addr, name string, typ dnsmessage.Type) (got []netip.Addr) {
	tb.Helper()
	q := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: typ, Class: dnsmessage.ClassINET}},
	}
	msg, err := q.Pack()
	must(tb, err)
	n.Must(tb, func() error {
		conn, err := listen(tb.Context(), "udp", ":0")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		got, err = ask(conn, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 53)), msg, isDNS)
		return err
	})
	return got
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
	n.Must(tb, func() error {
		conn, err := listen(tb.Context(), "udp", ":0")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = ask(conn, net.UDPAddrFromAddrPort(to), []byte("ping"), func(_, _ []byte) (struct{}, bool) { return struct{}{}, true })
		return err
	})
}

// listen opens a socket that can send on eth0 without an address there.
func listen(ctx context.Context, network, addr string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		err := c.Control(func(fd uintptr) {
			serr = errors.Join(
				unix.BindToDevice(int(fd), "eth0"),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
			)
		})
		return errors.Join(err, serr)
	}}
	return lc.ListenPacket(ctx, network, addr)
}

// ask sends a message until an answer to it comes.
func ask[T any](conn net.PacketConn, to net.Addr, msg []byte, parse func(sent, got []byte) (T, bool)) (T, error) {
	var none T
	buf := make([]byte, 4096)
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		// What is not up yet is tried again.
		if _, last = conn.WriteTo(msg, to); last != nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(resend)); err != nil {
			return none, err
		}
		for {
			size, _, err := conn.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return none, err
			}
			if got, ok := parse(msg, buf[:size]); ok {
				return got, nil
			}
		}
	}
	return none, fmt.Errorf("no answer from %s: %w", to, errors.Join(os.ErrDeadlineExceeded, last))
}
