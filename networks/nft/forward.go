package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A Forward sends what comes for ports of the host on to an address behind a
// bridge of it.
type Forward struct {
	UDP    bool         // Else TCP.
	Listen netip.Addr   // An unspecified one is any of the host's of that family, but for the loopback.
	Target netip.Addr   // Of the same family.
	Subnet netip.Prefix // Those who reach the target without the host.
	Ports  []PortPair
}

// A PortPair is a port of the host, and the one of the target.
type PortPair struct{ From, To uint16 }

// Forwards are the tables of one daemon, which has one for each owner of
// forwards. Tables of networks and of other daemons are never touched.
type Forwards struct{ prefix, suffix string }

// NewForwards returns the tables of the daemon with a state directory.
func NewForwards(dir string) Forwards {
	sum := sha256.Sum256([]byte(dir))
	return Forwards{"cuib-proxy_", "_" + hex.EncodeToString(sum[:4])}
}

// Apply makes an owner's forwards be those of a list, in one transaction.
// Connections that are open go on.
func (f Forwards) Apply(owner string, list []Forward) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := f.table(owner)
	c.AddTable(t)
	c.DelTable(t)
	if len(list) > 0 {
		c.AddTable(t)
		if err := addForwards(c, t, list); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("replace nftables table %s: %w", t.Name, err)
	}
	return nil
}

// Intact reports whether an owner's table still is what Apply made.
func (f Forwards) Intact(owner string, list []Forward) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	t := f.table(owner)
	var want []chain
	for _, ch := range forwardChains() {
		rules, err := ch.rules(c, t, list)
		if err != nil {
			return false, err
		}
		want = append(want, chain{ch.Chain, rules})
	}
	return intact(c, t, want)
}

// Owners returns those who have forwards.
func (f Forwards) Owners() ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	var out []string
	for _, t := range tables {
		rest, ok := strings.CutPrefix(t.Name, f.prefix)
		owner, ours := strings.CutSuffix(rest, f.suffix)
		if ok && ours {
			out = append(out, owner)
		}
	}
	return out, nil
}

func (f Forwards) table(owner string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: f.prefix + owner + f.suffix}
}

// A forwardChain is a base chain with what makes a rule of a forward.
type forwardChain struct {
	*nftables.Chain

	rule func(c *nftables.Conn, t *nftables.Table, f Forward) (rule, error)
}

func forwardChains() []forwardChain {
	nat := func(name string, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return newChain(name, nftables.ChainTypeNAT, hook, prio, nil).Chain
	}
	return []forwardChain{
		// What comes from elsewhere, what comes from the host itself, and
		// what would be answered past the host, as both ends are on one
		// bridge.
		{nat("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest), destination},
		{nat("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest), destination},
		{nat("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource), hairpin},
	}
}

func addForwards(c *nftables.Conn, t *nftables.Table, list []Forward) error {
	for _, ch := range forwardChains() {
		ch.Table = t
		c.AddChain(ch.Chain)
		rules, err := ch.rules(c, t, list)
		if err != nil {
			return err
		}
		for _, r := range rules {
			c.AddRule(newRule(t, ch.Chain, r))
		}
	}
	return nil
}

// rules are those of a list of forwards. Their sets are added on the way.
func (ch forwardChain) rules(c *nftables.Conn, t *nftables.Table, list []Forward) ([]rule, error) {
	var out []rule
	for _, f := range list {
		r, err := ch.rule(c, t, f)
		if err != nil {
			return nil, fmt.Errorf("make nftables table %s: %w", t.Name, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// destination has what comes for the forward's ports go to its target.
func destination(c *nftables.Conn, t *nftables.Table, f Forward) (rule, error) {
	ports := &nftables.Set{
		Table: t, Anonymous: true, Constant: true, IsMap: true,
		KeyType: nftables.TypeInetService, DataType: nftables.TypeInetService,
	}
	elements := make([]nftables.SetElement, len(f.Ports))
	for i, p := range f.Ports {
		elements[i] = nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(p.From), Val: binaryutil.BigEndian.PutUint16(p.To)}
	}
	if err := c.AddSet(ports, elements); err != nil {
		return nil, err
	}
	return join(
		family(f.family()), proto(f.protocol()), f.listens(),
		rule{
			&expr.Payload{DestRegister: 2, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: 2, DestRegister: 2, IsDestRegSet: true, SetName: ports.Name, SetID: ports.ID},
			&expr.Immediate{Register: 1, Data: f.Target.AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.family()), RegAddrMin: 1, RegProtoMin: 2},
		},
	), nil
}

// listens matches the addresses that the forward is for.
func (f Forward) listens() rule {
	bits := f.Target.BitLen()
	offset := uint32(16)
	if f.Target.Is6() {
		offset = 24
	}
	if !f.Listen.IsUnspecified() {
		return address(offset, netip.PrefixFrom(f.Listen, bits), expr.CmpOpEq)
	}
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if f.Target.Is6() {
		loopback = netip.MustParsePrefix("::1/128")
	}
	return join(
		rule{
			&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
		},
		address(offset, loopback, expr.CmpOpNeq),
	)
}

// hairpin gives what was forwarded from the target's own subnet the host's
// address, so that answers come back by way of the host.
func hairpin(_ *nftables.Conn, _ *nftables.Table, f Forward) (rule, error) {
	src, dst := uint32(12), uint32(16)
	if f.Target.Is6() {
		src, dst = 8, 24
	}
	const dnat = 1 << 5 // IPS_DST_NAT
	return join(
		family(f.family()), proto(f.protocol()),
		address(src, f.Subnet.Masked(), expr.CmpOpEq), address(dst, netip.PrefixFrom(f.Target, f.Target.BitLen()), expr.CmpOpEq),
		rule{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(dnat), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			&expr.Masq{},
		},
	), nil
}

func (f Forward) family() byte {
	if f.Target.Is6() {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func (f Forward) protocol() byte {
	if f.UDP {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}
