package firewall

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/run"
)

// The tables of iptables-legacy are not among those of nftables. Its own program
// writes them as text, which is translated into what nftables would have.

// A legacyTool is the program for IPv4 or IPv6.
type legacyTool struct {
	family  nftables.TableFamily
	program string
	names   string // The file that says which tables there are.
}

var legacyTools = []legacyTool{
	{nftables.TableFamilyIPv4, "iptables-legacy-save", "/proc/thread-self/net/ip_tables_names"},
	{nftables.TableFamilyIPv6, "ip6tables-legacy-save", "/proc/thread-self/net/ip6_tables_names"},
}

// legacySuffix tells a table of iptables-legacy from one of nftables.
const legacySuffix = " (iptables-legacy)"

// ReadLegacy adds the tables of iptables-legacy to the ruleset, if there are
// any. Unread names those that no program is installed for.
func (r *Ruleset) ReadLegacy(ctx context.Context) (unread []string, err error) {
	for _, t := range legacyTools {
		used, err := t.used()
		if err != nil {
			return nil, err
		}
		if !used {
			continue
		}
		if _, err := exec.LookPath(t.program); err != nil {
			unread = append(unread, t.program)
			continue
		}
		lines, err := run.Lines(ctx, t.program, "-t", "filter")
		if err != nil {
			return nil, err
		}
		r.addLegacy(t.family, lines)
	}
	return unread, nil
}

// HasLegacy tells whether there are tables of iptables-legacy.
func HasLegacy() bool {
	return slices.ContainsFunc(legacyTools, func(t legacyTool) bool {
		used, err := t.used()
		return used && err == nil
	})
}

// used tells whether the table is there, without making it.
func (t legacyTool) used() (bool, error) {
	names, err := os.ReadFile(t.names)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return slices.Contains(strings.Fields(string(names)), "filter"), err
}

// addLegacy adds a table as the program writes it.
func (r *Ruleset) addLegacy(family nftables.TableFamily, lines []string) {
	t := &nftables.Table{Family: family, Name: "filter" + legacySuffix}
	for _, line := range lines {
		words := fields(line)
		if len(words) < 2 {
			continue
		}
		if name, ok := strings.CutPrefix(words[0], ":"); ok {
			r.chains = append(r.chains, legacyChain(t, name, words[1]))
			continue
		}
		if words[0] != "-A" {
			continue
		}
		at := place{family, t.Name, words[1]}
		r.rules[at] = append(r.rules[at], &nftables.Rule{Exprs: legacyRule(words[2:]), UserData: []byte(strings.Join(words[2:], " "))})
	}
	for _, ch := range r.chains { // Chains without rules are not asked for.
		if at := (place{family, t.Name, ch.Name}); ch.Table == t && r.rules[at] == nil {
			r.rules[at] = []*nftables.Rule{}
		}
	}
}

// shown returns a rule as its program shows it.
func shown(r *nftables.Rule) string {
	if r.Table == nil { // One of iptables-legacy.
		return string(r.UserData)
	}
	return text(r.Exprs)
}

// legacyChain makes a chain, which is a base chain if it has a policy.
func legacyChain(t *nftables.Table, name, policy string) *nftables.Chain {
	ch := &nftables.Chain{Table: t, Name: name, Type: nftables.ChainTypeFilter}
	hook, ok := map[string]Hook{"INPUT": Input, "FORWARD": Forward, "OUTPUT": Output}[name]
	if !ok || policy == "-" {
		return ch
	}
	ch.Hooknum = new(nftables.ChainHook(hook))
	ch.Priority = nftables.ChainPriorityFilter
	p := nftables.ChainPolicyAccept
	if policy == "DROP" {
		p = nftables.ChainPolicyDrop
	}
	ch.Policy = &p
	return ch
}

// fields splits a line at spaces that are not within quotes.
func fields(line string) []string {
	quoted := false
	words := strings.FieldsFunc(line, func(c rune) bool {
		quoted = quoted != (c == '"')
		return c == ' ' && !quoted
	})
	for i, w := range words {
		words[i] = strings.Trim(w, `"`)
	}
	return words
}

// legacyRule translates the words of a rule. What has no translation is a match
// that may match or not.
func legacyRule(words []string) []expr.Any {
	var out []expr.Any
	op := expr.CmpOpEq
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "!" {
			op = expr.CmpOpNeq
			continue
		}
		values := 0
		for values < len(words) && !strings.HasPrefix(words[values], "-") && words[values] != "!" {
			values++
		}
		if values > 0 {
			out = append(out, legacyOption(word, words[0], op)...)
		} else {
			out = append(out, legacyUnknown(word))
		}
		words, op = words[values:], expr.CmpOpEq
	}
	return out
}

