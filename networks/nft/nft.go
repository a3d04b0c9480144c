// Package nft keeps one nftables table for each network. It never touches
// any other table.
package nft

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
)

// Apply makes the network's table be as cfg says, in one transaction: no
// packet sees a part of it, and nothing changes if it fails.
func Apply(cfg networks.Config) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := table(cfg.Name)
	// Adding first lets the deletion succeed if there is no table yet.
	c.AddTable(t)
	c.DelTable(t)
	c.AddTable(t)
	for _, ch := range chains(cfg) {
		ch.Table = t
		c.AddChain(ch.Chain)
		for _, r := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: ch.Chain, Exprs: r})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("replace nftables table %s: %w", t.Name, err)
	}
	return nil
}

// Remove takes the network's table away. It succeeds if there is none.
func Remove(network string) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := table(network)
	c.AddTable(t)
	c.DelTable(t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("delete nftables table %s: %w", t.Name, err)
	}
	return nil
}

// Intact reports whether the network's table still has all that [Apply] put
// into it.
func Intact(cfg networks.Config) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	t := table(cfg.Name)
	for _, ch := range chains(cfg) {
		ch.Table = t
		got, err := c.GetRules(t, ch.Chain)
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("list nftables table %s: %w", t.Name, err)
		}
		if len(got) != len(ch.rules) {
			return false, nil
		}
	}
	return exists(c, t, len(chains(cfg)))
}

// exists reports whether the table has a number of chains: a chain that is
// gone looks to GetRules like one without rules.
func exists(c *nftables.Conn, t *nftables.Table, want int) (bool, error) {
	all, err := c.ListChainsOfTableFamily(t.Family)
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	n := 0
	for _, ch := range all {
		if ch.Table.Name == t.Name {
			n++
		}
	}
	return n == want, nil
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
