package nft_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// TestPortsRestore edits the rules of ports, which come back.
func TestPortsRestore(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	s := nft.NewPorts("/one")
	for _, p := range []nft.Port{{Link: "veth1", Bridged: true, OnlyIPv4: true}, {Link: "veth2", Bridged: true, Priority: 5, Through: "ifb1"}} {
		testenv.Run(t, "ip", "link", "add", p.Link, "type", "bridge")
		if p.Through != "" {
			testenv.Run(t, "ip", "link", "add", p.Through, "type", "ifb")
		}
		if err := s.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	want := ruleset(t)
	one, filter := placeOf(t, want, "filter_veth1")
	two, through := placeOf(t, want, "through_veth2")
	for _, cmd := range []string{
		"flush ruleset",
		"delete table netdev " + one,
		"add table netdev " + one + " { flags dormant; }",
		"flush chain netdev " + one + " " + filter,
		"insert rule netdev " + one + " " + filter + " accept",
		"add chain netdev " + one + " other",
		"flush chain netdev " + two + " " + through,
	} {
		if missing, err := s.Restore(); err != nil || missing {
			t.Errorf("whole: got %t, %v", missing, err)
		}
		testenv.Run(t, "nft", cmd)
		if missing, err := s.Restore(); err != nil || !missing {
			t.Errorf("%s: got %t, %v", cmd, missing, err)
		}
		if got := ruleset(t); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", cmd, got, want)
		}
	}
}

// placeOf returns the table of a chain, and the whole name of it.
func placeOf(t *testing.T, rules, chain string) (table, name string) {
	t.Helper()
	for part := range strings.SplitSeq(rules, "table netdev ") {
		if _, rest, ok := strings.Cut(part, "chain "+chain); ok {
			return strings.Fields(part)[0], chain + strings.Fields(rest)[0]
		}
	}
	t.Fatalf("there is no chain %s:\n%s", chain, rules)
	return "", ""
}

// ruleset is what the kernel has, in the order of names.
func ruleset(t *testing.T) string {
	t.Helper()
	tables := strings.Split(testenv.Run(t, "nft", "list", "ruleset")+"\n", "table ")
	slices.Sort(tables)
	return strings.Join(tables, "table ")
}

// TestPortsTake has a daemon take over what a former one left.
func TestPortsTake(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft", "tc")
	one, two := nft.Port{Link: "veth1", Bridged: true, OnlyIPv4: true, Through: "ifb1"}, nft.Port{Link: "veth2", OnlyIPv6: true}
	for _, link := range []string{"veth1", "veth2"} {
		testenv.Run(t, "ip", "link", "add", link, "type", "bridge")
	}
	testenv.Run(t, "ip", "link", "add", "ifb1", "type", "ifb")
	if err := nft.NewPorts("/one").Set(one); err != nil {
		t.Fatal(err)
	}
	table, _ := placeOf(t, testenv.Run(t, "nft", "list", "ruleset"), "filter_veth1")
	suffix := strings.Split(table, "_")[1]
	if err := errors.Join(nft.NewPorts("/one").Set(two), nft.NewPorts("/two").Set(one), nft.NewPorts("/two").Set(two)); err != nil {
		t.Fatal(err)
	}
	for _, family := range []string{"bridge", "inet"} {
		testenv.Run(t, "nft", "add table "+family+" cuib-nics_"+suffix+"; add table "+family+" cuib-nics_other")
	}
	testenv.Run(t, "tc", "qdisc", "add", "dev", "veth1", "handle", "ffff:", "ingress")
	testenv.Run(t, "tc", "filter", "add", "dev", "veth1", "parent", "ffff:", "protocol", "all", "prio", "1", "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev", "ifb1")
	one.OnlyIPv6 = true
	if err := nft.NewPorts("/one").Take([]nft.Port{one, {Link: "veth3", OnlyIPv4: true}}); err != nil {
		t.Fatal(err)
	}
	got := testenv.Run(t, "nft", "list", "ruleset")
	for text, want := range map[string]int{
		"chain filter_veth1_": 2, "chain filter_veth2_": 1, "chain filter_veth3_": 0, "fwd to": 2, "cuib-nics_" + suffix + " ": 0, "cuib-nics_other": 2,
	} {
		if many := strings.Count(got, text); many != want {
			t.Errorf("%q is there %d times, want %d:\n%s", text, many, want, got)
		}
	}
	if got := testenv.Run(t, "tc", "qdisc", "show", "dev", "veth1"); strings.Contains(got, "ingress") {
		t.Errorf("the former limit is there: %s", got)
	}
}

// TestPortsRestoreMeanwhile changes ports while somebody looks whether all is
// there, who takes nothing for missing.
func TestPortsRestoreMeanwhile(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft", "ip")
	s := nft.NewPorts("/one")
	const ports = 30
	link := func(i int) string { return "port" + strconv.Itoa(i) }
	for i := range ports {
		testenv.Run(t, "ip", "link", "add", link(i), "type", "bridge")
	}
	here, changed, looked := networkstest.Here(t), make(chan struct{}), make(chan error, 1)
	go func() {
		looked <- here.Do(func() error {
			for {
				if missing, err := s.Restore(); err != nil || missing {
					return fmt.Errorf("missing: %t, %w", missing, err)
				}
				select {
				case <-changed:
					return nil
				default:
				}
			}
		})
	}()
	for i := range 4 * ports {
		p := nft.Port{Link: link(i % ports), Bridged: true, OnlyIPv4: true, Priority: uint32(1 + i/ports)}
		err := s.Set(p)
		if i%3 == 0 {
			err = errors.Join(err, s.Unset(p.Link))
		}
		if err != nil {
			t.Error(err)
		}
	}
	close(changed)
	if err := <-looked; err != nil {
		t.Error(err)
	}
}
