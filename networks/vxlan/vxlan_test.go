package vxlan_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/vxlan"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

func config() networks.Config {
	f := networks.Family{NAT: true, Routing: true, Firewall: true, DHCP: true}
	cfg := networks.Config{Name: networkstest.Name, IPv4: f, IPv6: f, DNS: networks.DNS{Domain: "cuib"}}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/24")
	cfg.IPv6.Address = netip.MustParsePrefix("fd42:1:2:3::1/64")
	cfg.Overlay = networks.Overlay{ID: 4711, Port: 4789, WirePort: 51820, Encryption: networks.EncryptNone, Key: "secret"}
	return cfg
}

// A host is one of several, each in its namespace.
type host struct {
	*networkstest.NS

	t      testing.TB
	driver *vxlan.Driver
	cfg    networks.Config
}

// in has fn run in the host's namespace, on the test's own thread.
func (h *host) in(fn func()) {
	h.t.Helper()
	back, err := os.Open("/proc/thread-self/ns/net")
	must(h.t, err)
	defer back.Close()
	must(h.t, unix.Setns(int(h.File().Fd()), unix.CLONE_NEWNET))
	defer func() { must(h.t, unix.Setns(int(back.Fd()), unix.CLONE_NEWNET)) }()
	fn()
}

// hosts makes hosts in subnets of their own, with a router between them.
func hosts(t testing.TB, under []string) []*host {
	t.Helper()
	return hostsWith(t, under, func(*networks.Config) {})
}

func hostsWith(t testing.TB, under []string, change func(*networks.Config)) []*host {
	t.Helper()
	networkstest.Host(t) // The router.
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0o644))
	dir := networkstest.Dir(t)
	var all []*host
	for i, address := range under {
		ns := networkstest.New(t)
		p := netip.MustParsePrefix(address)
		router := p.Masked().Addr().Next()
		ns.Plug(t, fmt.Sprintf("to%d", i), "", "")
		must(t, networkstest.Address(fmt.Sprintf("to%d", i), netip.PrefixFrom(router, p.Bits()).String()))
		ns.Must(t, func() error {
			if err := networkstest.Address("eth0", address); err != nil {
				return err
			}
			return networkstest.Route(router)
		})
		h := &host{NS: ns, t: t, driver: &vxlan.Driver{}, cfg: config()}
		h.cfg.Dir = filepath.Join(dir, fmt.Sprint(i), networkstest.Name)
		must(t, os.Mkdir(filepath.Dir(h.cfg.Dir), 0o711))
		for j, other := range under {
			if i != j {
				h.cfg.Overlay.Peers = append(h.cfg.Overlay.Peers, netip.MustParsePrefix(other).Addr())
			}
		}
		change(&h.cfg)
		all = append(all, h)
	}
	for _, h := range all {
		h.in(func() { must(t, h.driver.Apply(t.Context(), h.cfg)) })
		t.Cleanup(func() { h.in(func() { must(t, h.driver.Remove(context.WithoutCancel(t.Context()), h.cfg)) }) })
	}
	return all
}

// add puts an instance on the host, and returns its namespace.
func (h *host) add(name, mac string) (guest *networkstest.NS) {
	h.t.Helper()
	h.in(func() {
		in := networks.Host{Name: name, MAC: mac, Port: name}
		must(h.t, h.driver.SetHost(h.t.Context(), h.cfg, in))
		h.cfg.Hosts = append(h.cfg.Hosts, in)
		guest = networkstest.Guest(h.t, h.cfg.Name, name, mac)
	})
	return guest
}

// remove takes an instance off the host.
func (h *host) remove(name string) {
	h.t.Helper()
	h.in(func() {
		testenv.Run(h.t, "ip", "link", "del", name)
		i := slices.IndexFunc(h.cfg.Hosts, func(in networks.Host) bool { return in.Name == name })
		in := h.cfg.Hosts[i]
		h.cfg.Hosts = slices.Delete(h.cfg.Hosts, i, i+1)
		must(h.t, h.driver.UnsetHost(h.t.Context(), h.cfg, in))
	})
}

// exchange has each host tell each other what it has.
func exchange(t testing.TB, all []*host) {
	t.Helper()
	for _, h := range all {
		var m networks.Member
		h.in(func() {
			var err error
			m, err = vxlan.Describe(h.cfg)
			must(t, err)
		})
		for _, other := range all {
			if other != h {
				other.in(func() { must(t, other.driver.Learn(t.Context(), other.cfg, m)) })
			}
		}
	}
}

