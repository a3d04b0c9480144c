package firewall

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// evaluation is that of one rule for one packet.
type evaluation struct {
	r      *Ruleset
	packet Packet
	table  *nftables.Table
	regs   registers
}

// rule tells whether a rule matches, and what it says then; nil if it has no
// verdict, or one that is not known.
func (e *evaluation) rule(exprs []expr.Any) (truth, *expr.Verdict, error) {
	matches := yes
	for _, x := range exprs {
		t, v, err := e.one(x)
		if err != nil || t == no {
			return no, nil, err
		}
		if t == maybe {
			matches = maybe
		}
		if v != nil {
			return matches, v, nil
		}
	}
	return matches, nil, nil
}

// one does what one expression of a rule says.
func (e *evaluation) one(x expr.Any) (truth, *expr.Verdict, error) {
	if v, ok := verdictIn(x); ok {
		return yes, v, nil
	}
	switch x := x.(type) {
	case *expr.Lookup:
		return e.lookup(x)
	case *expr.Match:
		return e.match(x), nil, nil
	case *expr.Cmp:
		return e.compare(x), nil, nil
	case *expr.Range:
		return e.within(x), nil, nil
	case *expr.Limit, *expr.Connlimit, *expr.Dynset:
		return truthOf[!isExcess(x)], nil, nil
	}
	if changesNothing(x) || e.load(x) {
		return yes, nil, nil
	}
	e.regs = registers{} // What it loads is not known; what it matches neither.
	return maybe, nil, nil
}

// verdictIn returns what an expression does with packets, if it is one that
// says so.
func verdictIn(x expr.Any) (*expr.Verdict, bool) {
	switch x := x.(type) {
	case *expr.Verdict:
		return x, true
	case *expr.Reject:
		return &expr.Verdict{Kind: expr.VerdictDrop}, true
	case *expr.Queue:
		return &expr.Verdict{Kind: expr.VerdictQueue}, true
	case *expr.Target:
		return targetVerdict(x), true
	}
	return nil, false
}

// isExcess tells whether an expression matches only what is too much.
func isExcess(x expr.Any) bool {
	switch x := x.(type) {
	case *expr.Limit:
		return x.Over
	case *expr.Connlimit:
		return x.Flags&unix.NFT_LIMIT_F_INV != 0
	case *expr.Dynset:
		return slices.ContainsFunc(x.Exprs, isExcess)
	}
	return false
}

// changesNothing tells whether rules go on behind an expression as if it were
// not there.
func changesNothing(x expr.Any) bool {
	switch x.(type) {
	case *expr.Counter, *expr.Log, *expr.Quota, *expr.Notrack, *expr.NAT, *expr.Masq, *expr.Objref, *expr.FlowOffload:
		return true
	}
	return false
}

// load does what an expression says that fills a register. It returns false
// for any other.
func (e *evaluation) load(x expr.Any) bool {
	switch x := x.(type) {
	case *expr.Meta:
		if !x.SourceRegister {
			e.regs.load(x.Register, known(e.meta(x.Key)))
		}
	case *expr.Ct:
		if !x.SourceRegister {
			e.regs.load(x.Register, known(e.ct(x.Key)))
		}
	case *expr.Payload:
		if x.OperationType == expr.PayloadLoad {
			e.regs.load(x.DestRegister, e.payload(x))
		}
	case *expr.Fib:
		e.regs.load(x.Register, known(e.fib(x)))
	case *expr.Immediate:
		e.regs.load(x.Register, known(x.Data))
	case *expr.Bitwise:
		e.regs.load(x.DestRegister, e.bits(x))
	case *expr.Byteorder:
		e.regs.load(x.DestRegister, e.reorder(x))
	default:
		return false
	}
	return true
}

// fib returns what kind of address the packet goes to; nil for what else is
// asked of the host's routes.
func (e *evaluation) fib(x *expr.Fib) []byte {
	typ, ok := e.packet.destination()
	if !ok || !x.FlagDADDR || !x.ResultADDRTYPE || x.FlagIIF || x.FlagOIF {
		return nil
	}
	return binary.NativeEndian.AppendUint32(nil, typ)
}

func (e *evaluation) bits(x *expr.Bitwise) []octet {
	have := e.regs.get(x.SourceRegister, int(x.Len))
	if len(x.Mask) < len(have) || len(x.Xor) < len(have) {
		return nil
	}
	out := make([]octet, len(have))
	for i, o := range have {
		out[i] = octet{o.value&x.Mask[i] ^ x.Xor[i], o.known || x.Mask[i] == 0}
	}
	return out
}

func (e *evaluation) reorder(x *expr.Byteorder) []octet {
	have, size := e.regs.get(x.SourceRegister, int(x.Len)), int(x.Size)
	if size == 0 || len(have)%size != 0 {
		return nil
	}
	out := slices.Clone(have)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return out
	}
	for i := range have {
		out[i] = have[i/size*size+size-1-i%size]
	}
	return out
}

func (e *evaluation) compare(x *expr.Cmp) truth {
	have := e.regs.get(x.Register, len(x.Data))
	if x.Op == expr.CmpOpEq {
		return equal(have, x.Data)
	}
	if x.Op == expr.CmpOpNeq {
		return equal(have, x.Data).not()
	}
	data, ok := values(have)
	if !ok {
		return maybe
	}
	c := bytes.Compare(data, x.Data)
	return truthOf[map[expr.CmpOp]bool{expr.CmpOpLt: c < 0, expr.CmpOpLte: c <= 0, expr.CmpOpGt: c > 0, expr.CmpOpGte: c >= 0}[x.Op]]
}