func legacyUnknown(option string) expr.Any {
	return &expr.Match{Name: strings.TrimLeft(option, "-"), Info: &xt.Unknown{}}
}

// legacyOption translates one option and its value.
func legacyOption(option, value string, op expr.CmpOp) []expr.Any {
	switch option {
	case "-i":
		return legacyInterface(expr.MetaKeyIIFNAME, op, value)
	case "-o":
		return legacyInterface(expr.MetaKeyOIFNAME, op, value)
	case "-s", "-d":
		return legacyAddress(option, op, value)
	case "-p":
		return legacyProtocol(op, value)
	case "--dport":
		return legacyPort(op, value)
	case "--icmp-type", "--icmpv6-type":
		return legacyType(op, value)
	case "--dst-type":
		return legacyAddressType(op, value)
	case "--ctstate", "--state":
		return legacyStates(op, value)
	case "-j", "-g":
		return legacyTarget(option, value)
	case "-m", "--comment", "--limit", "--limit-burst", "--reject-with", "--log-prefix", "--log-level":
		return nil // They are followed by what matters, or match in the end.
	}
	return []expr.Any{legacyUnknown(option)}
}

func legacyInterface(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	if prefix, ok := strings.CutSuffix(name, "+"); ok {
		data = []byte(prefix)
	}
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

func legacyAddress(option string, op expr.CmpOp, value string) []expr.Any {
	p, err := netip.ParsePrefix(value)
	if err != nil {
		return []expr.Any{legacyUnknown(option)}
	}
	at := map[string]uint32{"-s": 12, "-d": 16}[option]
	if p.Addr().Is6() {
		at = map[string]uint32{"-s": 8, "-d": 24}[option]
	}
	size := p.Addr().BitLen() / 8
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: uint32(size)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func legacyProtocol(op expr.CmpOp, value string) []expr.Any {
	number, ok := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP, "ipv6-icmp": unix.IPPROTO_ICMPV6, "sctp": unix.IPPROTO_SCTP}[value]
	if n, err := strconv.ParseUint(value, 10, 8); err == nil {
		number, ok = byte(n), true
	}
	if !ok {
		return []expr.Any{legacyUnknown("-p")}
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte{number}}}
}

func legacyPort(op expr.CmpOp, value string) []expr.Any {
	first, last, both := strings.Cut(value, ":")
	if !both {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil {
		return []expr.Any{legacyUnknown("--dport")}
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: op, Register: 1, FromData: []byte{byte(from >> 8), byte(from)}, ToData: []byte{byte(to >> 8), byte(to)}},
	}
}

func legacyType(op expr.CmpOp, value string) []expr.Any {
	n, err := strconv.ParseUint(value, 10, 8)
	if err != nil { // It has a code, too.
		return []expr.Any{legacyUnknown("--icmp-type")}
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{byte(n)}},
	}
}

func legacyAddressType(op expr.CmpOp, value string) []expr.Any {
	types := map[string]uint16{"UNICAST": unix.RTN_UNICAST, "LOCAL": unix.RTN_LOCAL, "BROADCAST": unix.RTN_BROADCAST, "MULTICAST": unix.RTN_MULTICAST}
	info := &xt.AddrTypeV1{}
	for s := range strings.SplitSeq(value, ",") {
		info.Dest |= 1 << types[s]
	}
	if op == expr.CmpOpNeq {
		info.Flags = invertDestinationType
	}
	return []expr.Any{&expr.Match{Name: "addrtype", Info: info}}
}

func legacyStates(op expr.CmpOp, value string) []expr.Any {
	bits := map[string]uint16{"INVALID": 1, "ESTABLISHED": xtEstablished, "RELATED": 1 << 2, "NEW": xtNew}
	info := &xt.ConntrackMtinfo3{}
	info.MatchFlags = uint16(xt.ConntrackState)
	if op == expr.CmpOpNeq {
		info.InvertFlags = uint16(xt.ConntrackState)
	}
	for s := range strings.SplitSeq(value, ",") {
		info.StateMask |= bits[s]
	}
	return []expr.Any{&expr.Match{Name: "conntrack", Info: info}}
}

// legacyTarget translates what is done with packets. What is none of these is a
// chain of the table; if there is none of the name, it is a target that lets
// packets go on.
func legacyTarget(option, value string) []expr.Any {
	kind := map[string]expr.VerdictKind{"ACCEPT": expr.VerdictAccept, "DROP": expr.VerdictDrop, "RETURN": expr.VerdictReturn}
	switch k, ok := kind[value]; {
	case ok:
		return []expr.Any{&expr.Verdict{Kind: k}}
	case value == "REJECT", value == "NFQUEUE":
		return []expr.Any{&expr.Target{Name: value}}
	case option == "-g":
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: value}}
	}
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: value}}
}