// lease gets a guest its addresses, and has it use them.
func lease(t testing.TB, guest *networkstest.NS, mac string) netip.Addr {
	t.Helper()
	a := guest.DHCP(t, mac, "").Address
	guest.Must(t, func() error {
		if err := networkstest.Address("eth0", a.String()+"/24"); err != nil {
			return err
		}
		return networkstest.Route(netip.MustParseAddr("10.7.8.1"))
	})
	return a
}

const (
	mac1 = "10:66:6a:00:00:01"
	mac2 = "10:66:6a:00:00:02"
	mac3 = "10:66:6a:00:00:03"
)

func TestContract(t *testing.T) {
	testenv.Kernel(t)
	first := config()
	first.Overlay.Peers = []netip.Addr{netip.MustParseAddr("192.0.2.66"), netip.MustParseAddr("192.0.2.130")}
	other := first
	other.Overlay.ID, other.Overlay.Port, other.Overlay.Peers = 16777215, 8472, first.Overlay.Peers[:1]
	other.MTU, other.IPv6.Stateful = 1400, true
	alone := config()
	alone.IPv6 = networks.Family{}
	port := vxlan.PortName(networkstest.Name)
	networkstest.Suite{
		Driver:  &vxlan.Driver{},
		Configs: []networks.Config{first, other, alone},
		Setup: func(t *testing.T) {
			testenv.Run(t, "ip", "link", "add", "uplink", "type", "veth", "peer", "name", "wire")
			testenv.Run(t, "ip", "link", "set", "wire", "up")
			testenv.Run(t, "ip", "link", "set", "uplink", "up")
			testenv.Run(t, "ip", "addr", "add", "192.0.2.2/26", "dev", "uplink")
			testenv.Run(t, "ip", "route", "add", "default", "via", "192.0.2.1")
		},
		Damages: map[string]func(*testing.T, networks.Config){
			"a flush of all rules":       func(t *testing.T, _ networks.Config) { testenv.Run(t, "nft", "flush", "ruleset") },
			"the port's deletion":        func(t *testing.T, _ networks.Config) { testenv.Run(t, "ip", "link", "del", port) },
			"the port going down":        func(t *testing.T, _ networks.Config) { testenv.Run(t, "ip", "link", "set", port, "down") },
			"the bridge's deletion":      func(t *testing.T, cfg networks.Config) { testenv.Run(t, "ip", "link", "del", cfg.Name) },
			"a smaller MTU of the route": func(t *testing.T, _ networks.Config) { testenv.Run(t, "ip", "link", "set", port, "mtu", "1300") },
		},
	}.Run(t)
}

func TestThreeHosts(t *testing.T) {
	testenv.Kernel(t)
	for name, under := range map[string][]string{
		"IPv4 below": {"192.0.2.2/26", "192.0.2.66/26", "192.0.2.130/26"},
		"IPv6 below": {"2001:db8:1::2/64", "2001:db8:2::2/64", "2001:db8:3::2/64"},
	} {
		t.Run(name, func(t *testing.T) { threeHosts(t, under) })
	}
}

func threeHosts(t *testing.T, under []string) {
	all := hosts(t, under)
	macs := []string{mac1, mac2, mac3}
	var guests []*networkstest.NS
	var addrs []netip.Addr
	for i, h := range all {
		guests = append(guests, h.add(fmt.Sprintf("web%d", i), macs[i]))
		addrs = append(addrs, lease(t, guests[i], macs[i]))
	}
	if addrs[0] == addrs[1] || addrs[1] == addrs[2] || addrs[0] == addrs[2] {
		t.Errorf("an address was given twice: %v", addrs)
	}
	testenv.Eventually(t, "all hosts know all names", func() bool {
		exchange(t, all)
		for _, g := range guests {
			for i, a := range addrs {
				got := g.Lookup(t, netip.MustParseAddr("10.7.8.1"), fmt.Sprintf("web%d.cuib", i), dnsmessage.TypeA)
				if !slices.Equal(got, []netip.Addr{a}) {
					return false
				}
			}
		}
		return true
	})
	for i, g := range guests {
		echo(t, g, addrs[i])
	}
	for i, g := range guests {
		for j, a := range addrs {
			if i != j {
				g.Ping(t, netip.AddrPortFrom(a, 7))
			}
		}
	}
	all[0].in(func() {
		fdb := testenv.Run(t, "bridge", "fdb", "show", "dev", vxlan.PortName(networkstest.Name))
		for _, want := range []string{mac2 + " dst " + addr(under[1]), mac3 + " dst " + addr(under[2]), "00:00:00:00:00:00 dst " + addr(under[1]), mac2 + " extern_learn master"} {
			if !strings.Contains(fdb, want) {
				t.Errorf("the kernel does not know %q:\n%s", want, fdb)
			}
		}
	})
	moves(t, all, addrs[0])
}

