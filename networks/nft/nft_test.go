package nft_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

func config() networks.Config {
	f := networks.Family{NAT: true, Routing: true, Firewall: true}
	cfg := networks.Config{Name: "br-0.a", IPv4: f, IPv6: f}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/24")
	cfg.IPv6.Address = netip.MustParsePrefix("fd42::1/64")
	return cfg
}

func TestApply(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	testenv.Run(t, "nft", "add table inet cuib_other { chain c { type filter hook forward priority 0; policy drop; }; }")
	before := testenv.Run(t, "nft", "list", "ruleset")

	cfg := config()
	tests := []struct {
		name   string
		change func()
		want   string
	}{
		{"all", func() {}, `table inet cuib_br-0.a {
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "br-0.a" meta nfproto ipv4 udp dport 67 accept
		iifname "br-0.a" meta nfproto ipv4 udp dport 53 accept
		iifname "br-0.a" meta nfproto ipv4 tcp dport 53 accept
		iifname "br-0.a" meta l4proto 1 accept
		iifname "br-0.a" meta nfproto ipv6 udp dport 547 accept
		iifname "br-0.a" meta nfproto ipv6 udp dport 53 accept
		iifname "br-0.a" meta nfproto ipv6 tcp dport 53 accept
		iifname "br-0.a" meta l4proto 58 accept
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "br-0.a" meta nfproto ipv4 accept
		oifname "br-0.a" meta nfproto ipv4 accept
		iifname "br-0.a" meta nfproto ipv6 accept
		oifname "br-0.a" meta nfproto ipv6 accept
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "br-0.a" ip saddr 10.7.8.0/24 ip daddr != 10.7.8.0/24 masquerade
		oifname != "br-0.a" ip6 saddr fd42::/64 ip6 daddr != fd42::/64 masquerade
	}
}`},
		{"again", func() {}, ""},
		{"isolated", func() {
			cfg.IPv4 = networks.Family{Address: cfg.IPv4.Address}
			cfg.IPv6 = networks.Family{NAT: true, Firewall: true}
		}, `table inet cuib_br-0.a {
	chain input {
		type filter hook input priority filter; policy accept;
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "br-0.a" meta nfproto ipv4 oifname != "br-0.a" drop
		oifname "br-0.a" meta nfproto ipv4 iifname != "br-0.a" drop
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
	}
}`},
	}
	last := ""
	for _, tt := range tests {
		tt.change()
		if err := nft.Apply(cfg); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if tt.want == "" {
			tt.want = last
		}
		last = tt.want
		if got := testenv.Run(t, "nft", "--numeric-protocol", "list", "table", "inet", "cuib_br-0.a"); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	for range 2 {
		if err := nft.Remove(cfg.Name); err != nil {
			t.Fatal(err)
		}
	}
	if after := testenv.Run(t, "nft", "list", "ruleset"); after != before {
		t.Errorf("other tables changed: got\n%s\nwant\n%s", after, before)
	}
}

func TestIntact(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	cfg := config()
	check := func(what string, want bool) {
		t.Helper()
		got, err := nft.Intact(cfg)
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
		}
	}
	check("before", false)
	if err := nft.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	first := handle(t, "input", "67")
	for _, cmd := range []string{
		"nft flush ruleset",
		"nft delete table inet cuib_br-0.a",
		"nft flush chain inet cuib_br-0.a forward",
		"nft flush table inet cuib_br-0.a",
		"nft insert rule inet cuib_br-0.a forward drop",
		"nft 'add table inet cuib_br-0.a { flags dormant; }'",
		"nft 'add chain inet cuib_br-0.a forward { policy drop; }'",
		"nft add chain inet cuib_br-0.a other",
		"nft replace rule inet cuib_br-0.a input handle " + first + " drop",
		// One goes and another comes: there are as many as before.
		"nft delete rule inet cuib_br-0.a input handle " + first + "; nft insert rule inet cuib_br-0.a input drop",
	} {
		if err := nft.Apply(cfg); err != nil {
			t.Fatal(err)
		}
		check("applied", true)
		testenv.Run(t, "sh", "-ec", cmd)
		check(cmd, false)
	}
	isolated := cfg
	isolated.IPv4, isolated.IPv6 = networks.Family{}, networks.Family{}
	cfg = isolated
	check("the chains of another configuration", false)
}

// handle returns the handle of the rule in a chain that has a word.
func handle(t *testing.T, chain, word string) string {
	t.Helper()
	list := testenv.Run(t, "nft", "-a", "list", "chain", "inet", "cuib_br-0.a", chain)
	for line := range strings.Lines(list) {
		if rule, number, ok := strings.Cut(line, "# handle "); ok && strings.Contains(rule, word) {
			return strings.TrimSpace(number)
		}
	}
	t.Fatalf("no rule with %s: %s", word, list)
	return ""
}
