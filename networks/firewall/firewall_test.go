package firewall_test

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/testenv"
)

// The kinds of packet of a network on br0, with eth0 as the way out.
var (
	guest   = netip.MustParseAddr("10.7.8.5")
	request = firewall.Packet{What: "DHCP", Hook: firewall.Input, In: "br0", Proto: unix.IPPROTO_UDP, Port: 67, Src: netip.MustParseAddr("0.0.0.0"), Dst: netip.MustParseAddr("255.255.255.255")}
	dns     = firewall.Packet{What: "DNS", Hook: firewall.Input, In: "br0", Proto: unix.IPPROTO_UDP, Port: 53, Src: guest, Dst: netip.MustParseAddr("10.7.8.1")}
	out     = firewall.Packet{What: "out", Hook: firewall.Forward, In: "br0", Out: "eth0", Proto: unix.IPPROTO_TCP, Port: 443, Src: guest}
	back    = firewall.Packet{What: "back", Hook: firewall.Forward, In: "eth0", Out: "br0", Proto: unix.IPPROTO_TCP, Dst: guest, Reply: true}
	out6    = firewall.Packet{What: "out6", Hook: firewall.Forward, IPv6: true, In: "br0", Out: "eth0", Proto: unix.IPPROTO_TCP, Port: 443}
	rs      = firewall.Packet{What: "RS", Hook: firewall.Input, IPv6: true, In: "br0", Proto: unix.IPPROTO_ICMPV6, ICMPType: 133, Dst: netip.MustParseAddr("ff02::2")}
	answer  = firewall.Packet{What: "answer", Hook: firewall.Output, Out: "br0", Proto: unix.IPPROTO_UDP, Port: 68}
	all     = []firewall.Packet{request, dns, out, back, out6, rs, answer}
)

func look(packets []firewall.Packet) ([]firewall.Obstacle, error) {
	r, err := firewall.Read(ours)
	if err != nil {
		return nil, err
	}
	if _, err := r.ReadLegacy(context.Background()); err != nil {
		return nil, err
	}
	return r.Obstacles(packets)
}

func ours(table string) bool { return strings.HasPrefix(table, "cuib_") }

func TestLook(t *testing.T) {
	tests := map[string]struct {
		rules string   // Of nft.
		want  []string // "packet: chain: rule".
	}{
		"none":  {"", nil},
		"ours":  {`table inet cuib_br0 { chain c { type filter hook forward priority 0; policy drop; }; }`, nil},
		"other": {`table ip nat { chain c { type nat hook postrouting priority 100; policy drop; }; }`, nil},
		"policy": {
			`table inet t { chain f { type filter hook forward priority 0; policy drop; }; }`,
			[]string{"out: f: policy drop", "back: f: policy drop", "out6: f: policy drop"},
		},
		"one family": {`table ip6 t { chain f { type filter hook forward priority 0; policy drop; }; }`, []string{"out6: f: policy drop"}},
		"dormant":    {`table inet t { flags dormant; chain f { type filter hook forward priority 0; policy drop; }; }`, nil},
		"an accept elsewhere does not help": {
			`table inet a { chain f { type filter hook forward priority -10; iifname "br0" accept; }; }
			 table ip t { chain f { type filter hook forward priority 0; policy drop; ct state established,related accept; }; }`,
			[]string{"out: f: policy drop"},
		},
		"accepted by name": {
			`table inet t { chain f { type filter hook forward priority 0; policy drop; iifname "br0" accept; oifname { "br0", "br1" } accept; }; }`, nil,
		},
		"accepted by another name": {
			`table ip t { chain f { type filter hook forward priority 0; policy drop; iifname { "br1", "br2" } accept; ct state vmap { established : accept, invalid : drop }; }; }`,
			[]string{"out: f: policy drop"},
		},
		"jump by map": {
			`table ip t {
				chain guests { ct state established accept; drop; }
				chain f { type filter hook forward priority 0; iifname vmap { "eth0" : goto guests, "br0" : jump guests }; }
			}`,
			[]string{"out: guests: drop"},
		},
		"name with star": {`table ip t { chain f { type filter hook forward priority 0; policy drop; iifname "br*" accept; oifname "br*" accept; }; }`, nil},
		"jump, return and goto": {
			`table ip t {
				chain deny { reject with icmp admin-prohibited; }
				chain guests { tcp dport 22 accept; oifname "eth1" accept; return; }
				chain f { type filter hook forward priority 0; ct state established accept; iifname "br0" jump guests; iifname "br0" goto deny; }
			}`,
			[]string{"out: deny: reject"},
		},
		"ports": {
			`table inet t { chain i { type filter hook input priority 0; policy drop; udp dport { 53, 100-200 } accept; icmpv6 type { 133, 135 } accept; }; }`,
			[]string{"DHCP: i: policy drop"},
		},
		"port ranges": {
			`table inet t { chain i { type filter hook input priority 0; udp dport 60-70 drop; meta l4proto udp th dport != 67 accept; }; }`,
			[]string{`DHCP: i: meta l4proto udp dport >= 60 dport <= 70 drop`},
		},
		"addresses": {
			`table ip t { chain f { type filter hook forward priority 0; policy drop; ip saddr 10.7.0.0/16 accept; ip daddr 10.7.8.0/24 ct state established accept; }; }`, nil,
		},
		"what is not known drops nothing": {
			`table ip t { chain f { type filter hook forward priority 0; ip daddr 192.0.2.1 drop; meta mark 7 drop; tcp sport 1-1023 drop; fib daddr type local drop; }; }`, nil,
		},
		"what is not known may accept": {
			`table ip t { chain f { type filter hook forward priority 0; policy drop; ct state established accept; fib saddr type unicast accept; }; }`, nil,
		},
		"may have left the chain": {
			`table inet t { chain deny { fib saddr type local return; drop; }; chain f { type filter hook forward priority 0; jump deny; }; }`, nil,
		},
		"kind of destination": {
			`table inet t { chain deny { fib daddr type local return; fib daddr type multicast return; drop; }; chain i { type filter hook input priority 0; jump deny; }; }`,
			[]string{"DHCP: deny: drop"},
		},
		"output": {
			`table inet t { chain o { type filter hook output priority 0; policy drop; oifname "lo" accept; }; }`, []string{"answer: o: policy drop"},
		},
		"logged and counted": {
			`table ip t { chain f { type filter hook forward priority 0; iifname "br0" oifname "eth0" counter log prefix "no " drop; }; }`,
			[]string{`out: f: iifname "br0" oifname "eth0" log drop`},
		},
		"first of two": {
			`table ip b { chain f { type filter hook forward priority 10; policy drop; }; }
			 table ip a { chain g { type filter hook forward priority 0; iifname "br0" drop; }; }`,
			[]string{`out: g: iifname "br0" drop`, "out: f: policy drop", "back: f: policy drop"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.NetNS(t)
			testenv.Kernel(t, "nft")
			load(t, test.rules)
			got, err := look(all)
			if err != nil {
				t.Fatal(err)
			}
			var short []string
			for _, o := range got {
				short = append(short, o.Packet.What+": "+o.Chain+": "+o.Rule)
			}
			if strings.Join(short, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got  %q\nwant %q", short, test.want)
			}
		})
	}
}

