package nft_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// TestPortsRestore edits the rules of ports, which come back.
func TestPortsRestore(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	s := nft.NewPorts("/one")
	for _, p := range []nft.Port{{Link: "veth1", Bridged: true, OnlyIPv4: true}, {Link: "veth2", Bridged: true, Priority: 5}} {
		if err := s.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	want := testenv.Run(t, "nft", "list", "ruleset")
	table, chain := word(want, "table bridge "), word(want, "chain port_veth1")
	for _, cmd := range []string{
		"flush ruleset",
		"delete element bridge " + table + " ports { veth1 }",
		"delete element bridge " + table + " ports { veth1 }; add element bridge " + table + " ports { veth1 : accept }",
		"flush chain bridge " + table + " port_veth1" + chain,
		"insert rule bridge " + table + " port_veth1" + chain + " accept",
		"insert rule bridge " + table + " prerouting accept",
	} {
		if missing, err := s.Restore(); err != nil || missing {
			t.Errorf("whole: got %t, %v", missing, err)
		}
		testenv.Run(t, "nft", cmd)
		if missing, err := s.Restore(); err != nil || !missing {
			t.Errorf("%s: got %t, %v", cmd, missing, err)
		}
		if got := testenv.Run(t, "nft", "list", "ruleset"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", cmd, got, want)
		}
	}
}

// word returns what follows a text, up to the next space.
func word(text, behind string) string {
	_, rest, _ := strings.Cut(text, behind)
	return strings.Fields(rest)[0]
}