func addr(prefix string) string { return netip.MustParsePrefix(prefix).Addr().String() }

// moves takes the first host's instance to the second one.
func moves(t *testing.T, all []*host, before netip.Addr) {
	t.Helper()
	guest := all[1].add("moved", mac1)
	all[0].remove("web0")
	exchange(t, all)
	if got := lease(t, guest, mac1); got != before {
		t.Errorf("got %s on the other host, and before %s", got, before)
	}
	exchange(t, all)
	echo(t, guest, before)
	asker := all[2].add("asker", "10:66:6a:00:00:04")
	lease(t, asker, "10:66:6a:00:00:04")
	asker.Ping(t, netip.AddrPortFrom(before, 7))
	// The first host gives its address to nobody else.
	for i := range 5 {
		mac := fmt.Sprintf("10:66:6a:00:01:%02x", i)
		other := all[0].add(fmt.Sprintf("other%d", i), mac)
		if got := other.DHCP(t, mac, "").Address; got == before {
			t.Errorf("%s, which an instance on another host has, was given out", got)
		}
	}
}

// echo answers what comes to an address.
func echo(t *testing.T, guest *networkstest.NS, a netip.Addr) {
	t.Helper()
	conn := guest.Listen(t, netip.AddrPortFrom(a, 7).String())
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buf[:n], from)
		}
	}()
}

// TestEncrypted looks at what passes between hosts, on the router. The text that
// guests send is there if nothing encrypts it, and else not.
func TestEncrypted(t *testing.T) {
	testenv.Kernel(t)
	if os.Getenv("CUIB_TEST_WIREGUARD") == "" {
		t.Skip("set CUIB_TEST_WIREGUARD=1 where the kernel has WireGuard")
	}
	for encrypt, plain := range map[string]bool{networks.EncryptNone: true, networks.EncryptWireGuard: false, networks.EncryptAuto: false} {
		for below, under := range map[string][]string{"IPv4": {"192.0.2.2/26", "192.0.2.66/26"}, "IPv6": {"2001:db8:1::2/64", "2001:db8:2::2/64"}} {
			if encrypt == networks.EncryptAuto && below == "IPv6" {
				continue // It is WireGuard again.
			}
			t.Run(encrypt+" over "+below, func(t *testing.T) { encrypted(t, under, encrypt, plain) })
		}
	}
}

func encrypted(t *testing.T, under []string, encrypt string, plain bool) { //nolint:revive // what is expected
	all := hostsWith(t, under, func(cfg *networks.Config) { cfg.Overlay.Encryption = encrypt })
	one, two := all[0].add("one", mac1), all[1].add("two", mac2)
	a, b := lease(t, one, mac1), lease(t, two, mac2)
	exchange(t, all)
	exchange(t, all)
	const secret = "tell nobody of it"
	heard := onTheWire(t, secret)
	echo(t, two, b)
	one.Must(t, func() error { return say(netip.AddrPortFrom(b, 7), secret) })
	echo(t, one, a)
	two.Must(t, func() error { return say(netip.AddrPortFrom(a, 7), secret) })
	packets, seen := heard()
	if packets == 0 {
		t.Error("nothing passed the router")
	}
	if got := seen > 0; got != plain {
		t.Errorf("the text was seen on the way: %v, in one of %d packets", got, packets)
	}
	all[0].in(func() {
		before := testenv.Run(t, "ip", "-o", "link", "show", "type", "vxlan")
		must(t, all[0].driver.Apply(t.Context(), all[0].cfg))
		if after := testenv.Run(t, "ip", "-o", "link", "show", "type", "vxlan"); after != before {
			t.Errorf("applied twice, it is another port: %s and before %s", after, before)
		}
	})
}

// say sends a text until it comes back.
func say(to netip.AddrPort, text string) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 100)
	for end := time.Now().Add(testenv.Patience); time.Now().Before(end); {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := conn.Write([]byte(text)); err != nil {
			continue // The other end is not there yet.
		}
		if n, err := conn.Read(buf); err == nil && string(buf[:n]) == text {
			return nil
		}
	}
	return fmt.Errorf("%s did not answer", to)
}

