package nic_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/testenv"
)

// floods are what a hostile guest sends without end: each time something else.
var floods = map[string]func(r *rand.Rand) []byte{
	"MAC addresses": func(r *rand.Rand) []byte { return ipv4(anyMAC(r), own4, other4, udp(1000, 1000)) },
	"ARP for all":   func(r *rand.Rand) []byte { return arp(attacker, 2, attacker, any4(r), own4) },
	"ARP of MACs":   func(r *rand.Rand) []byte { mac := anyMAC(r); return arp(mac, 2, mac, own4, other4) },
	"IPv4":          func(r *rand.Rand) []byte { return ipv4(attacker, any4(r), other4, udp(1000, 1000)) },
	"IPv6":          func(r *rand.Rand) []byte { return ipv6(attacker, any6(r), 17, udp(1000, 1000)) },
	"neighbors":     func(r *rand.Rand) []byte { return ipv6(attacker, own6, icmp6, neighbor(136, any6(r), 2, attacker)) },
	"routers": func(r *rand.Rand) []byte {
		return ipv6(attacker, link6, icmp6, append([]byte{134, 0, 0, 0, 64, 0, 7, 8}, any6(r).AsSlice()[8:]...))
	},
	"DHCP servers":   func(r *rand.Rand) []byte { return ipv4(attacker, any4(r), cast4, udp(67, 68)) },
	"DHCPv6 servers": func(r *rand.Rand) []byte { return ipv6(attacker, any6(r), 17, udp(547, 546)) },
	"other protocols": func(r *rand.Rand) []byte {
		return ether(everyone, anyMAC(r), uint16(0x8800+r.IntN(0x100)), bytes.Repeat([]byte{1}, 46)) //nolint:gosec // It is small.
	},
}

func anyMAC(r *rand.Rand) net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(mac[2:], r.Uint32())
	return mac
}

func any4(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 9, byte(r.IntN(256)), byte(10 + r.IntN(240))})
}

func any6(r *rand.Rand) netip.Addr {
	a := other6.As16()
	binary.BigEndian.PutUint64(a[8:], r.Uint64()|1<<63)
	return netip.AddrFrom16(a)
}

// TestFloods has a guest send thousands of frames of each kind, all spoofed:
// none reaches another guest, the bridge learns nothing, and others talk.
func TestFloods(t *testing.T) {
	const many = 5000
	h := newHost(t)
	from, to := newGuest(t), newGuest(t)
	n, other := bridged("a"), bridged("b")
	n.FilterMAC = true
	n.IPv4 = nic.Family{Only: true, Addresses: prefixes("10.9.0.2/32")}
	n.IPv6 = nic.Family{Only: true, Addresses: prefixes("fd09::2/128", link6.String()+"/128")}
	other.MAC, other.IPv6 = victim.String(), nic.Family{}
	from.give(t, h, n)
	to.give(t, h, other)
	to.ip(t, "addr add 10.9.0.3/24 dev eth0")
	sends, hears := from.wire(t), to.wire(t)
	r, round := rand.New(rand.NewPCG(1, 2)), byte(0) //nolint:gosec // The same frames each time.
	for name, frame := range floods {
		sent := map[string]bool{}
		for range many {
			f := frame(r)
			sent[string(f)] = true
			sends.flood(t, f)
		}
		round++
		last := arp(attacker, 1, attacker, own4, netip.AddrFrom4([4]byte{10, 9, 2, round}))
		sends.flood(t, last)
		if heard := hears.spoofed(t, sent, last); heard > 0 {
			t.Errorf("%s: %d of %d frames reach another guest", name, heard, many)
		}
		if err := to.ping("10.9.0.1"); err != nil {
			t.Errorf("%s: another guest does not reach the host: %v", name, err)
		}
	}
	if learned := strings.Count(testenv.Run(t, "bridge", "fdb", "show", "br", "br0"), " master br0"); learned > 20 {
		t.Errorf("the bridge has learned %d addresses", learned)
	}
}

// flood sends a frame as soon as there is room for it.
func (w wire) flood(t *testing.T, frame []byte) {
	t.Helper()
	for {
		_, err := w.Write(frame)
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
}

// spoofed counts the frames that come before a last one, which comes in any
// case.
func (w wire) spoofed(t *testing.T, sent map[string]bool, last []byte) int {
	t.Helper()
	if err := w.SetReadDeadline(time.Now().Add(testenv.Patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for count := 0; ; {
		n, err := w.Read(buf)
		if err != nil {
			t.Fatalf("what must come does not come: %v", err)
		}
		if sent[string(buf[:n])] {
			count++
		}
		if bytes.Equal(buf[:n], last) {
			return count
		}
	}
}
