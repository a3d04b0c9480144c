package nft

import (
	"errors"
	"fmt"
	"math/bits"

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
	return err == nil && matches(chains, rules[t.Name], want, nil), err
}

// chainsOf returns the chains of a table by name; none if there is no such
// table, or if somebody has put it to sleep.
func chainsOf(c *nftables.Conn, t *nftables.Table) (map[string]*nftables.Chain, error) {
	all, err := chainsByTable(c, t.Family)
	return all[t.Name], err
}

// chainsByTable returns those of all tables of a family.
func chainsByTable(c *nftables.Conn, family nftables.TableFamily) (map[string]map[string]*nftables.Chain, error) {
	tables, err := c.ListTablesOfFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	out := map[string]map[string]*nftables.Chain{}
	for _, t := range tables {
		if !Dormant(t) {
			out[t.Name] = map[string]*nftables.Chain{}
		}
	}
	all, err := c.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	for _, ch := range all {
		if of := out[ch.Table.Name]; of != nil {
			of[ch.Name] = ch
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

// marksOf returns what is kept with the rules of a table, or of all of a family
// if it has no name, by table and chain and in their order: all at once, and
// without what the rules do, which would take longer to read.
func marksOf(t *nftables.Table) (map[string]map[string][][]byte, error) {
	for {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(t.Family), Version: unix.NFNETLINK_V0})
		if t.Name != "" {
			req.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(t.Name)))
		}
		messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		if errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("list the rules of nftables table %s: %w", t.Name, err)
		}
		out := map[string]map[string][][]byte{}
		for _, m := range messages {
			r, err := ruleOf(m)
			if err != nil {
				return nil, fmt.Errorf("list the rules of nftables table %s: %w", t.Name, err)
			}
			if out[r.table] == nil {
				out[r.table] = map[string][][]byte{}
			}
			out[r.table][r.chain] = append(out[r.table][r.chain], r.kept)
		}
		return out, nil
	}
}

// A ruleMark is what is kept with a rule, and where it is.
type ruleMark struct {
	table, chain string
	kept         []byte
}

func ruleOf(message []byte) (r ruleMark, err error) {
	if len(message) < nl.SizeofNfgenmsg {
		return r, errors.New("a message is too short")
	}
	attrs, err := nl.ParseRouteAttr(message[nl.SizeofNfgenmsg:])
	for _, a := range attrs {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.NFTA_RULE_TABLE:
			r.table = nl.BytesToString(a.Value)
		case unix.NFTA_RULE_CHAIN:
			r.chain = nl.BytesToString(a.Value)
		case unix.NFTA_RULE_USERDATA:
			r.kept = a.Value
		}
	}
	return r, err
}
