package firewall_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/testenv"
)

// TestLegacy has rules of iptables-legacy, which are read as those of nftables
// are.
func TestLegacy(t *testing.T) {
	tests := map[string]struct {
		commands []string // Of iptables-legacy.
		want     string   // "packet: chain: rule".
	}{
		"addresses": {
			[]string{"-A FORWARD -s 10.7.8.0/24 ! -d 192.0.2.0/24 -j ACCEPT", "-A FORWARD -s 10.7.0.0/16 -o eth+ -j DROP"}, "",
		},
		"other addresses": {
			[]string{"-A FORWARD ! -s 10.7.8.0/24 -j ACCEPT", "-A FORWARD -s 10.7.0.0/16 -o eth+ -j REJECT"},
			"out: FORWARD: -s 10.7.0.0/16 -o eth+ -j REJECT --reject-with icmp-port-unreachable",
		},
		"ports": {
			[]string{"-A INPUT -p udp -m udp ! --dport 60:70 -j ACCEPT", "-A INPUT -p tcp -j ACCEPT", "-A INPUT -j DROP"}, "DHCP: INPUT: -j DROP",
		},
		"may accept": {[]string{"-P FORWARD DROP", "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT"}, ""},
		"goto and return": {
			[]string{"-N deny", "-N some", "-A deny -j DROP", "-A some -i br0 -j RETURN", "-A some -j ACCEPT", `-A FORWARD -m comment --comment two\ words -j some`, "-A FORWARD -o eth0 -g deny"},
			"out: deny: -j DROP",
		},
		"kinds of destinations": {
			[]string{"-A INPUT -m addrtype --dst-type LOCAL -j RETURN", "-A INPUT -m addrtype ! --dst-type BROADCAST -j RETURN", "-A INPUT -j DROP"}, "DHCP: INPUT: -j DROP",
		},
		"states":  {[]string{"-A FORWARD -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP"}, "out: FORWARD: -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP"},
		"a limit": {[]string{"-A FORWARD -m limit --limit 3/sec -j LOG", "-A FORWARD -o br0 -m mark --mark 0x7 -j DROP", "-A OUTPUT -o br0 -j DROP"}, "answer: OUTPUT: -o br0 -j DROP"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.NetNS(t)
			testenv.Kernel(t, "iptables-legacy")
			for _, c := range test.commands {
				testenv.Run(t, "sh", "-ec", "iptables-legacy "+c)
			}
			got, err := look(all)
			if err != nil {
				t.Fatal(err)
			}
			var short []string
			for _, o := range got {
				short = append(short, o.Packet.What+": "+o.Chain+": "+o.Rule)
			}
			if strings.Join(short, "\n") != test.want {
				t.Errorf("got  %q\nwant %q", short, test.want)
			}
			for _, o := range got {
				testenv.Run(t, "sh", "-ec", o.Remedy("br0"))
			}
			if left, err := look(all); err != nil || len(left) > 0 {
				t.Errorf("after the remedies: %v, %v", left, err)
			}
		})
	}
	t.Run("without the program", func(t *testing.T) {
		testenv.NetNS(t)
		testenv.Kernel(t, "iptables-legacy")
		testenv.Run(t, "iptables-legacy", "-P", "FORWARD", "DROP")
		t.Setenv("PATH", t.TempDir())
		r, err := firewall.Read(ours)
		if err != nil {
			t.Fatal(err)
		}
		if unread, err := r.ReadLegacy(t.Context()); err != nil || strings.Join(unread, " ") != "iptables-legacy-save" {
			t.Errorf("got %q, %v", unread, err)
		}
	})
}
