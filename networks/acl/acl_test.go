package acl_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cuib/cuib/networks/acl"
)

func prefixes(all ...string) []acl.Range {
	var out []acl.Range
	for _, p := range all {
		out = append(out, acl.OfPrefix(netip.MustParsePrefix(p)))
	}
	return out
}

func TestMerge(t *testing.T) {
	some := prefixes("10.0.1.0/24", "10.0.0.0/24", "10.0.0.7/32", "192.0.2.0/25", "fd42::/64", "0.0.0.0/32", "255.255.255.255/32")
	if got, want := fmt.Sprint(acl.Merge(some, false)), "[{0.0.0.0 0.0.0.0} {10.0.0.0 10.0.1.255} {192.0.2.0 192.0.2.127} {255.255.255.255 255.255.255.255}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(acl.Merge(some, true)), "[{fd42:: fd42::ffff:ffff:ffff:ffff}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestOutside(t *testing.T) {
	for _, tt := range []struct {
		in   []acl.Range
		want string
	}{
		{prefixes("0.0.0.0/0", "::/0"), "[]"},
		{prefixes("10.0.0.0/8", "::/0"), "[{0.0.0.0 9.255.255.255} {11.0.0.0 255.255.255.255}]"},
		{prefixes("128.0.0.0/1", "0.0.0.0/8", "8000::/1"), "[{1.0.0.0 127.255.255.255} {:: 7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff}]"},
	} {
		if got := fmt.Sprint(acl.Outside(tt.in)); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestSort(t *testing.T) {
	rules := []acl.Rule{{Action: acl.Allow}, {Action: acl.Drop, Index: 1}, {Action: acl.AllowStateless}, {Action: acl.Reject}, {Action: acl.Drop, Index: 2}}
	acl.Sort(rules)
	got := ""
	for _, r := range rules {
		got += fmt.Sprint(r.Action, r.Index, " ")
	}
	if want := "drop1 drop2 reject0 allow-stateless0 allow0 "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
