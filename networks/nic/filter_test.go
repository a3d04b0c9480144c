package nic_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/testenv"
)

// A wire is where a guest sends and hears frames.
type wire struct{ *os.File }

// wire opens the guest's eth0 for frames of any kind.
func (g guest) wire(t *testing.T) wire {
	t.Helper()
	var f *os.File
	g.Must(t, func() error {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "wire")
		l, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index})
	})
	t.Cleanup(func() { f.Close() })
	return wire{f}
}

func (w wire) send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := w.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// hears reports whether a frame comes before a last one that comes in any case.
func (w wire) hears(t *testing.T, frame, last []byte) bool {
	t.Helper()
	if err := w.SetReadDeadline(time.Now().Add(testenv.Patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for heard := false; ; {
		n, err := w.Read(buf)
		if err != nil {
			t.Fatalf("what must come does not come: %v", err)
		}
		heard = heard || bytes.Equal(buf[:n], frame)
		if bytes.Equal(buf[:n], last) {
			return heard
		}
	}
}

var (
	attacker = net.HardwareAddr{0x10, 0x66, 0x6a, 0, 0, 1}
	victim   = net.HardwareAddr{0x10, 0x66, 0x6a, 0, 0, 2}
	everyone = net.HardwareAddr{255, 255, 255, 255, 255, 255}
	all6     = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	own4     = netip.MustParseAddr("10.9.0.2")
	other4   = netip.MustParseAddr("10.9.0.3")
	zero4    = netip.MustParseAddr("0.0.0.0")
	cast4    = netip.MustParseAddr("255.255.255.255")
	own6     = netip.MustParseAddr("fd09::2")
	link6    = netip.MustParseAddr("fe80::1266:6aff:fe00:1")
	other6   = netip.MustParseAddr("fd09::3")
	zero6    = netip.MustParseAddr("::")
	group6   = netip.MustParseAddr("ff02::1")
)

func ether(to, from net.HardwareAddr, typ uint16, data []byte) []byte {
	out := append(append([]byte{}, to...), from...)
	return append(binary.BigEndian.AppendUint16(out, typ), data...)
}

func arp(from net.HardwareAddr, op byte, sender net.HardwareAddr, addr, target netip.Addr) []byte {
	data := append([]byte{0, 1, 8, 0, 6, 4, 0, op}, sender...)
	data = append(append(data, addr.AsSlice()...), 0, 0, 0, 0, 0, 0)
	return ether(everyone, from, unix.ETH_P_ARP, append(data, target.AsSlice()...))
}

func ipv4(from net.HardwareAddr, src, dst netip.Addr, data []byte) []byte {
	head := []byte{0x45, 0, 0, byte(20 + len(data)), 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	head = append(append(head, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	return ether(everyone, from, unix.ETH_P_IP, append(head, data...))
}

func checksum(data []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func udp(src, dst uint16) []byte {
	out := binary.BigEndian.AppendUint16(nil, src)
	return append(binary.BigEndian.AppendUint16(out, dst), 0, 12, 0, 0, 'g', 'o', 'o', 'd')
}

// dhcp is the beginning of a message to a server of DHCP.
func dhcp(mac net.HardwareAddr) []byte {
	const size = 8 + 44
	out := append(binary.BigEndian.AppendUint16(nil, 68), 0, 67, 0, size, 0, 0, 1, 1, 6, 0)
	return append(append(append(out, make([]byte, 24)...), mac...), make([]byte, 10)...)
}

// piece makes a packet of IPv4 the first of several.
func piece(frame []byte) []byte {
	head := frame[14:34]
	head[6], head[10], head[11] = 0x20, 0, 0
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	return frame
}

func ipv6(from net.HardwareAddr, src netip.Addr, next byte, data []byte) []byte {
	head := []byte{0x60, 0, 0, 0, 0, byte(len(data)), next, 255}
	head = append(append(head, src.AsSlice()...), group6.AsSlice()...)
	return ether(all6, from, unix.ETH_P_IPV6, append(head, data...))
}

// neighbor is a message of NDP, with an option that tells of an address.
func neighbor(typ byte, target netip.Addr, option byte, mac net.HardwareAddr) []byte {
	out := append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
	if option != 0 {
		out = append(append(out, option, 1), mac...)
	}
	return out
}

// hidden puts a header before a message, behind which it can hide.
func hidden(next byte, data []byte) []byte { return append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, data...) }

const icmp6 = unix.IPPROTO_ICMPV6

// tagged puts a frame into a VLAN.
func tagged(id byte, frame []byte) []byte {
	return slices.Insert(slices.Clone(frame), 12, 0x81, 0, 0, id)
}

// heard is what a guest hears of a frame, whose outer tag the kernel tells
// otherwise.
func heard(frame []byte) []byte {
	if frame[12] == 0x81 {
		return slices.Delete(slices.Clone(frame), 12, 16)
	}
	return frame
}

// spoofs are frames, and whether each passes a port that filters MAC
// addresses, and one that filters all.
var spoofs = map[string]struct {
	frame     []byte
	mac, full bool
}{
	"own ARP":                    {arp(attacker, 1, attacker, own4, other4), true, true},
	"probe for own":              {arp(attacker, 1, attacker, zero4, own4), true, true},
	"probe for another's":        {arp(attacker, 1, attacker, zero4, other4), true, false},
	"another's MAC":              {arp(victim, 1, victim, own4, other4), false, false},
	"ARP of another's MAC":       {arp(attacker, 2, victim, own4, other4), false, false},
	"ARP of another's address":   {arp(attacker, 2, attacker, other4, own4), true, false},
	"own IPv4":                   {ipv4(attacker, own4, other4, udp(1000, 1000)), true, true},
	"another's IPv4":             {ipv4(attacker, other4, own4, udp(1000, 1000)), true, false},
	"another's IPv4 and MAC":     {ipv4(victim, other4, own4, udp(1000, 1000)), false, false},
	"DHCP asks":                  {ipv4(attacker, zero4, cast4, udp(68, 67)), true, true},
	"DHCP asks for itself":       {ipv4(attacker, zero4, cast4, dhcp(attacker)), true, true},
	"DHCP asks for another":      {ipv4(attacker, zero4, cast4, dhcp(victim)), false, false},
	"DHCP asks in pieces":        {piece(ipv4(attacker, zero4, cast4, udp(68, 67))), false, false},
	"no address and not DHCP":    {ipv4(attacker, zero4, cast4, udp(68, 68)), true, false},
	"DHCP server":                {ipv4(attacker, own4, cast4, udp(67, 68)), true, false},
	"DHCP server without":        {ipv4(attacker, zero4, cast4, udp(67, 68)), true, false},
	"own IPv6":                   {ipv6(attacker, own6, 17, udp(1000, 1000)), true, true},
	"own link":                   {ipv6(attacker, link6, 17, udp(1000, 1000)), true, true},
	"another's IPv6":             {ipv6(attacker, other6, 17, udp(1000, 1000)), true, false},
	"router":                     {ipv6(attacker, link6, icmp6, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}), true, false},
	"hidden router":              {ipv6(attacker, link6, 60, hidden(icmp6, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0})), true, false},
	"redirect":                   {ipv6(attacker, link6, icmp6, neighbor(137, other6, 0, nil)), true, false},
	"DHCPv6 server":              {ipv6(attacker, link6, 17, udp(547, 546)), true, false},
	"DHCPv6 asks":                {ipv6(attacker, link6, 17, udp(546, 547)), true, true},
	"own neighbor":               {ipv6(attacker, own6, icmp6, neighbor(136, own6, 2, attacker)), true, true},
	"neighbor of another's":      {ipv6(attacker, own6, icmp6, neighbor(136, other6, 2, attacker)), true, false},
	"neighbor with another MAC":  {ipv6(attacker, own6, icmp6, neighbor(136, own6, 2, victim)), false, false},
	"neighbor, option hidden":    {ipv6(attacker, own6, icmp6, append(neighbor(136, own6, 14, attacker), 2, 1, 0x10, 0x66, 0x6a, 0, 0, 2)), false, false},
	"asks":                       {ipv6(attacker, own6, icmp6, neighbor(135, other6, 1, attacker)), true, true},
	"asks for another MAC":       {ipv6(attacker, own6, icmp6, neighbor(135, other6, 1, victim)), false, false},
	"who has own":                {ipv6(attacker, zero6, icmp6, neighbor(135, own6, 14, attacker)), true, true},
	"who has another's":          {ipv6(attacker, zero6, icmp6, neighbor(135, other6, 14, attacker)), true, false},
	"joins":                      {ipv6(attacker, zero6, icmp6, []byte{143, 0, 0, 0, 0, 0, 0, 0}), true, true},
	"router asked for":           {ipv6(attacker, zero6, icmp6, []byte{133, 0, 0, 0, 0, 0, 0, 0}), true, true},
	"something that is not IP":   {ether(everyone, attacker, 0x88b5, make([]byte, 46)), true, false},
	"not IP from another's MAC":  {ether(everyone, victim, 0x88b5, make([]byte, 46)), false, false},
	"in a VLAN":                  {tagged(5, ipv4(attacker, other4, own4, udp(1000, 1000))), true, false},
	"in VLAN 0":                  {tagged(0, ipv4(attacker, other4, own4, udp(1000, 1000))), true, false},
	"in VLAN 0 of VLAN 0":        {tagged(0, tagged(0, ipv4(attacker, other4, own4, udp(1000, 1000)))), true, false},
	"in a VLAN from another MAC": {tagged(5, ipv4(victim, own4, other4, udp(1000, 1000))), false, false},
	"unspecified and not DHCPv6": {ipv6(attacker, zero6, 17, udp(1000, 1000)), true, false},
}

// TestSpoofedFrames sends real frames, and looks what another guest hears.
func TestSpoofedFrames(t *testing.T) {
	h := newHost(t)
	from, to := newGuest(t), newGuest(t)
	n := bridged("a")
	other := bridged("b")
	other.MAC, other.IPv6 = victim.String(), nic.Family{}
	from.give(t, h, n)
	to.give(t, h, other)
	spoof(t, h, from, n, to.wire(t))
}

// TestSpoofedFramesToAnotherHost sends the same to one on another host, over
// VXLAN.
func TestSpoofedFramesToAnotherHost(t *testing.T) {
	h := newHost(t)
	from, far := newGuest(t), newGuest(t)
	far.Plug(t, "below", "", "")
	ip(t, "addr add 203.0.113.1/24 dev below")
	ip(t, "link add vx0 type vxlan id 9 dstport 4789 local 203.0.113.1 remote 203.0.113.2")
	ip(t, "link set vx0 master br0 up")
	far.ip(t, "link set eth0 down")
	far.ip(t, "link set eth0 name below")
	far.ip(t, "addr add 203.0.113.2/24 dev below")
	far.ip(t, "link set below up")
	far.ip(t, "link add eth0 type vxlan id 9 dstport 4789 local 203.0.113.2 remote 203.0.113.1")
	far.ip(t, "link set eth0 up")
	n := bridged("a")
	from.give(t, h, n)
	spoof(t, h, from, n, far.wire(t))
}

// spoof sends frames by a NIC with filters and without.
func spoof(t *testing.T, h nic.Host, from guest, n nic.NIC, hears wire) {
	t.Helper()
	mac, full := n, n
	mac.FilterMAC, full.FilterMAC = true, true
	full.IPv4 = nic.Family{Only: true, Addresses: prefixes("10.9.0.2/32")}
	full.IPv6 = nic.Family{Only: true, Addresses: prefixes("fd09::2/128", link6.String()+"/128")}
	limited := full
	limited.Egress = 100_000_000
	sends := from.wire(t)
	was, round := n, byte(0)
	for _, with := range []struct {
		name string
		nic  nic.NIC
	}{{"nothing", n}, {"MAC", mac}, {"all", full}, {"after a flush", full}, {"with a limit", limited}, {"nothing again", n}} {
		if err := h.Change(t.Context(), was, with.nic, from.Guest); err != nil {
			t.Fatal(err)
		}
		was = with.nic
		if with.name == "after a flush" {
			testenv.Run(t, "nft", "flush", "ruleset")
			if missing, err := h.Ports.Restore(); err != nil || !missing {
				t.Errorf("got %t, %v", missing, err)
			}
		}
		for name, tt := range spoofs {
			passes := with.nic.MAC != "" && !with.nic.FilterMAC
			switch {
			case with.nic.IPv4.Only:
				passes = tt.full
			case with.nic.FilterMAC:
				passes = tt.mac
			}
			round++
			last := arp(attacker, 1, attacker, own4, netip.AddrFrom4([4]byte{10, 9, 1, round}))
			sends.send(t, tt.frame)
			sends.send(t, last)
			if got := hears.hears(t, heard(tt.frame), last); got != passes {
				t.Errorf("filter %s: %s: passes %t, want %t", with.name, name, got, passes)
			}
		}
	}
}

// TestNone has an instance that may have no address of a family.
func TestNone(t *testing.T) {
	h := newHost(t)
	from, to := newGuest(t), newGuest(t)
	n, other := bridged("a"), bridged("b")
	n.FilterMAC, n.IPv6 = true, nic.Family{Only: true}
	other.MAC = victim.String()
	from.give(t, h, n)
	to.give(t, h, other)
	sends, hears := from.wire(t), to.wire(t)
	for name, frame := range map[string][]byte{"own": spoofs["own link"].frame, "joins": spoofs["joins"].frame} {
		last := arp(attacker, 1, attacker, own4, other4)
		sends.send(t, frame)
		sends.send(t, last)
		if hears.hears(t, frame, last) {
			t.Errorf("%s passes", name)
		}
	}
}

// TestManyPorts has as many ports as a large host, and looks that one more
// takes no longer than the first ones.
func TestManyPorts(t *testing.T) {
	h := newHost(t)
	n := bridged("x")
	n.FilterMAC, n.IPv4 = true, nic.Family{Only: true, Addresses: prefixes("10.9.0.2/32")}
	for i := range 60 {
		n.HostName = "v" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		ip(t, "link add "+n.HostName+" type bridge")
		p, _ := n.FilterPort()
		if err := h.Ports.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	if missing, err := h.Ports.Restore(); err != nil || missing {
		t.Errorf("got %t, %v", missing, err)
	}
	for i := range 60 {
		if err := h.Ports.Unset("v" + string(rune('a'+i%26)) + string(rune('a'+i/26))); err != nil {
			t.Fatal(err)
		}
	}
	if got := testenv.Run(t, "nft", "list", "ruleset"); got != "" {
		t.Errorf("left over:\n%s", got)
	}
}

// TestRoutedInTags has a guest that the host routes from hide another's address
// in tags that the kernel takes away.
func TestRoutedInTags(t *testing.T) {
	h := newHost(t)
	world := networkstest.World(t)
	g := newGuest(t)
	n := routed("r")
	g.give(t, h, n)
	var hears net.PacketConn
	world.Must(t, func() (err error) {
		hears, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp", "192.0.2.2:1000")
		return err
	})
	t.Cleanup(func() { _ = hears.Close() })
	if err := g.ping("192.0.2.2"); err != nil { // All know their neighbors.
		t.Fatal(err)
	}
	outer, err := net.InterfaceByName(n.HostName)
	if err != nil {
		t.Fatal(err)
	}
	sends := g.wire(t)
	from := func(addr string) []byte {
		frame := ipv4(attacker, netip.MustParseAddr(addr), netip.MustParseAddr("192.0.2.2"), udp(1000, 1000))
		copy(frame, outer.HardwareAddr)
		return frame
	}
	const own, foreign = "192.0.2.77", "192.0.2.99"
	for _, frame := range [][]byte{from(foreign), tagged(0, from(foreign)), tagged(0, tagged(0, from(foreign))), from(own)} {
		sends.send(t, frame)
	}
	if err := hears.SetReadDeadline(time.Now().Add(testenv.Patience)); err != nil {
		t.Fatal(err)
	}
	if _, addr, err := hears.ReadFrom(make([]byte, 100)); err != nil || addr.String() != own+":1000" {
		t.Errorf("got something from %v, %v", addr, err)
	}
}
