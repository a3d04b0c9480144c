package nft

import (
	"testing"

	"github.com/google/nftables"

	"github.com/cuib/cuib/shared/testenv"
)

// TestMissingMap looks for a map in a table that is replaced meanwhile, or gone:
// that is no error.
func TestMissingMap(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	testenv.Run(t, "nft", "add", "table", "inet", "cuib_here")
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"here", "gone"} {
		m := &mapping{Set: &nftables.Set{Name: "ports"}}
		if ok, err := m.intact(c, table(name)); ok || err != nil {
			t.Errorf("table %s: got %t, %v", name, ok, err)
		}
	}
}
