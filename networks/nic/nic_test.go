package nic_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// newHost gives the test a host of its own, with a bridge br0.
func newHost(t *testing.T) nic.Host {
	t.Helper()
	testenv.Kernel(t, "ip", "nft", "tc")
	networkstest.Host(t)
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	ip(t, "link add br0 type bridge")
	ip(t, "addr add 10.9.0.1/24 dev br0")
	ip(t, "addr add fd09::1/64 dev br0 nodad")
	ip(t, "link set br0 up")
	return nic.Host{Net: h, Ports: nft.NewPorts(t.TempDir())}
}

// ip runs ip on the host.
func ip(t *testing.T, line string) string {
	t.Helper()
	return testenv.Run(t, append([]string{"ip"}, strings.Fields(line)...)...)
}

// a guest is a namespace that NICs are given to.
type guest struct {
	*networkstest.NS

	*nic.Guest
}

func newGuest(t *testing.T) guest {
	t.Helper()
	ns := networkstest.New(t)
	h, err := netlink.NewHandleAt(netns.NsHandle(int(ns.File().Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	ns.Must(t, func() error {
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o644)
	})
	return guest{ns, &nic.Guest{Net: h, File: ns.File()}}
}

// ip runs ip inside.
func (g guest) ip(t *testing.T, line string) (out string) {
	t.Helper()
	g.Must(t, func() error {
		out = testenv.Run(t, append([]string{"ip"}, strings.Fields(line)...)...)
		return nil
	})
	return out
}

func (g guest) ping(to string) error {
	return g.Do(func() error { return reach(to) })
}

// reach makes a TCP connection that is refused, or not answered.
func reach(to string) error {
	d := net.Dialer{Timeout: testenv.Patience}
	c, err := d.Dial("tcp", net.JoinHostPort(to, "9"))
	if err == nil {
		return c.Close()
	}
	if strings.Contains(err.Error(), "refused") {
		return nil
	}
	return err
}

func unused(string) bool { return false }

// give gives a NIC to a guest until the end of the test, which finds nothing
// left of it.
func (g guest) give(t *testing.T, h nic.Host, n nic.NIC) {
	t.Helper()
	if err := h.Make(t.Context(), n, g.Guest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.takeAway(t, h, n) })
}

func (g guest) takeAway(t *testing.T, h nic.Host, n nic.NIC) {
	t.Helper()
	for range 2 {
		if err := h.Remove(n, g.Guest, unused); err != nil {
			t.Errorf("remove %s: %v", n.Device, err)
		}
	}
}

// state is all that the host has: a test sees in it what is left over.
func state(t *testing.T) string {
	t.Helper()
	out := ip(t, "-o link") + "\n" + ip(t, "route show table all") + "\n" + ip(t, "-6 route show table all") + "\n" +
		ip(t, "neigh show proxy") + "\n" + testenv.Run(t, "nft", "list", "ruleset")
	var lines []string
	for line := range strings.Lines(out) {
		if strings.Contains(line, "local 2001:db8::1 ") { // It is there when nobody else has it.
			continue
		}
		if !strings.Contains(line, "multicast") && !strings.Contains(line, "fe80") && !strings.Contains(line, " br0") && !strings.Contains(line, "anycast") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func bridged(name string) nic.NIC {
	return nic.NIC{Device: name, Kind: nic.Bridged, Parent: "br0", Name: "eth0", HostName: "v" + name, Inner: "cu" + name, MAC: "10:66:6a:00:00:01"}
}

func TestBridged(t *testing.T) {
	h := newHost(t)
	g := newGuest(t)
	before := state(t)
	n := bridged("a")
	n.MTU, n.QueueLength, n.Isolated, n.Ingress, n.Egress, n.Priority = 1400, 77, true, 8_000_000, 16_000_000, 5
	n.IPv4.Routes, n.IPv6.Routes = prefixes("192.0.2.0/24"), prefixes("2001:db8:1::/64")
	g.give(t, h, n)
	want(t, "host", ip(t, "-d link show va"), "mtu 1400", "qlen 77", "isolated on", "master br0", "UP")
	want(t, "guest", g.ip(t, "-d link show eth0"), "mtu 1400", "qlen 77", "10:66:6a:00:00:01", "UP")
	want(t, "routes", ip(t, "route")+ip(t, "-6 route"), "192.0.2.0/24 dev br0", "2001:db8:1::/64 dev br0")
	want(t, "limit in", testenv.Run(t, "tc", "qdisc", "show", "dev", "va"), "tbf", "rate 8Mbit")
	want(t, "limit out", testenv.Run(t, "tc", "qdisc", "show", "dev", "cfa"), "tbf", "rate 16Mbit")
	want(t, "priority", testenv.Run(t, "nft", "list", "ruleset"), "meta priority set")
	index := ip(t, "-o link show va")
	now := n
	now.MTU, now.QueueLength, now.Isolated, now.Ingress, now.Egress, now.Priority = 1300, 0, false, 4_000_000, 0, 0
	now.IPv4.Routes, now.IPv6.Routes = prefixes("198.51.100.0/24"), nil
	if err := h.Change(t.Context(), n, now, g.Guest); err != nil {
		t.Fatal(err)
	}
	want(t, "host changed", ip(t, "-d link show va"), "mtu 1300", "qlen 1000", "isolated off")
	want(t, "guest changed", g.ip(t, "-d link show eth0"), "mtu 1300", "qlen 1000")
	want(t, "routes changed", ip(t, "route"), "198.51.100.0/24 dev br0", "!192.0.2.0/24")
	want(t, "limits changed", testenv.Run(t, "tc", "qdisc", "show"), "rate 4Mbit", "!cfa")
	want(t, "priority changed", testenv.Run(t, "nft", "list", "ruleset"), "!priority set")
	if !strings.HasPrefix(ip(t, "-o link show va"), strings.SplitN(index, " ", 2)[0]) {
		t.Error("it is another interface")
	}
	now.Unplugged = true
	if err := h.Change(t.Context(), unplug(now, false), now, g.Guest); err != nil {
		t.Fatal(err)
	}
	want(t, "unplugged", g.ip(t, "link show eth0"), "NO-CARRIER")
	if err := h.Change(t.Context(), now, unplug(now, false), g.Guest); err != nil {
		t.Fatal(err)
	}
	want(t, "plugged", g.ip(t, "link show eth0"), "!NO-CARRIER")
	g.takeAway(t, h, now)
	if after := state(t); after != before {
		t.Errorf("left over: got\n%s\nwant\n%s", after, before)
	}
}

func unplug(n nic.NIC, yes bool) nic.NIC { n.Unplugged = yes; return n }

// want looks for texts in what a program said; those with a ! must not be there.
func want(t *testing.T, what, got string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		no := strings.HasPrefix(text, "!")
		if strings.Contains(got, strings.TrimPrefix(text, "!")) == no {
			t.Errorf("%s: want %q in\n%s", what, text, got)
		}
	}
}

func TestMoveToAnotherBridge(t *testing.T) {
	h := newHost(t)
	g := newGuest(t)
	ip(t, "link add br1 mtu 1400 type bridge")
	ip(t, "addr add 10.10.0.1/24 dev br1")
	ip(t, "link set br1 up")
	n := bridged("a")
	n.IPv4.Routes = prefixes("192.0.2.0/24")
	g.give(t, h, n)
	now := n
	now.Parent = "br1"
	if err := h.Change(t.Context(), n, now, g.Guest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.takeAway(t, h, now) })
	want(t, "link", ip(t, "link show va"), "master br1", "mtu 1400")
	want(t, "routes", ip(t, "route"), "192.0.2.0/24 dev br1", "!192.0.2.0/24 dev br0")
	g.ip(t, "addr add 10.10.0.2/24 dev eth0")
	if err := g.ping("10.10.0.1"); err != nil {
		t.Error(err)
	}
}

// TestLimitsAreTrue sends as much as passes in either direction, also where ACLs
// say what may.
func TestLimitsAreTrue(t *testing.T) {
	some := acl.Ref{Network: "br0", ACLs: []string{"a"}}
	t.Run("alone", func(t *testing.T) { limitsAreTrue(t, acl.Ref{}, nil) })
	t.Run("with ACLs", func(t *testing.T) { limitsAreTrue(t, some, nil) })
	t.Run("of a former daemon", func(t *testing.T) { limitsAreTrue(t, some, takeOver) })
}

// takeOver has the limit of a NIC be as former daemons made it, and another daemon
// start.
func takeOver(t *testing.T, h nic.Host, n nic.NIC) {
	t.Helper()
	testenv.Run(t, "nft", "flush", "ruleset")
	testenv.Run(t, "tc", "qdisc", "add", "dev", n.HostName, "handle", "ffff:", "ingress")
	testenv.Run(t, "tc", "filter", "add", "dev", n.HostName, "parent", "ffff:", "protocol", "all", "prio", "1", "u32", "match", "u32", "0", "0",
		"action", "mirred", "egress", "redirect", "dev", "cf"+strings.TrimPrefix(n.Inner, "cu"))
	p, _ := n.FilterPort()
	if err := errors.Join(h.Ports.Take([]nft.Port{p}), h.Ports.ACLs().Take([]nft.ACLPort{n.ACLPort()})); err != nil {
		t.Fatal(err)
	}
}

func limitsAreTrue(t *testing.T, ref acl.Ref, between func(*testing.T, nic.Host, nic.NIC)) {
	t.Helper()
	h := newHost(t)
	const refused = "53" // Also of TCP; nobody listens there.
	h.Ports.ACLs().Serve(func(acl.Ref) (*acl.Policy, error) {
		forbidden := acl.Rule{
			ACL: "a", Action: acl.Drop, Protocol: acl.TCP, Source: acl.Side{All: true}, Destination: acl.Side{All: true},
			DestinationPorts: []acl.Ports{{First: 53, Last: 53}}, ICMPType: -1, ICMPCode: -1,
		}
		return &acl.Policy{Network: "br0", Egress: acl.Direction{Default: acl.Allow, Rules: []acl.Rule{forbidden}}, Ingress: acl.Direction{Default: acl.Drop}}, nil
	})
	g := newGuest(t)
	n := bridged("a")
	n.Ingress, n.Egress, n.ACL = 40_000_000, 20_000_000, ref
	g.give(t, h, n)
	g.ip(t, "addr add 10.9.0.2/24 dev eth0")
	if between != nil {
		between(t, h, n)
	}
	if err := g.ping("10.9.0.1"); err != nil { // Who is a neighbor of whom is known from here on.
		t.Fatal(err)
	}
	patience := testenv.Patience
	if len(ref.ACLs) > 0 { // Nothing is expected.
		patience = 300 * time.Millisecond
	}
	err := g.Do(func() error {
		c, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", "10.9.0.1:"+refused)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	if silent := os.IsTimeout(err); silent != (len(ref.ACLs) > 0) {
		t.Errorf("what the ACL forbids: got %v", err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "10.9.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, tt := range map[string]struct {
		limit  int64
		upload bool
	}{"to the guest": {n.Ingress, false}, "from the guest": {n.Egress, true}} {
		inside := make(chan net.Conn, 1)
		g.Must(t, func() error {
			c, err := net.Dial("tcp", l.Addr().String())
			inside <- c
			return err
		})
		outside, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		from, to := outside, <-inside
		if tt.upload {
			from, to = to, from
		}
		// What has come before it is read, as on a busy machine, would count as fast.
		if tcp, ok := to.(*net.TCPConn); !ok || tcp.SetReadBuffer(64<<10) != nil {
			t.Fatalf("the buffer of %T cannot be made small", to)
		}
		got, took := transfer(t, from, to)
		rate := float64(got*8) / took.Seconds()
		t.Logf("%s: %.1f Mbit/s of %d", name, rate/1e6, tt.limit/1_000_000)
		if rate > 1.15*float64(tt.limit) {
			t.Errorf("%s: %.0f bit/s pass a limit of %d", name, rate, tt.limit)
		}
	}
}

// transfer sends for some time, and returns how much was received in that time
// after the first part, which a limit lets pass.
func transfer(t *testing.T, from, to net.Conn) (int64, time.Duration) {
	t.Helper()
	defer func() { _, _ = from.Close(), to.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		buf := make([]byte, 64<<10)
		for ctx.Err() == nil {
			if _, err := from.Write(buf); err != nil {
				return
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, to, 1<<20); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	const size = 5 << 20
	n, err := io.CopyN(io.Discard, to, size)
	if err != nil {
		t.Fatal(err)
	}
	return n, time.Since(began)
}

func TestP2P(t *testing.T) {
	h := newHost(t)
	g := newGuest(t)
	before := state(t)
	n := nic.NIC{Device: "p", Kind: nic.P2P, Name: "p0", HostName: "vp", MAC: "10:66:6a:00:00:02"}
	n.IPv4.Routes, n.IPv6.Routes = prefixes("192.0.2.2/32"), prefixes("2001:db8::2/128")
	g.give(t, h, n)
	ip(t, "addr add 192.0.2.1/32 dev vp")
	ip(t, "addr add 2001:db8::1/128 dev vp nodad")
	for _, a := range []string{"192.0.2.2/24", "2001:db8::2/64 nodad"} {
		g.ip(t, "addr add "+a+" dev p0")
	}
	for _, to := range []string{"192.0.2.1", "2001:db8::1"} {
		if err := g.ping(to); err != nil {
			t.Error(err)
		}
	}
	g.takeAway(t, h, n)
	if after := state(t); after != before {
		t.Errorf("left over: got\n%s\nwant\n%s", after, before)
	}
}

func TestRouted(t *testing.T) {
	h := newHost(t)
	world := networkstest.World(t)
	g := newGuest(t)
	before := state(t)
	n := routed("r")
	n.IPv4.Routes, n.IPv4.Tables = prefixes("198.51.100.0/29"), []int{254, 100}
	g.give(t, h, n)
	for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
		if err := g.ping(to); err != nil {
			t.Errorf("out: %v", err)
		}
	}
	world.Must(t, func() error {
		for _, to := range []string{"192.0.2.77", "2001:db8::77"} {
			if err := reach(to); err != nil {
				t.Errorf("in: %v", err)
			}
		}
		return nil
	})
	want(t, "tables", ip(t, "route show table 100"), "192.0.2.77", "198.51.100.0/29 via 192.0.2.77")
	// Another address of the guest's is nobody's business.
	g.ip(t, "addr add 192.0.2.99/32 dev eth0")
	g.ip(t, "addr add 2001:db8::99/128 dev eth0 nodad")
	for from, to := range map[string]string{"192.0.2.99": "192.0.2.2:9", "2001:db8::99": "[2001:db8::2]:9"} {
		if err := g.Do(func() error {
			d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			_, err := d.Dial("tcp", to)
			return err
		}); err == nil || strings.Contains(err.Error(), "refused") {
			t.Errorf("a foreign address passes: %v", err)
		}
	}
	other := routed("q")
	if err := h.Make(t.Context(), other, newGuest(t).Guest); !errs.Is(err, errs.Conflict) {
		t.Errorf("an address twice: %v", err)
	}
	if err := h.Remove(other, nil, unused); err != nil {
		t.Error(err)
	}
	g.takeAway(t, h, n)
	if after := state(t); after != before {
		t.Errorf("left over: got\n%s\nwant\n%s", after, before)
	}
	n.IPv4.Probe, n.IPv6.Probe = true, true
	n.IPv4.Addresses, n.IPv6.Addresses = prefixes("192.0.2.2/32"), nil
	err := h.Make(t.Context(), n, g.Guest)
	if !errs.Is(err, errs.Conflict) || !strings.Contains(fmt.Sprint(err), "192.0.2.2 is somebody's on uplink") {
		t.Errorf("somebody's address: %v", err)
	}
	n.IPv4.Addresses, n.IPv6.Addresses = nil, prefixes("2001:db8::2/128")
	if err := h.Make(t.Context(), n, g.Guest); !errs.Is(err, errs.Conflict) {
		t.Errorf("somebody's address: %v", err)
	}
}

func routed(name string) nic.NIC {
	n := nic.NIC{Device: name, Kind: nic.Routed, Parent: "uplink", Name: "eth0", HostName: "v" + name, MAC: "10:66:6a:00:00:03"}
	n.IPv4 = nic.Family{Addresses: prefixes("192.0.2.77/32"), Only: true, Gateway: netip.MustParseAddr("169.254.0.1"), HostAddress: netip.MustParseAddr("169.254.0.1")}
	n.IPv6 = nic.Family{Addresses: prefixes("2001:db8::77/128"), Only: true, Gateway: netip.MustParseAddr("fe80::1"), HostAddress: netip.MustParseAddr("fe80::1")}
	return n
}

func TestMacvlan(t *testing.T) {
	h := newHost(t)
	g := newGuest(t)
	world := networkstest.World(t)
	n := nic.NIC{Device: "m", Kind: nic.Macvlan, Parent: "uplink", Name: "mac0", MAC: "10:66:6a:00:00:04", MTU: 1400}
	g.give(t, h, n)
	g.ip(t, "addr add 192.0.2.3/24 dev mac0")
	if err := g.ping("192.0.2.2"); err != nil {
		t.Error(err)
	}
	now := n
	now.MTU = 1300
	if err := h.Change(t.Context(), n, now, g.Guest); err != nil {
		t.Fatal(err)
	}
	want(t, "link", g.ip(t, "link show mac0"), "mtu 1300", "10:66:6a:00:00:04")
	_ = world
}

func TestPhysical(t *testing.T) {
	h := newHost(t)
	g := newGuest(t)
	networkstest.World(t)
	l, err := h.Net.LinkByName("uplink")
	if err != nil {
		t.Fatal(err)
	}
	a := l.Attrs()
	before := ip(t, "-o link show uplink")
	n := nic.NIC{Device: "x", Kind: nic.Physical, Parent: "uplink", Name: "eth0", MAC: "10:66:6a:00:00:05", MTU: 1400}
	n.Before = nic.Before{Index: a.Index, MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: true}
	g.give(t, h, n)
	g.ip(t, "addr add 192.0.2.3/24 dev eth0")
	if err := g.ping("192.0.2.2"); err != nil {
		t.Error(err)
	}
	want(t, "inside", g.ip(t, "link show eth0"), "mtu 1400", "10:66:6a:00:00:05")
	for range 2 {
		if err := h.Remove(n, g.Guest, unused); err != nil {
			t.Fatal(err)
		}
		if after := ip(t, "-o link show uplink"); after != before {
			t.Errorf("got %s, want %s", after, before)
		}
	}
	// As the kernel leaves one of a guest that was killed.
	ip(t, "link set uplink down")
	ip(t, "link set uplink name eth0 mtu 1400 addr 10:66:6a:00:00:05")
	if err := h.Remove(n, nil, unused); err != nil {
		t.Fatal(err)
	}
	if after := ip(t, "-o link show uplink"); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
	ip(t, "link set uplink master br0")
	if err := h.Make(t.Context(), n, g.Guest); !errs.Is(err, errs.Conflict) {
		t.Errorf("a port of a bridge: %v", err)
	}
}

// TestWhatTheKernelLacks is for kernels without VLANs and ipvlan.
func TestWhatTheKernelLacks(t *testing.T) {
	h := newHost(t)
	g := newGuest(t)
	networkstest.World(t)
	before := state(t)
	tagged := bridged("a")
	tagged.VLAN.ID = 5
	for name, n := range map[string]nic.NIC{
		"ipvlan":           {Device: "i", Kind: nic.IPVlan, Parent: "uplink", Name: "eth0"},
		"VLAN of a parent": {Device: "m", Kind: nic.Macvlan, Parent: "uplink", Name: "eth0", VLAN: nic.VLAN{ID: 5}},
		"VLAN of a bridge": tagged,
	} {
		err := h.Make(t.Context(), n, g.Guest)
		if err != nil && !errs.Is(err, errs.Unsupported) {
			t.Errorf("%s: got %v", name, err)
		}
		t.Logf("%s: %v", name, err)
		if err := h.Remove(n, g.Guest, unused); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := state(t); after != before {
		t.Errorf("left over: got\n%s\nwant\n%s", after, before)
	}
}
