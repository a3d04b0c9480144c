package proxies_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/shared/run"
	"github.com/cuib/cuib/shared/testenv"
)

// connected has a guest be a port of a bridge, as one of its NICs would.
func connected(t testing.TB, g *guest, bridge, name string, addresses ...string) {
	t.Helper()
	pid := fmt.Sprint(g.cmd.Process.Pid)
	testenv.Run(t, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pid)
	if bridge != "" {
		testenv.Run(t, "ip", "link", "set", name, "master", bridge)
	}
	t.Cleanup(func() { _, _ = run.Cmd(context.WithoutCancel(t.Context()), "ip", "link", "delete", name) }) // It goes with the guest, which takes a while.
	testenv.Run(t, "ip", "link", "set", name, "up")
	inside := func(args ...string) {
		testenv.Run(t, append([]string{"nsenter", "--net", "-t", pid, "ip"}, args...)...)
	}
	inside("link", "set", "eth0", "up")
	for _, a := range addresses {
		add := []string{"address", "add", a, "dev", "eth0"}
		if strings.Contains(a, ":") {
			add = append(add, "nodad")
		}
		inside(add...)
	}
	if bridge != "" {
		inside("route", "add", "default", "via", "10.9.0.1")
		inside("route", "add", "default", "via", "fd42:9::1")
	}
}

// natWorld is a host with a bridge, two guests on it, and another host.
type natWorld struct {
	one, two, far *guest
	service       *proxies.Service
}

func newNATWorld(t testing.TB) natWorld {
	t.Helper()
	testenv.Kernel(t, "ip", "nft", "sysctl", "nsenter")
	w := natWorld{one: newGuest(t), two: newGuest(t), far: newGuest(t)}
	testenv.Run(t, "ip", "link", "add", "br0", "type", "bridge")
	t.Cleanup(func() { testenv.Run(t, "ip", "link", "delete", "br0") })
	testenv.Run(t, "ip", "address", "add", "10.9.0.1/24", "dev", "br0")
	testenv.Run(t, "ip", "address", "add", "fd42:9::1/64", "dev", "br0", "nodad")
	testenv.Run(t, "ip", "link", "set", "br0", "up")
	connected(t, w.one, "br0", "one", "10.9.0.11/24", "fd42:9::11/64")
	connected(t, w.two, "br0", "two", "10.9.0.12/24", "fd42:9::12/64")
	connected(t, w.far, "", "far", "192.0.2.2/24", "2001:db8::2/64")
	testenv.Run(t, "ip", "address", "add", "192.0.2.1/24", "dev", "far")
	testenv.Run(t, "ip", "address", "add", "2001:db8::1/64", "dev", "far", "nodad")
	testenv.Run(t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	w.service = newService(t, w.one)
	return w
}

// hear connects and returns what is said there; empty if nobody answers.
func hear(t testing.TB, from side, address string) (said string) {
	t.Helper()
	network, name := from.split(address)
	from.do(t, func() {
		c, err := (&net.Dialer{Timeout: 20 * time.Second}).DialContext(t.Context(), network, name)
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		data, _ := io.ReadAll(c)
		said = string(data)
	})
	return said
}

// tell has a guest say on a port who its client is.
func tell(t testing.TB, g *guest, port int) {
	t.Helper()
	side{g}.serve(t, fmt.Sprintf("tcp:[::]:%d", port), func(c net.Conn) {
		from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
		fmt.Fprintf(c, "%d %s", port, from.Addr().Unmap())
	})
}

// TestNAT forwards packets of clients from everywhere, without a process: where
// the kernel filters bridges, and where it does not.
func TestNAT(t *testing.T) {
	for _, filters := range []string{"1", "0"} {
		t.Run("bridge-nf "+filters, func(t *testing.T) { testNAT(t, filters) })
	}
}

func testNAT(t *testing.T, filters string) {
	t.Helper()
	w := newNATWorld(t)
	if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
		testenv.Run(t, "sysctl", "-q", "-w", "net.bridge.bridge-nf-call-iptables="+filters, "net.bridge.bridge-nf-call-ip6tables="+filters)
	}
	for _, port := range []int{80, 81, 443} {
		tell(t, w.one, port)
	}
	side{w.one}.echoDatagrams(t, "udp:10.9.0.11:53")
	for device, r := range map[string]proxies.Rule{
		"v4":    {Listen: "tcp:0.0.0.0:8080-8081", Connect: "tcp:10.9.0.11:80-81"},
		"v6":    {Listen: "tcp:[::]:8080-8081", Connect: "tcp:[fd42:9::11]:80,443"},
		"far":   {Listen: "tcp:192.0.2.1:9000,9001", Connect: "tcp:10.9.0.11:80"},
		"udp":   {Listen: "udp:0.0.0.0:5300", Connect: "udp:10.9.0.11:53"},
		"other": {Listen: "tcp:192.0.2.9:7000", Connect: "tcp:10.9.0.11:80"},
	} {
		r.NAT, r.Bridge, r.Port, r.Target = true, "br0", "one", netip.MustParseAddr("10.9.0.11")
		if device == "v6" {
			r.Target = netip.MustParseAddr("fd42:9::11")
		}
		start(t, w.service, owner(w.one, device), r)
	}
	host, one, two, far := side{}, side{w.one}, side{w.two}, side{w.far}
	for _, tt := range []struct {
		from          side
		address, want string
	}{
		{far, "tcp:192.0.2.1:8080", "80 192.0.2.2"},
		{far, "tcp:192.0.2.1:8081", "81 192.0.2.2"},
		{far, "tcp:192.0.2.1:9000", "80 192.0.2.2"},
		{far, "tcp:192.0.2.1:9001", "80 192.0.2.2"},
		{far, "tcp:[2001:db8::1]:8080", "80 2001:db8::2"},
		{far, "tcp:[2001:db8::1]:8081", "443 2001:db8::2"},
		{host, "tcp:192.0.2.1:8080", "80 192.0.2.1"},
		{host, "tcp:10.9.0.1:8080", "80 10.9.0.1"},
		{host, "tcp:[fd42:9::1]:8080", "80 fd42:9::1"},
		{two, "tcp:10.9.0.1:8080", "80 10.9.0.1"},
		{two, "tcp:192.0.2.1:8081", "81 10.9.0.1"},
		{two, "tcp:[fd42:9::1]:8081", "443 fd42:9::1"},
		{one, "tcp:10.9.0.1:8080", "80 10.9.0.1"}, // Itself.
		{one, "tcp:[fd42:9::1]:8080", "80 fd42:9::1"},
		{host, "tcp:127.0.0.1:8080", ""},
		{host, "tcp:[::1]:8080", ""},
		{far, "tcp:192.0.2.1:8082", ""},
	} {
		if got := hear(t, tt.from, tt.address); got != tt.want {
			t.Errorf("%v to %s: got %q, want %q", tt.from.guest, tt.address, got, tt.want)
		}
	}
	talk(t, far.dial(t, "udp:192.0.2.1:5300"), "datagram")
	talk(t, two.dial(t, "udp:10.9.0.1:5300"), "datagram")

	// One goes, and the others stay.
	if err := w.service.Stop(t.Context(), owner(w.one, "v4")); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, far, "tcp:192.0.2.1:8080"); got != "" {
		t.Errorf("what was removed says %q", got)
	}
	if got := hear(t, far, "tcp:192.0.2.1:9000"); got != "80 192.0.2.2" {
		t.Errorf("another says %q", got)
	}
	if err := w.service.End(t.Context(), w.one.name); err != nil {
		t.Fatal(err)
	}
	if rules := testenv.Run(t, "nft", "list", "ruleset"); strings.Contains(rules, "cuib-proxy_") {
		t.Errorf("this is left:\n%s", rules)
	}
}

