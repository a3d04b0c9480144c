package dnsmasq

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// How long dnsmasq has to end a lease, and how long until it is asked again.
const (
	releaseTimeout = 2 * time.Second
	releasePause   = 10 * time.Millisecond
)

// How long the file of leases must stay as it is to be whole, and how often
// that is tried.
const (
	settle      = 2 * time.Millisecond
	settleTries = 20
)

// leases is what the file of leases says.
type leases struct {
	all    []lease
	server []byte // dnsmasq's own DUID, for DHCPv6.
}

// lease is a line of the file of leases.
type lease struct {
	mac  string // Empty if it is not known.
	addr netip.Addr
	name string // Empty if it has none.
	id   []byte // The client's identifier, which is its DUID in IPv6.
	iaid uint32 // IPv6.
}

// readLeases reads the file of leases: lines of expiry, MAC address or IAID,
// address, name and client's identifier; "duid" and our own identifier before
// those of IPv6.
func readLeases(cfg networks.Config) (leases, error) {
	path := filepath.Join(cfg.Dir, leaseFile)
	data, err := os.ReadFile(path)
	// dnsmasq writes the file in place: what is read twice alike is whole.
	for range settleTries {
		if err != nil {
			break
		}
		<-time.After(settle)
		last := data
		if data, err = os.ReadFile(path); bytes.Equal(data, last) {
			break
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		return leases{}, nil // There were none, or they went with their network.
	}
	return parseLeases(string(data)), err
}

func parseLeases(text string) leases {
	var out leases
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == "duid" {
			out.server = parseHex(fields[1])
		}
		if len(fields) < 5 {
			continue
		}
		addr, err := netip.ParseAddr(fields[2])
		if err != nil {
			continue
		}
		l := lease{addr: addr, id: parseHex(fields[4])}
		if fields[3] != "*" {
			l.name = fields[3]
		}
		if addr.Is4() {
			l.mac = fields[1]
		} else {
			iaid, _ := strconv.ParseUint(strings.TrimPrefix(fields[1], "T"), 10, 32)
			l.iaid = uint32(iaid)
			l.mac = macOf(l.id)
		}
		out.all = append(out.all, l)
	}
	return out
}

// parseHex parses bytes written as 01:ab:ff. What is not is nil.
func parseHex(s string) []byte {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil {
		return nil
	}
	return raw
}

// macOf returns the Ethernet address that a DUID is made of, if it is.
func macOf(duid []byte) string {
	const ethernet = 1
	if len(duid) < 4 || binary.BigEndian.Uint16(duid[2:]) != ethernet {
		return ""
	}
	switch kind := binary.BigEndian.Uint16(duid); {
	case kind == 1 && len(duid) == 14: // With a time.
		return net.HardwareAddr(duid[8:]).String()
	case kind == 3 && len(duid) == 10:
		return net.HardwareAddr(duid[4:]).String()
	}
	return ""
}

// dropLeases removes the leases of a MAC address from the file, while dnsmasq
// does not run.
func dropLeases(cfg networks.Config, mac string) error {
	path := filepath.Join(cfg.Dir, leaseFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var kept strings.Builder
	for line := range strings.Lines(string(data)) {
		if l := parseLeases(line).all; len(l) == 1 && l[0].mac == mac {
			continue
		}
		kept.WriteString(line)
	}
	return os.WriteFile(path, []byte(kept.String()), 0o644)
}

// sendRelease sends what the client would send to give up its lease.
func sendRelease(ctx context.Context, cfg networks.Config, server []byte, l lease) error {
	if l.addr.Is4() {
		to := netip.AddrPortFrom(cfg.IPv4.Address.Addr(), 67)
		return send(ctx, cfg.Name, "udp4", to, release4(cfg.IPv4.Address.Addr(), l))
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("ff02::1:2").WithZone(cfg.Name), 547)
	return send(ctx, cfg.Name, "udp6", to, release6(server, l))
}

// send sends a datagram that seems to come in through the interface.
func send(ctx context.Context, iface, network string, to netip.AddrPort, data []byte) error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		err := c.Control(func(fd uintptr) { serr = unix.BindToDevice(int(fd), iface) })
		return errors.Join(err, serr)
	}}
	conn, err := lc.ListenPacket(ctx, network, ":0")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = conn.WriteTo(data, net.UDPAddrFromAddrPort(to))
	return err
}

// release4 returns a DHCPRELEASE (RFC 2131).
func release4(server netip.Addr, l lease) []byte {
	mac, _ := net.ParseMAC(l.mac) // An empty one matches no lease.
	msg := make([]byte, 240, 300)
	msg[0], msg[1], msg[2] = 1, 1, byte(len(mac)) // A request, by Ethernet.
	_, _ = rand.Read(msg[4:8])
	copy(msg[12:16], l.addr.AsSlice())
	copy(msg[28:44], mac)
	copy(msg[236:240], []byte{99, 130, 83, 99}) // Options follow.
	msg = append(msg, 53, 1, 7)                 // DHCPRELEASE.
	msg = append(msg, 54, 4)
	msg = append(msg, server.AsSlice()...)
	if len(l.id) > 0 {
		msg = append(msg, 61, byte(len(l.id)))
		msg = append(msg, l.id...)
	}
	return append(msg, 255)
}

// release6 returns a DHCPv6 Release (RFC 8415).
func release6(server []byte, l lease) []byte {
	addr := binary.BigEndian.AppendUint32(l.addr.AsSlice(), 0) // Lifetimes of no meaning here.
	addr = binary.BigEndian.AppendUint32(addr, 0)
	ia := binary.BigEndian.AppendUint32(nil, l.iaid)
	ia = append(ia, make([]byte, 8)...)
	ia = option6(ia, 5, addr)

	msg := make([]byte, 4)
	_, _ = rand.Read(msg)
	msg[0] = 8 // Release.
	msg = option6(msg, 1, l.id)
	msg = option6(msg, 2, server)
	msg = option6(msg, 3, ia)
	return option6(msg, 8, []byte{0, 0})
}

func option6(msg []byte, code uint16, data []byte) []byte {
	msg = binary.BigEndian.AppendUint16(msg, code)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(data)))
	return append(msg, data...)
}
