package firewall

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// text writes a rule much as nft shows it. What it cannot write is an ellipsis.
func text(exprs []expr.Any) string {
	var words []string
	loaded := map[uint32]string{} // What registers hold.
	for _, x := range exprs {
		if w := word(x, loaded); w != "" && (w != ellipsis || len(words) == 0 || words[len(words)-1] != ellipsis) {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

const ellipsis = "..."

// word writes one expression; "" for one that only loads a register.
func word(x expr.Any, loaded map[uint32]string) string {
	switch x := x.(type) {
	case *expr.Cmp:
		return cmpWord(loaded[x.Register], x)
	case *expr.Lookup:
		return lookupWord(loaded[x.SourceRegister], x)
	case *expr.Match:
		return x.Name + " match"
	case *expr.Target:
		return x.Name
	case *expr.Verdict:
		return verdictWords[x.Kind] + x.Chain
	case *expr.Reject:
		return "reject"
	case *expr.Log:
		return "log"
	case *expr.Limit:
		return "limit"
	case *expr.Counter, *expr.Immediate:
		return ""
	}
	if note(x, loaded) {
		return ""
	}
	return ellipsis
}

// note notes what an expression loads, and returns false if it loads nothing.
func note(x expr.Any, loaded map[uint32]string) bool {
	switch x := x.(type) {
	case *expr.Meta:
		loaded[x.Register] = metaWords[x.Key]
	case *expr.Ct:
		loaded[x.Register] = ctWords[x.Key]
	case *expr.Payload:
		loaded[x.DestRegister] = payloadWord(x)
	case *expr.Bitwise:
		name := loaded[x.SourceRegister]
		if name == "ct state" {
			name += " " + states(x.Mask)
		}
		loaded[x.DestRegister] = name
	default:
		return false
	}
	return true
}

// What registers are called by what is loaded into them.
var (
	metaWords = map[expr.MetaKey]string{
		expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname", expr.MetaKeyIIF: "iif", expr.MetaKeyOIF: "oif",
		expr.MetaKeyL4PROTO: "meta l4proto", expr.MetaKeyNFPROTO: "meta nfproto", expr.MetaKeyMARK: "meta mark",
	}
	ctWords      = map[expr.CtKey]string{expr.CtKeySTATE: "ct state", expr.CtKeySTATUS: "ct status", expr.CtKeyMARK: "ct mark"}
	verdictWords = map[expr.VerdictKind]string{
		expr.VerdictAccept: "accept", expr.VerdictDrop: "drop", expr.VerdictReturn: "return", expr.VerdictQueue: "queue",
		expr.VerdictJump: "jump ", expr.VerdictGoto: "goto ",
	}
)

func payloadWord(x *expr.Payload) string {
	type part struct {
		base expr.PayloadBase
		at   uint32
		n    uint32
	}
	names := map[part]string{
		{expr.PayloadBaseTransportHeader, 0, 2}: "sport", {expr.PayloadBaseTransportHeader, 2, 2}: "dport",
		{expr.PayloadBaseNetworkHeader, 12, 4}: "ip saddr", {expr.PayloadBaseNetworkHeader, 16, 4}: "ip daddr",
		{expr.PayloadBaseNetworkHeader, 8, 16}: "ip6 saddr", {expr.PayloadBaseNetworkHeader, 24, 16}: "ip6 daddr",
	}
	return names[part{x.Base, x.Offset, x.Len}]
}

// cmpWord writes a comparison of what is called name.
func cmpWord(name string, x *expr.Cmp) string {
	if name == "" {
		return ellipsis
	}
	if strings.HasPrefix(name, "ct state ") { // The bits are in the name.
		return name
	}
	op := map[expr.CmpOp]string{
		expr.CmpOpEq: "", expr.CmpOpNeq: "!= ", expr.CmpOpLt: "< ", expr.CmpOpLte: "<= ", expr.CmpOpGt: "> ", expr.CmpOpGte: ">= ",
	}[x.Op]
	return name + " " + op + value(name, x.Data)
}

func value(name string, data []byte) string {
	switch name {
	case "iifname", "oifname":
		text := strings.TrimRight(string(data), "\x00")
		if len(text) == len(data) && len(data) < unix.IFNAMSIZ {
			text += "*"
		}
		return strconv.Quote(text)
	case "meta l4proto":
		return map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "ipv6-icmp"}[data[0]]
	case "meta nfproto":
		return map[byte]string{unix.NFPROTO_IPV4: "ipv4", unix.NFPROTO_IPV6: "ipv6"}[data[0]]
	case "sport", "dport":
		if len(data) == 2 {
			return strconv.Itoa(int(binary.BigEndian.Uint16(data)))
		}
	}
	if a, ok := netip.AddrFromSlice(data); ok && strings.HasPrefix(name, "ip") {
		return a.String()
	}
	return fmt.Sprintf("0x%x", data)
}

// states names the bits of a connection's state.
func states(mask []byte) string {
	if len(mask) != 4 {
		return ellipsis
	}
	bits := binary.NativeEndian.Uint32(mask)
	var names []string
	for _, s := range []struct {
		bit  uint32
		name string
	}{
		{expr.CtStateBitINVALID, "invalid"},
		{expr.CtStateBitESTABLISHED, "established"},
		{expr.CtStateBitRELATED, "related"},
		{expr.CtStateBitNEW, "new"},
		{expr.CtStateBitUNTRACKED, "untracked"},
	} {
		if bits&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	return strings.Join(names, ",")
}

func lookupWord(name string, x *expr.Lookup) string {
	if name == "" {
		return ellipsis
	}
	op := ""
	if x.Invert {
		op = "!= "
	}
	if x.IsDestRegSet {
		op = "vmap "
	}
	return name + " " + op + "@" + x.SetName
}