func (e *evaluation) within(x *expr.Range) truth {
	have, ok := values(e.regs.get(x.Register, len(x.FromData)))
	if !ok || len(x.ToData) != len(x.FromData) {
		return maybe
	}
	in := truthOf[bytes.Compare(have, x.FromData) >= 0 && bytes.Compare(have, x.ToData) <= 0]
	if x.Op == expr.CmpOpNeq {
		return in.not()
	}
	return in
}

// lookup looks for what is in a register in a set, or in a map of verdicts.
func (e *evaluation) lookup(x *expr.Lookup) (truth, *expr.Verdict, error) {
	all, err := e.r.elements(e.table, x.SetName)
	if err != nil {
		return no, nil, err
	}
	found, t := e.find(x.SourceRegister, all)
	switch {
	case x.IsDestRegSet && x.DestRegister != unix.NFT_REG_VERDICT:
		e.regs.load(x.DestRegister, nil)
		return maybe, nil, nil
	case x.IsDestRegSet && t == yes:
		return yes, verdictOf(found.Val), nil
	case x.IsDestRegSet && t == maybe: // One of them may accept.
		return maybe, &expr.Verdict{Kind: expr.VerdictAccept}, nil
	case x.Invert:
		return t.not(), nil, nil
	default:
		return t, nil, nil
	}
}

// verdictOf reads the verdict of an element of a map, which the library leaves
// as it is in the message: attributes, each with its length and its type.
func verdictOf(data []byte) *expr.Verdict {
	v := &expr.Verdict{Kind: expr.VerdictContinue}
	for len(data) >= unix.NLA_HDRLEN {
		n := int(binary.NativeEndian.Uint16(data))
		if n < unix.NLA_HDRLEN || n > len(data) {
			break
		}
		switch value := data[unix.NLA_HDRLEN:n]; binary.NativeEndian.Uint16(data[2:]) {
		case unix.NFTA_VERDICT_CODE:
			if len(value) == 4 {
				v.Kind = expr.VerdictKind(int32(binary.BigEndian.Uint32(value))) //nolint:gosec // It has a sign.
			}
		case unix.NFTA_VERDICT_CHAIN:
			v.Chain = string(bytes.TrimRight(value, "\x00"))
		}
		data = data[min(len(data), (n+3)&^3):]
	}
	return v
}

// find returns the element of a set that a register's value is in.
func (e *evaluation) find(register uint32, all []nftables.SetElement) (nftables.SetElement, truth) {
	var best *nftables.SetElement // The last that begins before the value.
	intervals := false
	for i, el := range all {
		have, ok := values(e.regs.get(register, len(el.Key)))
		if !ok || len(el.KeyEnd) > 0 {
			return nftables.SetElement{}, maybe
		}
		intervals = intervals || el.IntervalEnd
		c := bytes.Compare(el.Key, have)
		if c == 0 && !el.IntervalEnd {
			return el, yes
		}
		if c <= 0 && (best == nil || bytes.Compare(best.Key, el.Key) <= 0) {
			best = &all[i]
		}
	}
	if intervals && best != nil && !best.IntervalEnd {
		return *best, yes
	}
	return nftables.SetElement{}, no
}

// meta returns what a packet is beside its contents; nil if that is not known.
func (e *evaluation) meta(key expr.MetaKey) []byte {
	p := e.packet
	known := map[expr.MetaKey]func() []byte{
		expr.MetaKeyIIFNAME:  func() []byte { return interfaceName(p.In) },
		expr.MetaKeyOIFNAME:  func() []byte { return interfaceName(p.Out) },
		expr.MetaKeyIIF:      func() []byte { return index(p.In) },
		expr.MetaKeyOIF:      func() []byte { return index(p.Out) },
		expr.MetaKeyNFPROTO:  func() []byte { return []byte{p.family()} },
		expr.MetaKeyL4PROTO:  func() []byte { return []byte{p.Proto} },
		expr.MetaKeyPROTOCOL: p.protocol,
		expr.MetaKeyMARK:     func() []byte { return make([]byte, 4) },
	}
	if fn, ok := known[key]; ok {
		return fn()
	}
	return nil
}

// protocol is the type of Ethernet packets.
func (p Packet) protocol() []byte {
	if p.IPv6 {
		return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)
	}
	return binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP)
}

// interfaceName returns the name of an interface as registers have it. Names
// that are not known are those of no interface, too.
func interfaceName(name string) []byte {
	if name == "" {
		return nil
	}
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, name)
	return out
}

func index(name string) []byte {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil
	}
	return binary.NativeEndian.AppendUint32(nil, uint32(link.Index)) //nolint:gosec // The kernel's are not negative.
}

func (p Packet) family() byte {
	if p.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// ct returns what the kernel knows of a packet's connection.
func (e *evaluation) ct(key expr.CtKey) []byte {
	switch {
	case key == expr.CtKeySTATE && e.packet.Reply:
		return binary.NativeEndian.AppendUint32(nil, expr.CtStateBitESTABLISHED)
	case key == expr.CtKeySTATE:
		return binary.NativeEndian.AppendUint32(nil, expr.CtStateBitNEW)
	case key == expr.CtKeyMARK, key == expr.CtKeySTATUS && !e.packet.Reply:
		return make([]byte, 4)
	case key == expr.CtKeyDIRECTION && e.packet.Reply:
		return []byte{1}
	case key == expr.CtKeyDIRECTION:
		return []byte{0}
	}
	return nil
}

// payload returns a part of a packet.
func (e *evaluation) payload(x *expr.Payload) []octet {
	var header []octet
	if x.Base == expr.PayloadBaseNetworkHeader {
		header = e.packet.network()
	}
	if x.Base == expr.PayloadBaseTransportHeader {
		header = e.packet.transport()
	}
	if int(x.Offset+x.Len) > len(header) {
		return make([]octet, x.Len)
	}
	return header[x.Offset : x.Offset+x.Len]
}
