// Package conntrack finds and ends flows of UDP that the kernel keeps: as long
// as their packets come they lead to where the first one was led to, whatever
// the rules say since.
package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Filter says which flows are looked for: those of a family to an address and
// a port, as who sends has them.
type Filter struct {
	Six  bool       // Of IPv6 and not of IPv4.
	To   netip.Addr // Not valid for any.
	Port uint16     // 0 for any.
}

// A Flow is one of UDP.
type Flow struct {
	From, To netip.AddrPort // Of what is sent, before it is translated.

	// Answerer is who answers, and Answered where to: To and From, if nothing
	// is translated.
	Answerer, Answered netip.AddrPort

	ID uint32 // No other flow to the same has it.

	name []byte // By which the kernel knows it, as attributes.
}

// What the library lacks, of linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaFilter          = 25
	ctaFilterOrigFlags = 1
	filterToAddress    = 1 << 1
	filterProtocol     = 1 << 3
	filterToPort       = 1 << 5
)

// Flows returns the flows that fit. From 5.8 on, the kernel sends few others.
func Flows(f Filter) ([]Flow, error) {
	for {
		req := request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, f.family())
		for _, a := range f.attributes() {
			req.AddData(a)
		}
		messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		if errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.EINTR) {
			continue
		}
		if unavailable(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the flows of UDP: %w", err)
		}
		var out []Flow
		for _, m := range messages {
			if flow, ok := parse(m); ok && f.fits(flow) {
				out = append(out, flow)
			}
		}
		return out, nil
	}
}

// End has the kernel forget a flow: what comes next is led by the rules. It
// succeeds if there is none any more.
func (f Flow) End() error {
	req := request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, familyOf(f.To.Addr()))
	req.AddRawData(f.name)
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("end the flow of UDP from %s to %s: %w", f.From, f.To, err)
	}
	return nil
}

// unavailable tells whether there is nobody who keeps flows: the kernel has no
// part for it, or nobody has needed it yet.
func unavailable(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

func request(what, flags int, family uint8) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|what, flags)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0})
	return req
}

func familyOf(a netip.Addr) uint8 {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (f Filter) family() uint8 {
	if f.Six {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func (f Filter) fits(flow Flow) bool {
	return (!f.To.IsValid() || f.To == flow.To.Addr()) && (f.Port == 0 || f.Port == flow.To.Port())
}

// attributes tell the kernel what fits.
func (f Filter) attributes() []*nl.RtAttr {
	flags := uint32(filterProtocol)
	tuple := nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, nil)
	ip := tuple.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil)
	// Asked for an address of IPv6, kernels (such as 6.18) send all but its flows.
	if f.To.Is4() {
		flags |= filterToAddress
		ip.AddRtAttr(nl.CTA_IP_V4_DST, f.To.AsSlice())
	}
	protocol := tuple.AddRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil)
	protocol.AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP})
	if f.Port != 0 {
		flags |= filterToPort
		protocol.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, f.Port))
	}
	filter := nl.NewRtAttr(ctaFilter|unix.NLA_F_NESTED, nil)
	filter.AddRtAttr(ctaFilterOrigFlags, binary.NativeEndian.AppendUint32(nil, flags))
	return []*nl.RtAttr{tuple, filter}
}

// parse reads a flow of UDP.
func parse(message []byte) (f Flow, ok bool) {
	if len(message) < nl.SizeofNfgenmsg {
		return f, false
	}
	attrs, err := nl.ParseRouteAttr(message[nl.SizeofNfgenmsg:])
	if err != nil {
		return f, false
	}
	udp := false
	for _, a := range attrs {
		kind := int(a.Attr.Type &^ unix.NLA_F_NESTED)
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			f.From, f.To, udp = tuple(a.Value)
		case nl.CTA_TUPLE_REPLY:
			f.Answerer, f.Answered, _ = tuple(a.Value)
		case nl.CTA_ID:
			if len(a.Value) == 4 {
				f.ID = binary.BigEndian.Uint32(a.Value)
			}
		}
		if slices.Contains([]int{nl.CTA_TUPLE_ORIG, nl.CTA_ID, nl.CTA_ZONE}, kind) {
			f.name = append(f.name, nl.NewRtAttr(int(a.Attr.Type), slices.Clone(a.Value)).Serialize()...)
		}
	}
	return f, udp && f.To.IsValid() && f.Answerer.IsValid()
}

// tuple reads who sends, and where to.
func tuple(data []byte) (from, to netip.AddrPort, udp bool) {
	var addrs [2]netip.Addr
	var ports [2]uint16
	for _, part := range nested(data) {
		for kind, value := range nested(part.Value) {
			switch {
			case part.Attr.Type == nl.CTA_TUPLE_IP && kind >= nl.CTA_IP_V4_SRC && kind <= nl.CTA_IP_V6_DST:
				addrs[(kind-nl.CTA_IP_V4_SRC)%2], _ = netip.AddrFromSlice(value.Value)
			case part.Attr.Type == nl.CTA_TUPLE_IP:
			case kind == nl.CTA_PROTO_NUM && len(value.Value) == 1:
				udp = value.Value[0] == unix.IPPROTO_UDP
			case (kind == nl.CTA_PROTO_SRC_PORT || kind == nl.CTA_PROTO_DST_PORT) && len(value.Value) == 2:
				ports[kind-nl.CTA_PROTO_SRC_PORT] = binary.BigEndian.Uint16(value.Value)
			}
		}
	}
	return netip.AddrPortFrom(addrs[0], ports[0]), netip.AddrPortFrom(addrs[1], ports[1]), udp
}

// nested are the attributes in one, by their types.
func nested(data []byte) map[int]syscall.NetlinkRouteAttr {
	attrs, err := nl.ParseRouteAttr(data)
	if err != nil {
		return nil
	}
	out := map[int]syscall.NetlinkRouteAttr{}
	for _, a := range attrs {
		a.Attr.Type &^= unix.NLA_F_NESTED
		out[int(a.Attr.Type)] = a
	}
	return out
}
