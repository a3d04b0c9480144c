package nft

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/conntrack"
)

// An Elsewhere says which addresses of an overlay are on other hosts, and with
// which addresses of its own this host leads connections there: the guest's
// answer to any other would leave by the gateway of the guest's host.
type Elsewhere struct {
	Network string
	Own     []netip.Addr // One of each family at most.
	Guests  []netip.Addr
}

// ApplyElsewhere keeps the addresses of this host on what it leads to guests
// elsewhere: what was published here, and what the host itself sends. Flows of
// UDP to guests that have moved begin anew, or nobody would get their answers.
func ApplyElsewhere(e Elsewhere) error {
	before, err := elsewhereNow(e.Network)
	if err != nil {
		return err
	}
	if err := replace(elsewhereTable(e.Network), e.contents()); err != nil {
		return err
	}
	return e.endFlows(before)
}

// FollowElsewhere is [ApplyElsewhere] where nobody but us changes the table: it
// does nothing if the table has the addresses already.
func FollowElsewhere(e Elsewhere) error {
	now, err := elsewhereNow(e.Network)
	if err != nil || maps.Equal(now, e.addresses()) {
		return err
	}
	return ApplyElsewhere(e)
}

// elsewhereNow are the addresses that a network's table has.
func elsewhereNow(network string) (map[netip.Addr]bool, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	t := elsewhereTable(network)
	sets, err := setsOf(c, t)
	out := map[netip.Addr]bool{}
	for _, set := range sets {
		got, err := c.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("read set %s of nftables table %s: %w", set.Name, t.Name, err)
		}
		for _, el := range got {
			a, _ := netip.AddrFromSlice(el.Key)
			out[a] = true
		}
	}
	return out, err
}

// addresses are those that the table has: our own are among them, to which
// nothing goes, so that it tells which they are.
func (e Elsewhere) addresses() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, own := range e.Own {
		out[own] = true
		for _, a := range e.Guests {
			if a.Is4() == own.Is4() {
				out[a] = true
			}
		}
	}
	return out
}

// endFlows ends the flows of guests that have come or gone elsewhere since, and
// those from an address of our own that is that no more.
func (e Elsewhere) endFlows(before map[netip.Addr]bool) error {
	now := e.addresses()
	if maps.Equal(before, now) {
		return nil
	}
	own := func(a netip.Addr) bool { return slices.Contains(e.Own, a) }
	var failed error
	for _, six := range []bool{false, true} {
		all, err := conntrack.Flows(conntrack.Filter{Six: six})
		failed = errors.Join(failed, err)
		for _, f := range all {
			guest, from := f.Answerer.Addr(), f.Answered.Addr()
			gone := before[from] && !now[from] || before[guest] && !now[guest] && own(from)
			came := now[guest] && !before[guest] && f.Answerer != f.To && !own(from)
			if gone || came {
				failed = errors.Join(failed, f.End())
			}
		}
	}
	return failed
}

// ElsewhereIntact reports whether there are all the rules that [ApplyElsewhere]
// made for a network. Which addresses are elsewhere does not matter.
func ElsewhereIntact(network string, own []netip.Addr) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	return intact(c, elsewhereTable(network), Elsewhere{Network: network, Own: own}.contents().chains)
}

// RemoveElsewhere takes away what [ApplyElsewhere] made. It succeeds if there
// is nothing.
func RemoveElsewhere(network string) error { return removeTable(elsewhereTable(network)) }

func elsewhereTable(network string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "cuib-overlay_" + network}
}

// contents are those of the table. There is nobody elsewhere in a family in which
// the host has no address of its own.
func (e Elsewhere) contents() contents {
	var in contents
	var rules []rule
	for _, own := range e.Own {
		f := familyOf(own)
		name := fmt.Sprintf("elsewhere_v%d", f.version)
		m := &mapping{Set: &nftables.Set{Name: name, KeyType: f.addressType}}
		for a := range e.addresses() {
			if a.Is4() == own.Is4() {
				m.elements = append(m.elements, nftables.SetElement{Key: a.AsSlice()})
			}
		}
		in.maps = append(in.maps, m)
		there := join(iface(expr.MetaKeyOIFNAME, e.Network), family(f.number), rule{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.destination, Len: f.length},
			&expr.Lookup{SourceRegister: 1, SetName: name},
		})
		rules = append(rules, join(there, translated(), leaveWith(own)), join(there, fromHost(), leaveWith(own)))
	}
	// Before all else that would give it another source, such as [publishedBack].
	first := *nftables.ChainPriorityNATSource - 2
	in.chains = []chain{newChain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, &first, rules)}
	return in
}

// translated matches what was led to another destination than it had.
func translated() rule {
	const dnat = 1 << 5 // IPS_DST_NAT
	return rule{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(dnat), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// fromHost matches what has a source of the host's own.
func fromHost() rule {
	return rule{
		&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.RTN_LOCAL, 0, 0, 0}},
	}
}
