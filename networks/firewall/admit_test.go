package firewall_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// TestAdmits has hosts with firewalls of many kinds, and asks from where ports
// 80 and 81 can be reached.
func TestAdmits(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft", "iptables")
	for name, tt := range map[string]struct{ rules, want80, want81 string }{
		"none":        {"", "all", "all"},
		"policy":      {"nft add chain inet f in '{ type filter hook input priority 0; policy drop; }'", "none", "none"},
		"forward":     {"nft add chain inet f fw '{ type filter hook forward priority 0; policy drop; }'", "all", "all"},
		"one port":    {strict + "nft add rule inet f in tcp dport 80 accept", "all", "none"},
		"ports":       {strict + "nft add rule inet f in tcp dport '{ 22, 80-81 }' accept", "all", "all"},
		"drop a port": {"nft add chain inet f in '{ type filter hook input priority 0; }'; nft add rule inet f in tcp dport 80 drop", "none", "all"},
		"interface":   {strict + "nft add rule inet f in iifname up0 accept", "up0", "up0"},
		"source": {
			strict + "nft add rule inet f in ip saddr 10.0.0.0/8 tcp dport 80 accept", "up0 10.0.0.0/8 up1 10.0.0.0/8", "none",
		},
		"sources": {
			strict + "nft add rule inet f in ip saddr '{ 10.1.0.0/16, 192.0.2.7 }' drop; nft add rule inet f in ip saddr 10.0.0.0/8 iifname up1 tcp dport 80 accept",
			"up1 10.0.0.0/8 not 192.0.2.7/32 not 10.1.0.0/16", "none",
		},
		"banned": {
			"nft add chain inet f in '{ type filter hook input priority 0; }'; nft add set inet f bad '{ type ipv4_addr; elements = { 192.0.2.66 }; }';" +
				"nft add rule inet f in ip saddr @bad drop",
			"all not 192.0.2.66/32", "all not 192.0.2.66/32",
		},
		"rates":     {"nft add chain inet f in '{ type filter hook input priority 0; }'; nft add rule inet f in limit rate over 10/second drop; nft add rule inet f in 'tcp flags & (fin|syn|rst|ack) != syn ct state new drop'", "all", "all"},
		"unknown":   {"nft add chain inet f in '{ type filter hook input priority 0; }'; nft add rule inet f in tcp sport 1-1023 drop", "none", "none"},
		"two":       {strict + "nft add rule inet f in tcp dport 80 accept; nft add chain inet f in2 '{ type filter hook input priority 5; }'; nft add rule inet f in2 tcp dport 80 reject", "none", "none"},
		"iptables":  {"iptables -P INPUT DROP; iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -N user; iptables -A INPUT -j user; iptables -A user -p tcp --dport 80 -j ACCEPT; iptables -A INPUT -m addrtype --dst-type LOCAL -j RETURN", "all", "none"},
		"as zones":  {strict + "nft add chain inet f public; nft add chain inet f work; nft add rule inet f in iifname vmap '{ up0 : goto work, up1 : goto public }'; nft add rule inet f work tcp dport 80 accept; nft add rule inet f public tcp dport 81 accept", "up0", "up1"},
		"ip6 alone": {"nft add chain inet f in '{ type filter hook input priority 0; }'; nft add rule inet f in meta nfproto ipv6 drop", "all", "all"},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.NetNS(t) // A subtest has a thread of its own, which is not in that of its parent.
			testenv.Run(t, "nft", "add", "table", "inet", "f")
			if tt.rules != "" {
				testenv.Run(t, "sh", "-ec", tt.rules)
			}
			r, err := firewall.Read(nft.Ours)
			if err != nil {
				t.Fatal(err)
			}
			for number, want := range map[uint16]string{80: tt.want80, 81: tt.want81} {
				g, err := r.Admits(firewall.Port{Listen: netip.MustParseAddr("192.0.2.1"), Proto: 6, Number: number}, []string{"up0", "up1"})
				if got := described(g); err != nil || got != want {
					t.Errorf("port %d: got %q of %v, %v, want %q", number, got, g, err, want)
				}
			}
		})
	}
}

const strict = "nft add chain inet f in '{ type filter hook input priority 0; policy drop; }'; nft add rule inet f in iifname lo accept; nft add rule inet f in ct state established,related accept;"

// described tells who may come in, and who of them may not.
func described(g networks.Gate) string {
	if len(g) == 0 {
		return "all"
	}
	var in, out []string
	for _, w := range g {
		var words []string
		if w.In != "" {
			words = append(words, w.In)
		}
		if w.Source.IsValid() {
			words = append(words, w.Source.String())
		}
		if w.Open && len(words) == 0 {
			words = []string{"all"}
		}
		if text := strings.Join(words, " "); w.Open {
			in = append(in, text)
		} else if w.Source.IsValid() && (w.In == "" || w.In == "up1") {
			out = append(out, "not "+w.Source.String())
		}
	}
	if len(in) == 0 {
		return "none"
	}
	return strings.TrimSpace(fmt.Sprint(strings.Join(in, " "), " ", strings.Join(out, " ")))
}
