package nft

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// buckets is how many tables the ports of instances are in. The kernel looks at all
// rules of a table when one changes, and nft (up to 1.0.6) reads all rules of a
// family for each table that it lists.
const buckets = 8

// bucketOf returns which of the tables a port is in.
func bucketOf(link string) int {
	sum := sha256.Sum256([]byte(link))
	return int(sum[0]) % buckets
}

// bucket is one of the tables with a name.
func bucket(name string, n int) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: fmt.Sprintf("%s_%d", name, n)}
}

// sweep takes those of the tables with a name away that nothing needs, and the
// one that former daemons had for all ports together.
func sweep(name string, needed func(n int) bool) error {
	keep := map[string]bool{}
	for n := range buckets {
		keep[bucket(name, n).Name] = needed(n)
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	all, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("list nftables tables: %w", err)
	}
	for _, t := range all {
		if (t.Name == name || strings.HasPrefix(t.Name, name+"_")) && !keep[t.Name] {
			if err := deleteTable(&nftables.Table{Family: t.Family, Name: t.Name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// A netdevNow is what the kernel has of the family of tables that the ports are in:
// those that are awake, by their names and those of chains, what is kept with the
// rules, in their order, and the interfaces.
type netdevNow struct {
	chains map[string]map[string]*nftables.Chain
	rules  map[string]map[string][][]byte
	links  map[string]bool
}

func look() (now netdevNow, err error) {
	const family = nftables.TableFamilyNetdev
	c, err := nftables.New()
	if err != nil {
		return now, fmt.Errorf("open nftables: %w", err)
	}
	if now.chains, err = chainsByTable(c, family); err != nil {
		return now, err
	}
	if now.rules, err = marksOf(&nftables.Table{Family: family}); err != nil {
		return now, err
	}
	links, err := net.Interfaces()
	if err != nil {
		return now, fmt.Errorf("list network interfaces: %w", err)
	}
	now.links = map[string]bool{}
	for _, l := range links {
		now.links[l.Name] = true
	}
	return now, nil
}

// A ward guards what is known of tables, and tells whether it has changed.
type ward struct {
	sync.Mutex

	changes int
}

// looksAside is how often somebody looks without keeping others waiting, who
// change something meanwhile.
const looksAside = 3

// look reads what the kernel has, which takes as long as a hundred changes beside
// a thousand ports. Others can change it meanwhile, but not before it returns.
func (w *ward) look() (netdevNow, error) {
	for range looksAside {
		before := w.changes
		w.Unlock()
		now, err := look()
		w.Lock()
		if err != nil || before == w.changes {
			return now, err
		}
	}
	return look()
}

// matches tells whether a table has the chains that are wanted with their rules,
// and no others but those that may be there or not.
func (f netdevNow) matches(t *nftables.Table, want []chain, maybe map[string]bool) bool {
	return matches(f.chains[t.Name], f.rules[t.Name], want, maybe)
}

// matches is the same of one table.
func matches(chains map[string]*nftables.Chain, rules map[string][][]byte, want []chain, maybe map[string]bool) bool {
	left := len(want)
	for name := range chains {
		if !maybe[name] {
			left--
		}
	}
	return left == 0 && !slices.ContainsFunc(want, func(ch chain) bool {
		got, ok := chains[ch.Name]
		return !ok || !same(got, ch.Chain) || !slices.EqualFunc(rules[ch.Name], ch.marks(), bytes.Equal)
	})
}

// removeChains takes those away that are there: the kernel can have taken them
// with an interface. Those that call others come first.
func (x *transaction) removeChains(t *nftables.Table, names ...string) error {
	for _, name := range names {
		there, err := hasChain(t, name)
		if err != nil {
			return err
		}
		if there {
			ch := &nftables.Chain{Table: t, Name: name}
			x.FlushChain(ch)
			x.DelChain(ch)
		}
	}
	return nil
}

func hasChain(t *nftables.Table, name string) (bool, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(t.Family), Version: unix.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated(t.Name)))
	req.AddData(nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(name)))
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at chain %s of nftables table %s: %w", name, t.Name, err)
	}
	return true, nil
}

// isHere tells whether the host has an interface.
func isHere(link string) bool {
	_, err := netlink.LinkByName(link)
	return err == nil
}
