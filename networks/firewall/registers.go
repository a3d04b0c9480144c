package firewall

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// An octet is a byte of a packet or of what is known about it, if it is known.
type octet struct {
	value byte
	known bool
}

// known returns octets that are all known.
func known(data []byte) []octet {
	out := make([]octet, len(data))
	for i, b := range data {
		out[i] = octet{b, true}
	}
	return out
}

// put writes what is known into octets.
func put(to []octet, data ...byte) { copy(to, known(data)) }

// values returns the octets if all are known.
func values(some []octet) ([]byte, bool) {
	out := make([]byte, len(some))
	for i, o := range some {
		if !o.known {
			return nil, false
		}
		out[i] = o.value
	}
	return out, len(out) > 0
}

// equal compares octets with what they may be.
func equal(some []octet, data []byte) truth {
	t := yes
	for i, o := range some {
		if !o.known {
			t = maybe
		} else if o.value != data[i] {
			return no
		}
	}
	return t
}

// registers are what a rule has loaded. The kernel has four of 16 bytes, and
// the same memory as sixteen of 4 bytes.
type registers [16 * 5]octet

// at returns where a register begins.
func at(register uint32) int {
	if register >= unix.NFT_REG32_00 {
		return 16 + 4*int(register-unix.NFT_REG32_00)
	}
	return 16 * int(register)
}

// load fills a register; with what is not known if there is no data. The rest
// of its last four bytes is zero.
func (r *registers) load(register uint32, data []octet) {
	from := min(at(register), len(r))
	if len(data) == 0 {
		clear(r[from:min(from+16, len(r))])
		return
	}
	n := copy(r[from:], data)
	for i := from + n; i < len(r) && i%4 != 0; i++ {
		r[i] = octet{known: true}
	}
}

// get returns n bytes of a register.
func (r *registers) get(register uint32, n int) []octet {
	from := at(register)
	if from+n > len(r) {
		return make([]octet, n)
	}
	return r[from : from+n]
}

// network is the header of IPv4 or IPv6, as far as it is known.
func (p Packet) network() []octet {
	size, proto, src, dst := 20, 9, 12, 16
	if p.IPv6 {
		size, proto, src, dst = 40, 6, 8, 24
	}
	h := make([]octet, size)
	put(h[proto:], p.Proto)
	for at, a := range map[int]netip.Addr{src: p.Src, dst: p.Dst} {
		if a.IsValid() {
			put(h[at:], a.AsSlice()...)
		}
	}
	return h
}

// transport is the header of TCP, UDP or ICMP, as far as it is known: clients
// have any port.
func (p Packet) transport() []octet {
	h := make([]octet, 20)
	switch p.Proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP:
		if !p.Reply && p.Port != 0 {
			put(h[2:], byte(p.Port>>8), byte(p.Port))
		}
		if !p.Reply && p.Proto == unix.IPPROTO_TCP {
			const flags, syn = 13, 2
			put(h[flags:], syn)
		}
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		put(h, p.ICMPType)
	}
	return h
}
