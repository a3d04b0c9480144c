package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/acl"
)

// How long a connection is known after its last packet: one that only one side
// has sent something of, one that has ended, and others.
const (
	flowNew    = 2 * time.Minute
	flowEnded  = time.Minute
	flowTCP    = 3 * time.Hour // Longer than the usual pause of keep-alives.
	flowUDP    = 3 * time.Minute
	flowAsking = 30 * time.Second // Of what has no ports, such as a ping.
)

// flowsMost is how many connections a port can have, and flowsFirst for how many
// there is room at first: the kernel makes it when it makes a set, half a megabyte
// for the most.
const (
	flowsMost  = 1 << 15
	flowsFirst = 1 << 8
)

// addTo makes the sets that are not there.
func (f flows) addTo(c *transaction, t *nftables.Table) error {
	for _, s := range f.sets() {
		s.Table = t
		if setsGrow() {
			first := *s
			first.Size = flowsFirst
			if err := addSet(c.Conn, &first); err != nil {
				return err
			}
		}
		if err := addSet(c.Conn, s); err != nil {
			return err
		}
	}
	return nil
}

// setsGrow tells whether the kernel lets a set have another size later. Older ones
// ignore it.
var setsGrow = sync.OnceValue(func() bool {
	t := &nftables.Table{Family: nftables.TableFamilyNetdev, Name: fmt.Sprintf("cuib-probe_%d", os.Getpid())}
	s := &nftables.Set{Table: t, Name: "grows", ID: firstID, KeyType: nftables.TypeIPAddr, Dynamic: true, HasTimeout: true, Timeout: flowNew, Size: 1}
	x, err := begin()
	if err != nil {
		return false
	}
	x.AddTable(t)
	err = addSet(x.Conn, s)
	s.Size = flowsFirst
	if err := errors.Join(err, addSet(x.Conn, s), x.commit()); err != nil {
		return false
	}
	size, err := sizeOf(s)
	return errors.Join(err, deleteTable(t)) == nil && size == flowsFirst
})

// sizeOf asks the kernel for the size of a set, which the library does not read.
func sizeOf(s *nftables.Set) (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETSET, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(s.Table.Family), Version: unix.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(unix.NFTA_SET_TABLE, nl.ZeroTerminated(s.Table.Name)))
	req.AddData(nl.NewRtAttr(unix.NFTA_SET_NAME, nl.ZeroTerminated(s.Name)))
	messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("look at set %s of nftables table %s: %w", s.Name, s.Table.Name, err)
	}
	for _, m := range messages {
		attrs, err := netlink.UnmarshalAttributes(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("look at set %s of nftables table %s: %w", s.Name, s.Table.Name, err)
		}
		for _, a := range attrs {
			if a.Type&^unix.NLA_F_NESTED != unix.NFTA_SET_DESC {
				continue
			}
			inner, err := netlink.UnmarshalAttributes(a.Data)
			if err == nil && len(inner) > 0 && inner[0].Type == unix.NFTA_SET_DESC_SIZE {
				return binary.BigEndian.Uint32(inner[0].Data), nil
			}
		}
	}
	return 0, nil
}

// Flows are the connections of a port: of a family, with ports and without. Both
// directions have one key: first the instance's end, then the other.
type flows struct {
	six          bool
	ported, bare *nftables.Set
}

var (
	portedKeys = map[bool]nftables.SetDatatype{
		false: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeInetService),
		true:  nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeInetService),
	}
	bareKeys = map[bool]nftables.SetDatatype{
		false: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto),
		true:  nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeIP6Addr, nftables.TypeInetProto),
	}
)

func (f flows) sets() []*nftables.Set { return []*nftables.Set{f.ported, f.bare} }

// flowsOf are the sets of a port.
func flowsOf(port string, n *ids) []flows {
	var all []flows
	for _, f := range []struct {
		six  bool
		name string
	}{{false, "flows4_" + port}, {true, "flows6_" + port}} {
		made := flows{six: f.six}
		for _, kind := range []struct {
			to   **nftables.Set
			name string
			key  nftables.SetDatatype
		}{{&made.ported, f.name, portedKeys[f.six]}, {&made.bare, f.name + "_bare", bareKeys[f.six]}} {
			*kind.to = &nftables.Set{
				ID: n.next(), Name: kind.name, KeyType: kind.key, Concatenation: true, Dynamic: true, HasTimeout: true, Timeout: flowNew, Size: flowsMost,
			}
		}
		all = append(all, made)
	}
	return all
}

