// Package nft keeps one nftables table for each network. It never touches
// any other table.
package nft

import (
	"fmt"
	"strings"

	"github.com/google/nftables"

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
			c.AddRule(newRule(t, ch.Chain, r))
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

// Intact reports whether the network's table still is what [Apply] made: that
// nobody took rules away, added some or edited one.
func Intact(cfg networks.Config) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	return intact(c, table(cfg.Name), chains(cfg))
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
