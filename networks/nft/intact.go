package nft

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// intact reports whether a table has the chains that are wanted with their
// rules, and no others.
func intact(c *nftables.Conn, t *nftables.Table, want []chain) (bool, error) {
	chains, err := chainsOf(c, t)
	if err != nil || len(chains) != len(want) {
		return false, err
	}
	rules, err := marksOf(t)
	if err != nil {
		return false, err
	}
	for _, ch := range want {
		got, ok := chains[ch.Name]
		if !ok || !same(got, ch.Chain) || !slices.EqualFunc(rules[ch.Name], ch.marks(), bytes.Equal) {
			return false, nil
		}
	}
	return true, nil
}

// chainsOf returns the chains of a table by name; none if there is no such
// table, or if somebody has put it to sleep.
func chainsOf(c *nftables.Conn, t *nftables.Table) (map[string]*nftables.Chain, error) {
	tables, err := c.ListTablesOfFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	awake := func(got *nftables.Table) bool { return got.Name == t.Name && !Dormant(got) }
	out := map[string]*nftables.Chain{}
	if !slices.ContainsFunc(tables, awake) {
		return out, nil
	}
	all, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	for _, ch := range all {
		if ch.Table.Name == t.Name {
			out[ch.Name] = ch
		}
	}
	return out, nil
}

// Dormant tells whether the kernel calls no chain of a table. The library reads
// the flags, of which there are three, in the order of the host's bytes; the
// kernel sends the other.
func Dormant(t *nftables.Table) bool {
	return (t.Flags|bits.ReverseBytes32(t.Flags))&unix.NFT_TABLE_F_DORMANT != 0
}

// marksOf returns what is kept with the rules of a table, by chain and in their
// order: all at once, and without what the rules do, which would take longer to
// read.
func marksOf(t *nftables.Table) (map[string][][]byte, error) {
	for {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(t.Family), Version: unix.NFNETLINK_V0})
		req.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(t.Name)))
		messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		if errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("list the rules of nftables table %s: %w", t.Name, err)
		}
		out := map[string][][]byte{}
		for _, m := range messages {
			name, kept, err := ruleOf(m)
			if err != nil {
				return nil, fmt.Errorf("list the rules of nftables table %s: %w", t.Name, err)
			}
			out[name] = append(out[name], kept)
		}
		return out, nil
	}
}

// ruleOf reads the chain of a rule, and what is kept with it, from a message.
func ruleOf(message []byte) (chain string, kept []byte, err error) {
	if len(message) < nl.SizeofNfgenmsg {
		return "", nil, errors.New("a message is too short")
	}
	attrs, err := nl.ParseRouteAttr(message[nl.SizeofNfgenmsg:])
	for _, a := range attrs {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.NFTA_RULE_CHAIN:
			chain = nl.BytesToString(a.Value)
		case unix.NFTA_RULE_USERDATA:
			kept = a.Value
		}
	}
	return chain, kept, err
}