// register is the first of those that hold four bytes each.
const register = unix.NFT_REG32_00

// key loads what a connection is known by. It returns the registers of ports,
// too.
func (f flows) key(direction string, withPorts bool) rule { //nolint:revive // a part of the value
	near, far := addressOffsets(f.six)
	nearPort, farPort := uint32(0), uint32(2)
	if direction == acl.Ingress {
		near, far, nearPort, farPort = far, near, farPort, nearPort
	}
	size := addressSize(f.six)
	at := uint32(register)
	r := rule{
		&expr.Payload{DestRegister: at, Base: expr.PayloadBaseNetworkHeader, Offset: near, Len: size},
		&expr.Payload{DestRegister: at + size/4, Base: expr.PayloadBaseNetworkHeader, Offset: far, Len: size},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: at + size/2},
	}
	if !withPorts {
		return r
	}
	return append(
		r,
		&expr.Payload{DestRegister: at + size/2 + 1, Base: expr.PayloadBaseTransportHeader, Offset: nearPort, Len: 2},
		&expr.Payload{DestRegister: at + size/2 + 2, Base: expr.PayloadBaseTransportHeader, Offset: farPort, Len: 2},
	)
}

func isKnown(s *nftables.Set) rule {
	return rule{&expr.Lookup{SourceRegister: register, SetName: s.Name, SetID: s.ID}}
}

// remember keeps a connection for some time from now on.
func remember(s *nftables.Set, d time.Duration) rule {
	return rule{&expr.Dynset{SrcRegKey: register, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: d}}
}

// pass are the rules for what belongs to a connection that is known.
func (f flows) pass(direction string) []rule {
	key, bare := f.key(direction, true), f.key(direction, false)
	ends := tcpFlags(tcpFinish | tcpReset)
	echo, answer := byte(unix.IPPROTO_ICMP), byte(0)
	if f.six {
		echo, answer = unix.IPPROTO_ICMPV6, 129
	}
	tcp, udp := proto(unix.IPPROTO_TCP), proto(unix.IPPROTO_UDP)
	here := protocolIs(f.six)
	return []rule{
		join(here, tcp, ends, key, isKnown(f.ported), remember(f.ported, flowEnded), accept()),
		join(here, tcp, key, isKnown(f.ported), remember(f.ported, flowTCP), accept()),
		join(here, udp, key, isKnown(f.ported), remember(f.ported, flowUDP), accept()),
		join(here, proto(echo), icmpByte(0, int(answer)), bare, isKnown(f.bare), accept()),
		join(
			here, notProto(unix.IPPROTO_TCP), notProto(unix.IPPROTO_UDP), notProto(echo),
			bare, isKnown(f.bare), remember(f.bare, flowAsking), accept(),
		),
	}
}

// Flags of TCP.
const (
	tcpFinish = 1 << 0
	tcpReset  = 1 << 2
)

// tcpFlags matches what has one of the flags.
func tcpFlags(some byte) rule {
	return rule{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{some}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}},
	}
}

// begin are the rules that remember a connection which is allowed. What there is
// no room for is allowed, and its answers are as all others.
func (f flows) begin(direction string) []rule {
	key := f.key(direction, true)
	here := protocolIs(f.six)
	return []rule{
		join(here, proto(unix.IPPROTO_TCP), key, remember(f.ported, flowNew), accept()),
		join(here, proto(unix.IPPROTO_UDP), key, remember(f.ported, flowNew), accept()),
		join(here, notProto(unix.IPPROTO_TCP), notProto(unix.IPPROTO_UDP), f.key(direction, false), remember(f.bare, flowAsking), accept()),
	}
}

func notProto(number byte) rule {
	return rule{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{number}},
	}
}

// later matches all fragments but the first, which tells what they are of:
// without it nobody can make anything of them.
func later() []rule {
	masked := func(mask []byte) rule {
		return rule{
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: mask, Xor: []byte{0, 0}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
		}
	}
	return []rule{
		join(protocolIs(false), rule{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2}}, masked([]byte{0x1f, 0xff})),
		join(protocolIs(true), rule{&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}}, masked([]byte{0xff, 0xf8})),
	}
}
