package networks

import (
	"encoding/binary"
	"net/netip"

	"github.com/cuib/cuib/shared/errs"
)

// FreeIPv4 returns the host's address in a /24 network that overlaps none of
// used. It looks from where random, which returns a number below n, says.
func FreeIPv4(used []netip.Prefix, random func(n int) int) (netip.Prefix, error) {
	// All of 10.0.0.0/8, then 172.16.0.0/12 and 192.168.0.0/16.
	blocks := []struct {
		first uint32
		count int
	}{{0x0a000000, 1 << 16}, {0xac100000, 1 << 12}, {0xc0a80000, 1 << 8}}
	for _, b := range blocks {
		start := random(b.count)
		for i := range b.count {
			n := (start + i) % b.count
			var raw [4]byte
			binary.BigEndian.PutUint32(raw[:], b.first|uint32(n)<<8|1)
			p := netip.PrefixFrom(netip.AddrFrom4(raw), 24)
			if !Overlaps(used, p) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, errs.Newf(errs.Unavailable, "no free private IPv4 network: give ipv4.address, or \"none\"")
}

// FreeIPv6 returns the host's address in a /64 network for local use that
// overlaps none of used.
func FreeIPv6(used []netip.Prefix, random func(n int) int) (netip.Prefix, error) {
	for range 100 {
		raw := [16]byte{0xfd, 0x42, 15: 1}
		for i := 2; i < 8; i++ {
			raw[i] = byte(random(256))
		}
		p := netip.PrefixFrom(netip.AddrFrom16(raw), 64)
		if !Overlaps(used, p) {
			return p, nil
		}
	}
	return netip.Prefix{}, errs.Newf(errs.Unavailable, "no free local IPv6 network: give ipv6.address, or \"none\"")
}

// Overlaps reports whether p overlaps one of used. Default routes do not
// count.
func Overlaps(used []netip.Prefix, p netip.Prefix) bool {
	for _, u := range used {
		if u.Bits() > 0 && u.Overlaps(p) {
			return true
		}
	}
	return false
}

// Last returns the last address of a network.
func Last(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	addr, _ := netip.AddrFromSlice(raw) // Its length is an address's.
	return addr
}

// CheckStatic reports what is wrong with addr as the address of a host on a
// network with the configuration f.
func CheckStatic(f Family, addr netip.Addr) error {
	network := f.Address.Masked()
	switch {
	case !f.Address.IsValid():
		return errs.Invalidf("address %s is not valid: the network has no %s", addr, familyName(addr))
	case !network.Contains(addr):
		return errs.Invalidf("address %s is not valid: it is outside of the network %s", addr, network)
	case addr == f.Address.Addr() || addr == f.Gateway:
		return errs.Conflictf("address %s is the network's own", addr)
	case addr == network.Addr() || addr.Is4() && network.Bits() < 31 && addr == Last(network):
		return errs.Invalidf("address %s is not valid: it is the first or last of the network %s", addr, network)
	case !f.DHCP || addr.Is6() && !f.Stateful:
		return errs.Invalidf("address %s cannot be given out: %s is off on the network", addr, dhcpKey(addr))
	}
	return nil
}

func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func dhcpKey(a netip.Addr) string {
	if a.Is4() {
		return "ipv4.dhcp"
	}
	return "ipv6.dhcp.stateful"
}

// Autoconf is the address that a guest makes of its MAC address (RFC 4291,
// appendix A); not valid where it makes none.
func Autoconf(f Family, mac string) netip.Addr {
	hw, err := ParseMAC(mac)
	if err != nil || !f.Address.IsValid() || f.Address.Bits() != 64 || f.DHCP && f.Stateful {
		return netip.Addr{}
	}
	raw := f.Address.Masked().Addr().As16()
	copy(raw[8:], []byte{hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]})
	return netip.AddrFrom16(raw)
}
