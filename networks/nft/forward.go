package nft

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/nftables"

	"github.com/cuib/cuib/networks"
)

// Forwards are the tables of one daemon, which has one for each owner of
// forwards. Tables of networks and of other daemons are never touched.
type Forwards struct{ prefix, suffix string }

// NewForwards returns the tables of the daemon with a state directory.
func NewForwards(dir string) Forwards {
	sum := sha256.Sum256([]byte(dir))
	return Forwards{"cuib-proxy_", "_" + hex.EncodeToString(sum[:4])}
}

// Apply makes what is published of an owner be a list, in one transaction.
// Connections that are open go on.
func (f Forwards) Apply(owner string, list []networks.Published, near Near) error {
	t := f.table(owner)
	if len(list) == 0 {
		return removeTable(t)
	}
	return replace(t, forwarded(list, near))
}

func forwarded(list []networks.Published, near Near) contents {
	maps, chains := published(list, near)
	return contents{maps: maps, chains: chains}
}

// Intact reports whether an owner's table still is what Apply made.
func (f Forwards) Intact(owner string, list []networks.Published, near Near) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open nftables: %w", err)
	}
	return holds(c, f.table(owner), forwarded(list, near))
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

// Table is the name of an owner's table.
func (f Forwards) Table(owner string) string { return f.prefix + owner + f.suffix }

func (f Forwards) table(owner string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: f.Table(owner)}
}
