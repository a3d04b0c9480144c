package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
)

// The chains of a network's ACLs.
const (
	aclEgress  = "acl-egress"
	aclIngress = "acl-ingress"
)

// aclContents are sets and chains for the ACLs of a network: what passes between it and the
// host, or others. What stays within the bridge they do not see.
func aclContents(cfg networks.Config) ([]set, []chain) {
	if cfg.ACL == nil {
		return nil, nil
	}
	w := newACLWriter(cfg.ACL, &ids{}, accept(), accept())
	from, to := iface(expr.MetaKeyIIFNAME, cfg.Name), iface(expr.MetaKeyOIFNAME, cfg.Name)
	leaves := join(from, notIface(expr.MetaKeyOIFNAME, cfg.Name))
	enters := join(to, notIface(expr.MetaKeyIIFNAME, cfg.Name))
	filter := func(name string, hook *nftables.ChainHook, rules []rule) chain {
		return newChain(name, nftables.ChainTypeFilter, hook, nftables.ChainPriorityFilter, rules)
	}
	all := []chain{
		w.chain(aclEgress, acl.Egress, cfg.ACL.Egress),
		w.chain(aclIngress, acl.Ingress, cfg.ACL.Ingress),
	}
	return w.sets(), append(
		all,
		filter("acl-input", nftables.ChainHookInput, guarded(from, guestsAsk(), aclEgress)),
		filter("acl-output", nftables.ChainHookOutput, guarded(to, hostTells(), aclIngress)),
		filter("acl-forward", nftables.ChainHookForward, slices.Concat(guarded(leaves, nil, aclEgress), guarded(enters, nil, aclIngress))),
	)
}

// guarded has what belongs to a connection pass, and what a network cannot do
// without; the rest goes to a chain.
func guarded(which rule, needed []rule, to string) []rule {
	all := []rule{join(which, established(), accept())}
	for _, n := range needed {
		all = append(all, join(which, n, accept()))
	}
	return append(all, join(which, rule{&expr.Verdict{Kind: expr.VerdictJump, Chain: to}}))
}

// established matches answers, and errors about what was sent.
func established() rule {
	mask := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return rule{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// guestsAsk is what every guest asks of the host: addresses, names, routers,
// neighbors.
func guestsAsk() []rule {
	return slices.Concat(
		[]rule{port(unix.IPPROTO_UDP, 67), port(unix.IPPROTO_UDP, 547), port(unix.IPPROTO_UDP, 53), port(unix.IPPROTO_TCP, 53)},
		icmp4Errors(), icmp6Types(1, 4), icmp6Types(mldReport, mldDone), icmp6Types(routerSolicit, routerSolicit),
		icmp6Types(neighborAsk, neighborAnswer), icmp6Types(mld2Report, mld2Report),
	)
}

// hostTells is what the host tells every guest by itself.
func hostTells() []rule {
	return slices.Concat(
		[]rule{fromPort(67), fromPort(547)},
		icmp4Errors(), icmp6Types(1, 4), icmp6Types(mldQuery, mldQuery), icmp6Types(routerAdvert, routerAdvert),
		icmp6Types(neighborAsk, neighborAnswer),
	)
}

const mldQuery = 130

// icmp4Errors say that something did not arrive.
func icmp4Errors() []rule {
	var all []rule
	for _, typ := range []byte{3, 11, 12} {
		all = append(all, join(proto(unix.IPPROTO_ICMP), payload(expr.PayloadBaseTransportHeader, 0, []byte{typ}, expr.CmpOpEq)))
	}
	return all
}

// icmp6Types matches a range of types.
func icmp6Types(first, last byte) []rule {
	if first == last {
		return []rule{join(proto(unix.IPPROTO_ICMPV6), payload(expr.PayloadBaseTransportHeader, 0, []byte{first}, expr.CmpOpEq))}
	}
	return []rule{join(proto(unix.IPPROTO_ICMPV6), rule{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{first}, ToData: []byte{last}},
	})}
}

// chain is one with the rules of a direction, which other chains call.
func (w *aclWriter) chain(name, direction string, d acl.Direction) chain {
	ch := chain{Chain: &nftables.Chain{Name: name}}
	for _, r := range w.direction(direction, d) {
		ch.rules = append(ch.rules, r.rule)
	}
	return ch
}

// sets are those that rules have asked for.
func (w *aclWriter) sets() []set {
	var all []set
	for _, name := range sorted(w.named) {
		all = append(all, w.named[name])
	}
	return all
}

// Readdress puts the addresses that the book of a network's ACLs has now into
// the network's table. The rules stay as they are.
func Readdress(cfg networks.Config) error {
	sets, _ := aclContents(cfg)
	return readdress(table(cfg.Name), sets)
}

// readdress replaces what is in the sets with addresses of the book.
func readdress(t *nftables.Table, sets []set) error {
	c, err := begin()
	if err != nil {
		return err
	}
	some := false
	for _, s := range sets {
		if len(s.side.Names) == 0 {
			continue
		}
		some = true
		s.Table = t
		c.FlushSet(s.Set)
		if err := s.fill(c.Conn); err != nil {
			return fmt.Errorf("change addresses in nftables table %s: %w", t.Name, err)
		}
	}
	if !some {
		return nil
	}
	if err := c.commit(); err != nil {
		return fmt.Errorf("change addresses in nftables table %s: %w", t.Name, err)
	}
	return nil
}

// A Count is how often a rule of a policy was used: its number in the
// direction, or -1 for the default.
type Count struct {
	Direction      string
	Rule           int
	Packets, Bytes uint64
}

// CountACL returns how often the rules of a network's ACLs were used since the
// network's table was made.
func CountACL(cfg networks.Config) ([]Count, error) {
	if cfg.ACL == nil {
		return nil, nil
	}
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	t := table(cfg.Name)
	w := newACLWriter(cfg.ACL, &ids{}, accept(), accept())
	in, err := w.counts(c, &nftables.Chain{Table: t, Name: aclIngress}, acl.Ingress, cfg.ACL.Ingress)
	if err != nil {
		return nil, err
	}
	out, err := w.counts(c, &nftables.Chain{Table: t, Name: aclEgress}, acl.Egress, cfg.ACL.Egress)
	return append(in, out...), err
}

// counts reads the counters of a chain. There are none if the chain is not as it
// was made.
func (w *aclWriter) counts(c *nftables.Conn, ch *nftables.Chain, direction string, d acl.Direction) ([]Count, error) {
	want := w.direction(direction, d)
	got, err := c.GetRules(ch.Table, ch)
	if isMissing(err) || err == nil && len(got) != len(want) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nftables table %s: %w", ch.Table.Name, err)
	}
	sums := map[int]*Count{}
	var all []*Count
	for i, r := range got {
		of := want[i].of
		if of == ofNone {
			continue
		}
		if sums[of] == nil {
			sums[of] = &Count{Direction: direction, Rule: of}
			all = append(all, sums[of])
		}
		for _, e := range r.Exprs {
			if n, ok := e.(*expr.Counter); ok {
				sums[of].Packets += n.Packets
				sums[of].Bytes += n.Bytes
			}
		}
	}
	out := make([]Count, len(all))
	for i, n := range all {
		out[i] = *n
	}
	return out, nil
}
