package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
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
// elsewhere: what was published here, and what the host itself sends.
func ApplyElsewhere(e Elsewhere) error {
	return replace(elsewhereTable(e.Network), e.contents())
}

// FollowElsewhere is [ApplyElsewhere] where nobody but us changes the table: it
// does nothing if the table has the addresses already.
func FollowElsewhere(e Elsewhere) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	in := e.contents()
	for _, m := range in.maps {
		got, err := c.GetSetElements(&nftables.Set{Table: elsewhereTable(e.Network), Name: m.Name})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("read set %s of nftables table %s: %w", m.Name, elsewhereTable(e.Network).Name, err)
		}
		if err != nil || !m.same(got) {
			return ApplyElsewhere(e)
		}
	}
	return nil
}

// same tells whether elements are those of a set.
func (m *mapping) same(got []nftables.SetElement) bool {
	for _, el := range got {
		if !m.known[string(el.Key)] {
			return false
		}
	}
	return len(got) == len(m.known)
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
		m := &mapping{Set: &nftables.Set{Name: name, KeyType: f.addressType}, known: map[string]bool{}}
		// Our own is in it, too, to which nothing goes: so the set tells which it is.
		for _, a := range append([]netip.Addr{own}, e.Guests...) {
			key := a.AsSlice()
			if a.Is4() != own.Is4() || m.known[string(key)] {
				continue
			}
			m.known[string(key)] = true
			m.elements = append(m.elements, nftables.SetElement{Key: key})
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