// onTheWire counts the packets that the calling thread's namespace sees, and
// those that have a text, until it is asked.
func onTheWire(t *testing.T, text string) (heard func() (packets, seen int)) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything)
	must(t, err)
	// So that reading ends: shutdown does not wake it.
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	var packets, seen int
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for ended := false; ; {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			switch {
			case err != nil && ended: // All that came before is read.
				return
			case err != nil:
				select {
				case <-end:
					ended = true
				default:
				}
				continue
			}
			packets++
			if bytes.Contains(buf[:n], []byte(text)) {
				seen++
			}
		}
	}()
	stop := sync.OnceFunc(func() {
		close(end)
		<-done
		_ = unix.Close(fd)
	})
	t.Cleanup(stop)
	return func() (int, int) {
		stop()
		return packets, seen
	}
}

// everything is ETH_P_ALL as the network has it.
const everything = 0x0300

// TestGatewayStays sends what each host answers itself: the other hosts must
// not see it.
func TestGatewayStays(t *testing.T) {
	testenv.Kernel(t)
	all := hosts(t, []string{"192.0.2.2/26", "192.0.2.66/26"})
	one, two := all[0].add("one", mac1), all[1].add("two", mac2)
	lease(t, one, mac1)
	seen := make(chan string, 1000)
	stop := sniff(t, two, seen)
	for range 3 {
		one.DHCP(t, mac1, "")
		one.Lookup(t, netip.MustParseAddr("10.7.8.1"), "one.cuib", dnsmessage.TypeA)
	}
	// What is for nobody that is known reaches the others, after all before.
	one.Must(t, func() error {
		c, err := new(net.Dialer).DialContext(t.Context(), "udp", "10.7.8.99:9")
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	})
	for got := range seen {
		if strings.HasPrefix(got, "ARP 10.7.8.99") {
			break
		}
		if strings.HasPrefix(got, "ARP 10.7.8.1 ") || strings.HasPrefix(got, "UDP") {
			t.Errorf("the other host saw %s", got)
		}
	}
	stop()
}

// sniff tells of the frames from mac1 that a guest sees: what ARP asks for, and
// the ports of UDP.
func sniff(t *testing.T, guest *networkstest.NS, seen chan<- string) (stop func()) {
	t.Helper()
	var fd int
	guest.Must(t, func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, everything)
		return err
	})
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	end := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			select {
			case <-end:
				return
			default:
			}
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil || n < 42 {
				continue
			}
			if net.HardwareAddr(buf[6:12]).String() != mac1 {
				continue
			}
			switch {
			case buf[12] == 8 && buf[13] == 6:
				target, _ := netip.AddrFromSlice(buf[38:42])
				seen <- fmt.Sprintf("ARP %s ", target)
			case buf[12] == 8 && buf[13] == 0 && buf[23] == unix.IPPROTO_UDP:
				seen <- fmt.Sprintf("UDP to port %d", int(buf[36])<<8|int(buf[37]))
			}
		}
	}()
	return func() {
		close(end)
		<-done
		_ = unix.Close(fd)
	}
}

func TestRefused(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Host(t)
	testenv.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", "lo")
	testenv.Run(t, "ip", "route", "add", "default", "dev", "lo")
	tests := map[string]struct {
		change func(*networks.Config)
		kind   errs.Kind
		want   string
	}{
		"itself": {func(c *networks.Config) { c.Overlay.Peers = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }, errs.Invalid, "this host itself"},
		"both families": {func(c *networks.Config) {
			c.Overlay.Local = netip.MustParseAddr("192.0.2.1")
			c.Overlay.Peers = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
		}, errs.Invalid, "different families"},
		"no such interface": {func(c *networks.Config) {
			c.Overlay.Interface, c.Overlay.Local = "eth9", netip.MustParseAddr("192.0.2.1")
			c.Overlay.Peers = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
		}, errs.NotFound, "eth9"},
		"too large": {func(c *networks.Config) {
			c.MTU, c.Overlay.Local = 1500, netip.MustParseAddr("192.0.2.1")
		}, errs.Invalid, "1450 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			networkstest.Host(t)
			testenv.Run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", "lo")
			cfg := config()
			cfg.Dir = filepath.Join(networkstest.Dir(t), cfg.Name)
			tt.change(&cfg)
			d := &vxlan.Driver{}
			err := d.Apply(t.Context(), cfg)
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			must(t, d.Remove(t.Context(), cfg))
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
