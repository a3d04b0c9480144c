package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/acl"
)

// Logged is a packet that a rule of an ACL has logged.
type Logged struct {
	ACL, Direction, Rule, Action, Network string // ACL is its [LogName].

	Protocol                    string // tcp, udp, icmp, icmp6 or a number.
	Source, Destination         string
	SourcePort, DestinationPort string
	ICMPType, ICMPCode          string
}

// Numbers of the kernel's nfnetlink_log.
const (
	logConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1
	logPacket = unix.NFNL_SUBSYS_ULOG << 8

	logConfigCommand = 1
	logConfigMode    = 2
	logBind          = 1
	logCopyPacket    = 2

	logAttrHeader  = 1
	logAttrPayload = 9
	logAttrPrefix  = 10
)

// ReadLog calls fn for each packet that rules of ACLs log for a group, until ctx
// ends. A group has one reader.
func ReadLog(ctx context.Context, group uint16, fn func(Logged)) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("open nfnetlink_log: %w", err)
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	mode := append(binary.BigEndian.AppendUint32(nil, logBytes), logCopyPacket, 0)
	for _, attr := range []netlink.Attribute{
		{Type: logConfigCommand, Data: []byte{logBind}},
		{Type: logConfigMode, Data: mode},
	} {
		if err := configureLog(c, group, attr); err != nil {
			return fmt.Errorf("listen to nfnetlink_log, group %d: %w", group, err)
		}
	}
	for {
		messages, err := c.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) { // Some were lost.
			continue
		}
		if err != nil {
			return fmt.Errorf("read nfnetlink_log: %w", err)
		}
		for _, m := range messages {
			if e, ok := parseLogged(m); ok {
				fn(e)
			}
		}
	}
}

func configureLog(c *netlink.Conn, group uint16, attr netlink.Attribute) error {
	raw, err := netlink.MarshalAttributes([]netlink.Attribute{attr})
	if err != nil {
		return err
	}
	header := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, group)
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: logConfig, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(header, raw...),
	})
	return err
}

// parseLogged reads a message, if it is of a packet that an ACL has logged.
func parseLogged(m netlink.Message) (e Logged, ok bool) {
	const head = 4
	if m.Header.Type != logPacket || len(m.Data) < head {
		return e, false
	}
	attrs, err := netlink.UnmarshalAttributes(m.Data[head:])
	if err != nil {
		return e, false
	}
	var packet []byte
	var hook byte
	for _, a := range attrs {
		switch a.Type {
		case logAttrHeader:
			if len(a.Data) > 2 {
				hook = a.Data[2]
			}
		case logAttrPayload:
			packet = a.Data
		case logAttrPrefix:
			ok = e.prefix(strings.TrimRight(string(a.Data), "\x00"))
		}
	}
	// What leaves an interface has the frame's header still.
	const frameHeader = 14
	if m.Data[0] == unix.NFPROTO_NETDEV && hook == unix.NF_NETDEV_EGRESS && len(packet) > frameHeader {
		packet = packet[frameHeader:]
	}
	return e, ok && e.packet(packet)
}

func (e *Logged) prefix(s string) bool {
	const parts = 6
	f := strings.Fields(s)
	if len(f) != parts || f[0] != LogPrefix {
		return false
	}
	e.ACL, e.Direction, e.Rule, e.Action, e.Network = f[1], f[2], f[3], f[4], f[5]
	return e.Direction == acl.Ingress || e.Direction == acl.Egress
}

// Headers, and where in them what is wanted is.
const (
	header4, header6   = 20, 40
	protocol4, next6   = 9, 6
	source4, source6   = 12, 8
	portsEnd, icmpSome = 4, 2
)

func (e *Logged) packet(p []byte) bool {
	if len(p) < header4 {
		return false
	}
	var protocol byte
	var rest []byte
	switch p[0] >> 4 {
	case 4:
		size := int(p[0]&0xf) * 4
		protocol = p[protocol4]
		e.Source, e.Destination = text(p[source4:source4+4]), text(p[source4+4:source4+8])
		rest = p[min(size, len(p)):]
	case 6:
		if len(p) < header6 {
			return false
		}
		protocol = p[next6]
		e.Source, e.Destination = text(p[source6:source6+16]), text(p[source6+16:source6+32])
		rest = p[header6:]
	default:
		return false
	}
	e.transport(protocol, rest)
	return true
}

func (e *Logged) transport(protocol byte, rest []byte) {
	names := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmp6"}
	e.Protocol = names[protocol]
	switch {
	case e.Protocol == "":
		e.Protocol = strconv.Itoa(int(protocol))
	case (protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP) && len(rest) >= portsEnd:
		e.SourcePort = strconv.Itoa(int(binary.BigEndian.Uint16(rest)))
		e.DestinationPort = strconv.Itoa(int(binary.BigEndian.Uint16(rest[2:])))
	case (protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6) && len(rest) >= icmpSome:
		e.ICMPType, e.ICMPCode = strconv.Itoa(int(rest[0])), strconv.Itoa(int(rest[1]))
	}
}

func text(raw []byte) string {
	a, _ := netip.AddrFromSlice(raw) // It has the length of one.
	return a.String()
}
