// Package nft keeps one nftables table for each network. It never touches
// any other table.
package nft

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/crash"
)

// Apply makes the network's table be as cfg says, in one transaction: no
// packet sees a part of it, and nothing changes if it fails.
func Apply(cfg networks.Config) error {
	return replace(table(cfg.Name), contentsOf(cfg))
}

// contents are what is in a table.
type contents struct {
	maps   []*mapping
	sets   []set
	chains []chain
}

// contentsOf returns what cfg asks for.
func contentsOf(cfg networks.Config) contents {
	maps, more := published(cfg.Published, behind(cfg))
	sets, acls := aclContents(cfg)
	return contents{maps: maps, sets: sets, chains: slices.Concat(chains(cfg), more, acls)}
}

// replace has a table have some contents, and nothing else.
func replace(t *nftables.Table, in contents) error {
	c, err := begin()
	if err != nil {
		return err
	}
	before, err := shelfNow(t)
	if err != nil {
		return err
	}
	// Adding first lets the deletion succeed if there is no table yet.
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	// Maps lead to chains, and rules look into maps.
	for _, ch := range in.chains {
		ch.Table = t
		c.AddChain(ch.Chain)
	}
	for _, m := range in.maps {
		if err := m.add(c.Conn, t); err != nil {
			return fmt.Errorf("make nftables table %s: map %s: %w", t.Name, m.Name, err)
		}
	}
	for _, s := range in.sets {
		if err := s.add(c.Conn, t); err != nil {
			return fmt.Errorf("make nftables table %s: set %s: %w", t.Name, s.Name, err)
		}
	}
	for _, ch := range in.chains {
		for _, r := range ch.rules {
			c.addRule(ch.Chain, r)
		}
	}
	crash.Point("before the rules of", t.Name)
	defer crash.Point("after the rules of", t.Name)
	if err := c.commit(); err != nil {
		return fmt.Errorf("replace nftables table %s: %w", t.Name, err)
	}
	return endFlows(before.datagrams(), in.shelved().datagrams())
}

// numbering guards the number of the last set, which the library has one of for
// all connections.
var numbering sync.Mutex

// addSet adds a set without elements to a transaction.
func addSet(c *nftables.Conn, s *nftables.Set) error {
	numbering.Lock()
	defer numbering.Unlock()
	return c.AddSet(s, nil)
}

// Remove takes the network's table away. It succeeds if there is none.
func Remove(network string) error { return removeTable(table(network)) }

func removeTable(t *nftables.Table) error {
	before, err := shelfNow(t)
	if err != nil {
		return err
	}
	if err := deleteTable(t); err != nil {
		return err
	}
	crash.Point("after the deletion of the rules of", t.Name)
	return endFlows(before.datagrams(), nil)
}

// deleteTable is the same for a table that leads nothing elsewhere.
func deleteTable(t *nftables.Table) error {
	c, err := begin()
	if err != nil {
		return err
	}
	c.AddTable(t)
	c.DelTable(t)
	if err := c.commit(); err != nil {
		return fmt.Errorf("delete nftables table %s: %w", t.Name, err)
	}
	return nil
}

func shelfNow(t *nftables.Table) (shelf, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return shelfOf(c, t)
}

// Intact reports whether the network's table still is what [Apply] made: that
// nobody took rules away, added some or edited one.
func Intact(cfg networks.Config) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	return holds(c, table(cfg.Name), contentsOf(cfg))
}

// holds reports whether a table has some contents, and nothing else.
func holds(c *nftables.Conn, t *nftables.Table, in contents) (bool, error) {
	ok, err := intact(c, t, in.chains)
	for _, m := range in.maps {
		if !ok || err != nil {
			return false, err
		}
		ok, err = m.intact(c, t)
	}
	return ok, err
}

// Ours tells whether a table has a name that only ours have: those of networks,
// and of the ports and proxies of instances.
func Ours(table string) bool {
	return strings.HasPrefix(table, "cuib_") || strings.HasPrefix(table, "cuib-")
}

// table returns the network's table.
func table(network string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "cuib_" + network}
}
