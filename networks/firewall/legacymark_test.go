package firewall_test

import (
	"testing"

	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/shared/testenv"
)

// TestLegacyMark changes rules of iptables-legacy, and has them count.
func TestLegacyMark(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "iptables-legacy", "ip6tables-legacy")
	mark := func() string {
		t.Helper()
		m, err := firewall.LegacyMark()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := mark(); m != "" || firewall.HasLegacy() {
		t.Errorf("without tables: got %q, which made one: %t", m, firewall.HasLegacy())
	}
	seen := map[string]string{}
	for _, c := range []string{
		"iptables-legacy -A INPUT -i lo -p icmp -m comment --comment one -j ACCEPT", "iptables-legacy -A INPUT -p tcp --dport 80 -j ACCEPT",
		"iptables-legacy -R INPUT 2 -p tcp --dport 81 -j ACCEPT", "iptables-legacy -P INPUT DROP", "ip6tables-legacy -A INPUT -p tcp --dport 80 -j DROP",
		"ip6tables-legacy -R INPUT 1 -p tcp --dport 81 -j DROP", "ip6tables-legacy -A INPUT -i lo -j ACCEPT",
	} {
		testenv.Run(t, "sh", "-ec", c)
		m := mark()
		if seen[m] != "" || m != mark() {
			t.Errorf("after %s: the mark is that after %q, or does not stay", c, seen[m])
		}
		seen[m] = c
	}
	before := mark()
	testenv.Run(t, "ip", "link", "set", "lo", "up")
	testenv.Run(t, "sh", "-c", "ping -c 1 -W 1 127.0.0.1; ping -c 1 -W 1 ::1; iptables-legacy -vnL INPUT")
	if m := mark(); m != before {
		t.Error("rules that have counted have another mark")
	}
	testenv.Run(t, "ip6tables-legacy", "-F")
	if m := mark(); m == before {
		t.Error("rules that are gone leave the mark as it was")
	}
}

// BenchmarkLegacyMark looks at 500 rules.
func BenchmarkLegacyMark(b *testing.B) {
	testenv.NetNS(b)
	testenv.Kernel(b, "iptables-legacy")
	testenv.Run(b, "sh", "-ec", "(echo '*filter'; for i in $(seq 500); do echo -A INPUT -p tcp --dport $i -j ACCEPT; done; echo COMMIT) | iptables-legacy-restore")
	for b.Loop() {
		if _, err := firewall.LegacyMark(); err != nil {
			b.Fatal(err)
		}
	}
}
