package firewall

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// targetVerdict is what a target of iptables does with a packet; nil if it
// goes on, or if that is not known.
func targetVerdict(x *expr.Target) *expr.Verdict {
	switch x.Name {
	case "REJECT", "DROP":
		return &expr.Verdict{Kind: expr.VerdictDrop}
	case "NFQUEUE":
		return &expr.Verdict{Kind: expr.VerdictQueue}
	}
	return nil
}

// match tells whether a match of iptables matches.
func (e *evaluation) match(x *expr.Match) truth {
	switch info := x.Info.(type) {
	case *xt.Comment:
		return yes
	case *xt.ConntrackMtinfo1:
		return e.conntrack(info.MatchFlags, info.InvertFlags, uint16(info.StateMask))
	case *xt.ConntrackMtinfo2:
		return e.conntrack(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.ConntrackMtinfo3:
		return e.conntrack(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.AddrTypeV1:
		return e.addressType(info)
	case *xt.Tcp:
		if info.FlagsMask != 0 || info.Option != 0 {
			return maybe
		}
		return e.xtPorts(unix.IPPROTO_TCP, info.SrcPorts, info.DstPorts, uint8(info.InvFlags))
	case *xt.Udp:
		return e.xtPorts(unix.IPPROTO_UDP, info.SrcPorts, info.DstPorts, uint8(info.InvFlags))
	case *xt.Unknown:
		return e.unknown(x.Name, *info)
	}
	return maybe
}

// unknown is for matches that the library does not read.
func (e *evaluation) unknown(name string, info []byte) truth {
	switch name {
	case "comment", "limit":
		return yes
	case "state":
		if len(info) >= 4 {
			return e.states(uint16(binary.NativeEndian.Uint32(info))) //nolint:gosec // The states are few.
		}
	}
	return maybe
}

// invertDestinationType is the flag of the match addrtype for all other types.
const invertDestinationType xt.AddrTypeFlags = 2

// addressType is the match addrtype, if it asks for where the packet goes to
// alone.
func (e *evaluation) addressType(info *xt.AddrTypeV1) truth {
	typ, ok := e.packet.destination()
	if !ok || info.Source != 0 || info.Flags&^invertDestinationType != 0 {
		return maybe
	}
	t := truthOf[info.Dest&(1<<typ) != 0]
	if info.Flags != 0 {
		return t.not()
	}
	return t
}

// destination returns the kind of address that a packet goes to, as routes have
// it.
func (p Packet) destination() (typ uint32, ok bool) {
	switch {
	case !p.Dst.IsValid():
		return 0, false
	case p.Dst.IsMulticast():
		return unix.RTN_MULTICAST, true
	case p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return unix.RTN_BROADCAST, true
	case p.Hook == Input:
		return unix.RTN_LOCAL, true
	}
	return unix.RTN_UNICAST, true
}

// conntrack is the match of that name, if it asks for the state alone.
func (e *evaluation) conntrack(flags, invert, states uint16) truth {
	if flags&^uint16(xt.ConntrackStateAlias) != uint16(xt.ConntrackState) {
		return maybe
	}
	t := e.states(states)
	if invert&uint16(xt.ConntrackState) != 0 {
		return t.not()
	}
	return t
}

// The bits of states in matches of iptables: 1 for INVALID, and then as the
// kernel numbers them in enum ip_conntrack_info.
const (
	xtEstablished = 1 << 1
	xtNew         = 1 << 3
)

func (e *evaluation) states(mask uint16) truth {
	if e.packet.Reply {
		return truthOf[mask&xtEstablished != 0]
	}
	return truthOf[mask&xtNew != 0]
}

// Bits of the flags of the matches tcp and udp.
const (
	invertSource      = 1
	invertDestination = 2
)

// xtPorts is the match tcp or udp.
func (e *evaluation) xtPorts(proto uint8, src, dst [2]uint16, invert uint8) truth {
	if e.packet.Proto != proto {
		return no
	}
	t := e.xtPort(dst)
	if invert&invertDestination != 0 {
		t = t.not()
	}
	if t == yes && (src != anyPort || invert&invertSource != 0) {
		return maybe
	}
	return t
}

var anyPort = [2]uint16{0, 65535}

// xtPort tells whether the port that a packet goes to is in a range.
func (e *evaluation) xtPort(ports [2]uint16) truth {
	if ports == anyPort {
		return yes
	}
	if e.packet.Reply {
		return maybe
	}
	return truthOf[ports[0] <= e.packet.Port && e.packet.Port <= ports[1]]
}
