package nft

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
)

// A mapping is a map, or a set, of the kernel with its elements.
type mapping struct {
	*nftables.Set

	elements []nftables.SetElement
	known    map[string]bool // The keys that it has.
}

// perMessage is how many elements fit into a message, whose length has 16 bits.
const perMessage = 256

// add adds the map to a transaction.
func (m *mapping) add(c *nftables.Conn, t *nftables.Table) error {
	m.Table = t
	if err := addSet(c, m.Set); err != nil {
		return err
	}
	for some := range slices.Chunk(m.elements, perMessage) {
		if err := c.SetAddElements(m.Set, some); err != nil {
			return err
		}
	}
	return nil
}

// intact reports whether a table has the map with its elements. Who changes
// one changes also how many there are, at least for a moment.
func (m *mapping) intact(c *nftables.Conn, t *nftables.Table) (bool, error) {
	got, err := c.GetSetElements(&nftables.Set{Table: t, Name: m.Name})
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read map %s of nftables table %s: %w", m.Name, t.Name, err)
	}
	return len(got) == len(m.elements), nil
}
