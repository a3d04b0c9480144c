package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A layout is where headers and registers have the addresses of a family.
type layout struct {
	version             int
	number              byte
	source, destination uint32 // Offsets in the header.
	length              uint32 // Of an address, in bytes.

	addressType nftables.SetDatatype
	socketType  nftables.SetDatatype // An address with a port.
	portsType   nftables.SetDatatype // An address with ports of a protocol.
	loopback    netip.Prefix
}

var (
	ipv4 = newLayout(layout{
		version: 4, number: unix.NFPROTO_IPV4, source: 12, destination: 16, length: 4,
		addressType: nftables.TypeIPAddr, loopback: netip.MustParsePrefix("127.0.0.0/8"),
	})
	ipv6 = newLayout(layout{
		version: 6, number: unix.NFPROTO_IPV6, source: 8, destination: 24, length: 16,
		addressType: nftables.TypeIP6Addr, loopback: netip.MustParsePrefix("::1/128"),
	})
	anyPortsType = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
)

func newLayout(f layout) layout {
	f.socketType = nftables.MustConcatSetType(f.addressType, nftables.TypeInetService)
	f.portsType = nftables.MustConcatSetType(f.addressType, nftables.TypeInetProto, nftables.TypeInetService)
	return f
}

func familyOf(a netip.Addr) layout {
	if a.Is6() {
		return ipv6
	}
	return ipv4
}

// words is how many words an address has.
func (f layout) words() uint32 { return f.length / 4 }

// word is the register of four bytes with a number.
func word(n uint32) uint32 { return unix.NFT_REG32_00 + n }

// newMap is a map of a kind.
func (f layout) newMap(w place, kind string) *nftables.Set {
	s := &nftables.Set{IsMap: true, KeyType: f.portsType, DataType: f.addressType}
	if w.any {
		s.KeyType = anyPortsType
	}
	switch kind {
	case ports:
		s.DataType = f.socketType
	case ranges:
		s.Interval = true
	case chosen:
		s.Interval, s.DataType = true, nftables.TypeVerdict
	case doors:
		s.KeyType, s.DataType = f.addressType, nftables.TypeVerdict
	case rest:
		s.KeyType = f.addressType
	}
	s.Concatenation = kind != doors && kind != rest
	return s
}

// find looks for a packet in a map, and does what that says.
func (f layout) find(w place, kind, name string) rule {
	at, port, nat := f.destination, uint32(2), expr.NATTypeDestNAT
	if w.sources {
		at, port, nat = f.source, 0, expr.NATTypeSourceNAT
	}
	r := family(f.number)
	if w.any {
		r = join(r, f.local())
	}
	next := uint32(0)
	if !w.any {
		r = append(r, &expr.Payload{DestRegister: word(0), Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: f.length})
		next = f.words()
	}
	if !w.rest {
		r = append(
			r,
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word(next)},
			&expr.Payload{DestRegister: word(next + 1), Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2},
		)
	}
	if kind == chosen || kind == doors {
		return append(r, &expr.Lookup{SourceRegister: word(0), DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: name})
	}
	return join(r, find(name), f.translate(nat, kind == ports))
}

// find loads what a map has for the registers from the first on into the same.
func find(name string) rule {
	return rule{&expr.Lookup{SourceRegister: word(0), DestRegister: word(0), IsDestRegSet: true, SetName: name}}
}

// translate has the address in the registers be that of the connection, or the
// address and the port.
func (f layout) translate(typ expr.NATType, port bool) rule { //nolint:revive // Not exported.
	nat := &expr.NAT{Type: typ, Family: uint32(f.number), RegAddrMin: word(0)}
	if port {
		nat.RegProtoMin = word(f.words())
	}
	return rule{nat}
}

// pick loads a number below another: the next, or always the same for a
// source.
func (f layout) pick(below int, bySource bool) rule { //nolint:revive // Not exported.
	if !bySource {
		return rule{&expr.Numgen{Register: word(0), Modulus: uint32(below), Type: unix.NFT_NG_INCREMENTAL}}
	}
	const seed = 0x63756962 // Else there is another each time that the table is replaced.
	return rule{
		&expr.Payload{DestRegister: word(0), Base: expr.PayloadBaseNetworkHeader, Offset: f.source, Len: f.length},
		&expr.Hash{SourceRegister: word(0), DestRegister: word(0), Length: f.length, Modulus: uint32(below), Seed: seed, Type: expr.HashTypeJenkins},
	}
}

// local matches what is for the host itself, but for the loopback.
func (f layout) local() rule {
	return join(
		rule{
			&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.RTN_LOCAL, 0, 0, 0}},
		},
		address(f.destination, f.loopback, expr.CmpOpNeq),
	)
}