// TestNATReturns has somebody flush all rules, and a crash leave a table.
func TestNATReturns(t *testing.T) {
	w := newNATWorld(t)
	tell(t, w.one, 80)
	r := proxies.Rule{Listen: "tcp:0.0.0.0:8080", Connect: "tcp:0.0.0.0:80", NAT: true, Bridge: "br0", Target: netip.MustParseAddr("10.9.0.11")}
	start(t, w.service, owner(w.one, "p"), r)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.service.Run(ctx) }()
	far := side{w.far}
	for _, cmd := range []string{"flush ruleset", "flush table inet " + table(t), "flush chain inet " + table(t) + " published-in"} {
		testenv.Run(t, append([]string{"nft"}, strings.Fields(cmd)...)...)
		testenv.Eventually(t, "forwarding after "+cmd, func() bool { return hear(t, far, "tcp:192.0.2.1:8080") == "80 192.0.2.2" })
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	n := later(t, w.service)
	if err := n.Settle(func(name string) bool { return name == w.one.name }); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, far, "tcp:192.0.2.1:8080"); got == "" {
		t.Error("the rules of an instance that runs went")
	}
	if err := n.Recover(t.Context(), w.one.name, map[string]proxies.Rule{"p": r}); err != nil {
		t.Fatal(err)
	}
	if got := hear(t, far, "tcp:192.0.2.1:8080"); got == "" {
		t.Error("the rules are gone after a restart")
	}
	if err := n.Settle(func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if rules := testenv.Run(t, "nft", "list", "ruleset"); strings.Contains(rules, "cuib-proxy_") {
		t.Errorf("this is left:\n%s", rules)
	}
}

func table(t testing.TB) string {
	t.Helper()
	words := strings.Fields(testenv.Run(t, "nft", "list", "tables"))
	i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "cuib-proxy_") })
	if i < 0 {
		t.Fatal("there is no table")
	}
	return words[i]
}