// TestFirewalls has the rules that others make, with their own programs.
func TestFirewalls(t *testing.T) {
	docker := []string{
		"-P FORWARD DROP", "-N DOCKER-USER", "-N DOCKER", "-A FORWARD -j DOCKER-USER", "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-A FORWARD -o docker0 -j DOCKER", "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", "-A DOCKER-USER -j RETURN",
	}
	ufw := []string{
		"-P INPUT DROP", "-P FORWARD DROP", "-N ufw-before-input", "-N ufw-before-forward", "-N ufw-user-forward", "-A INPUT -j ufw-before-input",
		"-A FORWARD -j ufw-before-forward", "-A ufw-before-input -i lo -j ACCEPT", "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT", "-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		"-A ufw-before-forward -j ufw-user-forward",
	}
	tests := map[string]struct {
		commands []string
		owner    firewall.Owner
		lost     string
	}{
		"Docker": {docker, firewall.Docker, "out back"},
		"Docker, with room for us": {
			append(docker, "-I DOCKER-USER -i br0 -j ACCEPT", "-I DOCKER-USER -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"), "", "",
		},
		"ufw": {ufw, firewall.UFW, "DHCP DNS out"},
		"ufw, with room for us": {
			append(ufw, "-A ufw-user-forward -i br0 -j ACCEPT", "-A ufw-before-input -i br0 -p udp -m udp --dport 67 -j ACCEPT", "-A ufw-before-input -i br0 -p udp --dport 53 -j ACCEPT"), "", "",
		},
		"rejected in the end": {
			[]string{"-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -m comment --comment x -p tcp --dport 22 -j ACCEPT", "-A INPUT -j REJECT --reject-with icmp-host-prohibited"},
			"", "DHCP DNS",
		},
	}
	for name, test := range tests {
		for _, program := range []string{"iptables-nft", "iptables-legacy"} {
			t.Run(name+" by "+program, func(t *testing.T) {
				testenv.NetNS(t)
				testenv.Kernel(t, program)
				for _, c := range test.commands {
					testenv.Run(t, append([]string{program}, strings.Fields(c)...)...)
				}
				got, err := look(all)
				if err != nil {
					t.Fatal(err)
				}
				var lost []string
				for _, o := range got {
					lost = append(lost, o.Packet.What)
					if o.Owner != test.owner || o.Family != "ip" || o.Table != "filter" || o.Legacy != (program == "iptables-legacy") {
						t.Errorf("%s: %q of %q, want %q", o, o.Table, o.Owner, test.owner)
					}
				}
				if strings.Join(lost, " ") != test.lost {
					t.Errorf("lost %q, want %q: %v", lost, test.lost, got)
				}
			})
		}
	}
}

func load(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}
