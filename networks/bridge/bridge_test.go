package bridge_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

const (
	mac1 = "10:66:6a:00:00:01"
	mac2 = "10:66:6a:00:00:02"
)

func config() networks.Config {
	f := networks.Family{NAT: true, Routing: true, Firewall: true, DHCP: true}
	cfg := networks.Config{Name: networkstest.Name, IPv4: f, IPv6: f, DNS: networks.DNS{Domain: "cuib"}}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/24")
	cfg.IPv6.Address = netip.MustParsePrefix("fd42:1:2:3::1/64")
	return cfg
}

func TestContract(t *testing.T) {
	testenv.Kernel(t)
	other := config()
	other.MTU, other.HWAddr = 1400, "02:11:22:33:44:55"
	other.IPv4.Address, other.IPv4.NAT = netip.MustParsePrefix("10.9.9.1/25"), false
	other.IPv6 = networks.Family{}
	tunnelled := config()
	tunnelled.Tunnels = []networks.Tunnel{{Name: "one", Protocol: "vxlan", ID: 7, Local: netip.MustParseAddr("127.0.0.1"), Remote: netip.MustParseAddr("127.0.0.2")}}
	bare := networks.Config{DNS: networks.DNS{Mode: networks.DNSNone}}
	networkstest.Suite{
		Driver:  bridge.Driver{},
		Configs: []networks.Config{tunnelled, config(), other, bare},
		Damages: map[string]func(*testing.T, networks.Config){
			"a flush of all rules": func(t *testing.T, _ networks.Config) { testenv.Run(t, "nft", "flush", "ruleset") },
			"a lost rule": func(t *testing.T, cfg networks.Config) {
				testenv.Run(t, "nft", "flush", "chain", "inet", "cuib_"+cfg.Name, "postrouting")
			},
			"an edit of rules that are as many": func(t *testing.T, cfg networks.Config) {
				table := "inet cuib_" + cfg.Name
				rules := strings.Count(testenv.Run(t, "nft", "list chain "+table+" forward"), "accept\n")
				testenv.Run(t, "nft", "flush chain "+table+" forward"+strings.Repeat("; add rule "+table+" forward accept", rules))
			},
			"another name of the bridge": func(t *testing.T, cfg networks.Config) {
				testenv.Run(t, "ip", "link", "set", cfg.Name, "down")
				testenv.Run(t, "ip", "link", "set", cfg.Name, "name", "other0")
			},
			"the bridge's deletion": func(t *testing.T, cfg networks.Config) { testenv.Run(t, "ip", "link", "del", cfg.Name) },
			"the tunnel's deletion": func(t *testing.T, _ networks.Config) {
				testenv.Run(t, "ip", "link", "del", strings.Split(testenv.Run(t, "ip", "-o", "link", "show", "type", "vxlan"), ": ")[1])
			},
			"the bridge going down": func(t *testing.T, cfg networks.Config) { testenv.Run(t, "ip", "link", "set", cfg.Name, "down") },
			"a lost address": func(t *testing.T, cfg networks.Config) {
				testenv.Run(t, "ip", "addr", "del", cfg.IPv4.Address.String(), "dev", cfg.Name)
			},
			"a flush of all addresses": func(t *testing.T, cfg networks.Config) { testenv.Run(t, "ip", "addr", "flush", "dev", cfg.Name) },
			"the death of dnsmasq":     func(t *testing.T, cfg networks.Config) { kill(t, cfg) },
			"the death of dnsmasq and a lost pid file": func(t *testing.T, cfg networks.Config) {
				kill(t, cfg)
				must(t, os.Remove(filepath.Join(cfg.Dir, "dnsmasq.pid")))
			},
		},
	}.Run(t)
}

// kill ends dnsmasq, and returns when it is gone.
func kill(t *testing.T, cfg networks.Config) {
	t.Helper()
	pids := networkstest.Processes(t, cfg.Dir)
	testenv.Run(t, append([]string{"kill", "-9"}, pids...)...)
	for len(networkstest.Processes(t, cfg.Dir)) > 0 {
		time.Sleep(time.Millisecond)
	}
}

// apply applies cfg on a host of its own.
func apply(t *testing.T, cfg networks.Config) networks.Config {
	t.Helper()
	networkstest.Host(t)
	cfg.Dir = filepath.Join(networkstest.Dir(t), cfg.Name)
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	t.Cleanup(func() { must(t, bridge.Driver{}.Remove(context.WithoutCancel(t.Context()), cfg)) })
	return cfg
}

func TestDnsmasqGoesOn(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	pid := func() string { return strings.Join(networkstest.Processes(t, cfg.Dir), " ") }
	first := pid()
	cfg.IPv4.NAT = false
	cfg.Hosts = []networks.Host{{Name: "web", MAC: mac1}}
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := pid(); got != first {
		t.Errorf("it was restarted for what is not its own: %s, then %s", first, got)
	}
	must(t, os.Remove(filepath.Join(cfg.Dir, "dnsmasq.pid")))
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := pid(); got != first {
		t.Errorf("it was not found without the pid file: %s, then %s", first, got)
	}
	cfg.IPv4.Expiry = time.Hour * 2
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	second := pid()
	if second == first || strings.Contains(second, " ") {
		t.Errorf("it was not restarted with the new configuration: %s, then %s", first, second)
	}
	must(t, os.RemoveAll(cfg.Dir))
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := pid(); got == second || got == "" || strings.Contains(got, " ") {
		t.Errorf("it was not replaced after the loss of its directory: %s, then %s", second, got)
	}
}

func TestForeignPidFile(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	kill(t, cfg)
	// The id belongs to another process now: this one.
	must(t, os.WriteFile(filepath.Join(cfg.Dir, "dnsmasq.pid"), []byte("1\n"), 0o644))
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := networkstest.Processes(t, cfg.Dir); len(got) != 1 {
		t.Errorf("got processes %v", got)
	}
}

func TestLeases(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	d := bridge.Driver{}
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)

	// An address of the pool, and no name of the guest's choice.
	dynamic := guest.DHCP(t, mac1, "thief")
	if !cfg.IPv4.Address.Contains(dynamic.Address) || dynamic.Address == cfg.IPv4.Address.Addr() {
		t.Errorf("got %s", dynamic.Address)
	}
	if got := dynamic.Options[3]; !slices.Equal(got, cfg.IPv4.Address.Addr().AsSlice()) {
		t.Errorf("got router %v", got)
	}
	if got := string(dynamic.Options[15]); got != "cuib" {
		t.Errorf("got domain %q", got)
	}
	leases(t, cfg, dynamic.Address.String()+" "+mac1+"  false")

	// A static one, once the host is known; its old lease must end for that.
	h := networks.Host{Name: "web", MAC: mac1, IPv4: netip.MustParseAddr("10.7.8.77")}
	must(t, d.UnsetHost(t.Context(), cfg, h))
	leases(t, cfg)
	must(t, d.SetHost(t.Context(), cfg, h))
	if got := guest.DHCP(t, mac1, "thief"); got.Address != h.IPv4 {
		t.Errorf("static: got %s", got.Address)
	}
	known := cfg
	known.Hosts = []networks.Host{h}
	leases(t, known, "10.7.8.77 "+mac1+" web true")

	// It can pass to another at once.
	must(t, d.UnsetHost(t.Context(), cfg, h))
	leases(t, cfg)
	other := networks.Host{Name: "web2", MAC: mac2, IPv4: h.IPv4}
	must(t, d.SetHost(t.Context(), cfg, other))
	if got := networkstest.Guest(t, cfg.Name, "veth2", mac2).DHCP(t, mac2, ""); got.Address != h.IPv4 {
		t.Errorf("passed on: got %s", got.Address)
	}
	if got := guest.DHCP(t, mac1, ""); got.Address == h.IPv4 {
		t.Error("forgotten: got the old address again")
	}
}

func TestLeaseEndsWithoutDnsmasq(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	networkstest.Guest(t, cfg.Name, "veth1", mac1).DHCP(t, mac1, "")
	kill(t, cfg)
	must(t, bridge.Driver{}.UnsetHost(t.Context(), cfg, networks.Host{Name: "web", MAC: mac1}))
	leases(t, cfg)
}

func TestStatefulIPv6(t *testing.T) {
	testenv.Kernel(t)
	cfg := config()
	cfg.IPv6.Stateful = true
	cfg = apply(t, cfg)
	d := bridge.Driver{}
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	dynamic := guest.DHCPv6(t, mac1)
	if !cfg.IPv6.Address.Contains(dynamic) {
		t.Errorf("got %s", dynamic)
	}
	leases(t, cfg, dynamic.String()+" "+mac1+"  false")
	h := networks.Host{Name: "web", MAC: mac1, IPv6: netip.MustParseAddr("fd42:1:2:3::77")}
	must(t, d.UnsetHost(t.Context(), cfg, h))
	leases(t, cfg)
	must(t, d.SetHost(t.Context(), cfg, h))
	if got := guest.DHCPv6(t, mac1); got != h.IPv6 {
		t.Errorf("static: got %s", got)
	}
}

// leases checks the network's leases: address, MAC, name, static.
func leases(t *testing.T, cfg networks.Config, want ...string) {
	t.Helper()
	// dnsmasq answers first, and writes then.
	testenv.Eventually(t, fmt.Sprintf("the leases are %q", want), func() bool {
		all, err := bridge.Driver{}.Leases(t.Context(), cfg)
		must(t, err)
		var got []string
		for _, l := range all {
			got = append(got, fmt.Sprintf("%s %s %s %v", l.Address, l.Host.MAC, l.Host.Name, l.Static))
		}
		return slices.Equal(got, want)
	})
}

func TestNames(t *testing.T) {
	testenv.Kernel(t)
	tests := map[string]struct {
		mode string
		name string // The instance's.
		want string // The name that resolves.
	}{
		"managed":        {networks.DNSManaged, "web", "web"},
		"named as a key": {networks.DNSManaged, "ignore", "ignore"},
		"named as time":  {networks.DNSManaged, "1h", "1h"},
		"dynamic":        {networks.DNSDynamic, "web", "thief"},
		"none":           {networks.DNSNone, "web", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.DNS.Mode = tt.mode
			cfg = apply(t, cfg)
			must(t, bridge.Driver{}.SetHost(t.Context(), cfg, networks.Host{Name: tt.name, MAC: mac1}))
			guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
			addr := guest.DHCP(t, mac1, "thief").Address
			asker := networkstest.Guest(t, cfg.Name, "veth2", mac2)
			asker.Must(t, func() error { return networkstest.Address("eth0", "10.7.8.200/24") })
			for _, n := range []string{tt.name, "thief"} {
				var want []netip.Addr
				if n == tt.want {
					want = []netip.Addr{addr}
				}
				for _, full := range []string{n, n + ".cuib"} {
					if got := asker.Lookup(t, cfg.IPv4.Address.Addr(), full, dnsmessage.TypeA); !slices.Equal(got, want) {
						t.Errorf("%s: got %v, want %v", full, got, want)
					}
				}
			}
		})
	}
}

func TestStaticName(t *testing.T) {
	testenv.Kernel(t)
	cfg := config()
	cfg.IPv6.Stateful = true
	cfg = apply(t, cfg)
	d := bridge.Driver{}
	h := networks.Host{Name: "db", MAC: mac1, IPv4: netip.MustParseAddr("10.7.8.5"), IPv6: netip.MustParseAddr("fd42:1:2:3::5")}
	must(t, d.SetHost(t.Context(), cfg, h))
	asker := networkstest.Guest(t, cfg.Name, "veth2", mac2)
	asker.Must(t, func() error { return networkstest.Address("eth0", "10.7.8.200/24") })
	server := cfg.IPv4.Address.Addr()
	testenv.Eventually(t, "the name resolves before the guest runs", func() bool {
		return slices.Equal(asker.Lookup(t, server, "db.cuib", dnsmessage.TypeA), []netip.Addr{h.IPv4}) &&
			slices.Equal(asker.Lookup(t, server, "db", dnsmessage.TypeAAAA), []netip.Addr{h.IPv6})
	})
	must(t, d.UnsetHost(t.Context(), cfg, h))
	testenv.Eventually(t, "the name is forgotten", func() bool {
		return len(asker.Lookup(t, server, "db.cuib", dnsmessage.TypeA)) == 0
	})
}

func TestOutward(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	world := networkstest.World(t)
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	addr := guest.DHCP(t, mac1, "").Address
	guest.Must(t, func() error {
		if err := networkstest.Address("eth0", addr.String()+"/24"); err != nil {
			return err
		}
		return networkstest.Route(cfg.IPv4.Address.Addr())
	})
	for network, tt := range map[string]struct{ listen, from string }{
		"IPv4":                   {"192.0.2.2:7", "192.0.2.1"},
		"IPv6, by advertisement": {"[2001:db8::2]:7", "2001:db8::1"},
	} {
		conn := world.Listen(t, tt.listen)
		from := make(chan string, 1)
		go func() {
			buf := make([]byte, 100)
			_, addr, err := conn.ReadFrom(buf)
			if err != nil {
				from <- err.Error()
				return
			}
			host, _, _ := net.SplitHostPort(addr.String())
			from <- host
			_, _ = conn.WriteTo([]byte("pong"), addr)
		}()
		guest.Ping(t, netip.MustParseAddrPort(tt.listen))
		if got := <-from; got != tt.from {
			t.Errorf("%s: the world was called by %s, want %s", network, got, tt.from)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Host(t)
	testenv.Run(t, "ip", "link", "add", networkstest.Name, "type", "veth", "peer", "name", "other")
	d := bridge.Driver{}
	cfg := config()
	cfg.Dir = filepath.Join(networkstest.Dir(t), cfg.Name)
	if err := d.Apply(t.Context(), cfg); !errs.Is(err, errs.Conflict) {
		t.Errorf("an interface that is no bridge: got %v", err)
	}
	testenv.Run(t, "ip", "link", "del", networkstest.Name)

	bad := cfg
	bad.Raw = "no-such-option=1"
	if err := d.Apply(t.Context(), bad); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "raw.dnsmasq") {
		t.Errorf("bad raw.dnsmasq: got %v", err)
	}
	bad = cfg
	bad.DNS.Domain = "x\ndhcp-script=/bin/sh"
	if err := d.Apply(t.Context(), bad); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad domain: got %v", err)
	}
	bad = cfg
	bad.Hosts = []networks.Host{{Name: "a\nb", MAC: mac1}}
	if err := d.Apply(t.Context(), bad); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad host: got %v", err)
	}
	must(t, os.Chmod(filepath.Dir(cfg.Dir), 0o700))
	if err := d.Apply(t.Context(), cfg); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a directory that nobody can search: got %v", err)
	}
	t.Setenv("PATH", "")
	if err := d.Apply(t.Context(), cfg); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "dnsmasq-base") {
		t.Errorf("no dnsmasq: got %v", err)
	}
	must(t, d.Remove(t.Context(), cfg))
}

func TestPortsComeBack(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	first := guest.DHCP(t, mac1, "").Address
	testenv.Run(t, "ip", "link", "del", cfg.Name)
	cfg.Hosts = []networks.Host{{Name: "web", MAC: mac1, Port: "veth1"}, {Name: "gone", MAC: mac2, Port: "veth2"}}
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := guest.DHCP(t, mac1, "").Address; got != first {
		t.Errorf("got %s, and before %s", got, first)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLeaseEndsUnheard forgets a host although the host's firewall drops all that
// dnsmasq would hear of it.
func TestLeaseEndsUnheard(t *testing.T) {
	testenv.Kernel(t)
	cfg := config()
	cfg.Hosts = []networks.Host{{Name: "web", MAC: mac1}, {Name: "db", MAC: mac2}}
	cfg = apply(t, cfg)
	networkstest.Guest(t, cfg.Name, "veth1", mac1).DHCP(t, mac1, "")
	other := networkstest.Guest(t, cfg.Name, "veth2", mac2).DHCP(t, mac2, "")
	testenv.Run(t, "nft", "table ip strict { chain in { type filter hook input priority 0; udp dport 67 drop; }; }")
	must(t, bridge.Driver{}.UnsetHost(t.Context(), cfg, cfg.Hosts[0]))
	got, err := bridge.Driver{}.Leases(t.Context(), cfg)
	must(t, err)
	if len(got) != 1 || got[0].Address != other.Address {
		t.Errorf("got %v", got)
	}
	if n := len(networkstest.Processes(t, cfg.Dir)); n != 1 {
		t.Errorf("%d processes", n)
	}
}

// TestSharedAddress has two networks with one MAC address, as overlays of one id
// on different ports have: neither takes the other's bridge.
func TestSharedAddress(t *testing.T) {
	testenv.Kernel(t)
	one := config()
	one.HWAddr = "02:11:22:33:44:55"
	one = apply(t, one)
	index := func(cfg networks.Config) int {
		l, err := net.InterfaceByName(cfg.Name)
		must(t, err)
		return l.Index
	}
	before := index(one)
	two := one
	two.Name, two.Dir = "cuibtest1", filepath.Join(filepath.Dir(one.Dir), "cuibtest1")
	two.IPv4.Address, two.IPv6 = netip.MustParsePrefix("10.9.9.1/24"), networks.Family{}
	t.Cleanup(func() { must(t, bridge.Driver{}.Remove(context.WithoutCancel(t.Context()), two)) })
	must(t, bridge.Driver{}.Apply(t.Context(), two))
	if after := index(one); after != before || index(two) == before {
		t.Errorf("the bridge %d of %s is %d now, that of %s is %d", before, one.Name, after, two.Name, index(two))
	}
}

// TestWatchOfAnotherDnsmasq has another dnsmasq take the place of that which there
// was when the watch began, and end.
func TestWatchOfAnotherDnsmasq(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	other := cfg
	other.IPv4.Expiry = 2 * time.Hour
	here := networkstest.Here(t)
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		time.Sleep(200 * time.Millisecond) // The watch has begun.
		failed <- here.Do(func() error {
			if err := (bridge.Driver{}).Apply(ctx, other); err != nil {
				return err
			}
			time.Sleep(time.Second) // What the change has announced is over.
			data, err := os.ReadFile(filepath.Join(cfg.Dir, "dnsmasq.pid"))
			if err != nil {
				return err
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
			if err != nil {
				return err
			}
			return syscall.Kill(pid, syscall.SIGKILL)
		})
	}()
	what, err := bridge.Driver{}.Watch(ctx, cfg)
	if err != nil || what != "dnsmasq" {
		t.Errorf("got %q, %v; want dnsmasq", what, err)
	}
	must(t, <-failed)
}

// TestApplyWhileAddressesChange has a host with so many addresses, of which some
// come and go, that the kernel cannot list them at once.
func TestApplyWhileAddressesChange(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	address := func(n int) *netlink.Addr {
		return &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(127, 1, byte(n>>8), byte(n)), Mask: net.CIDRMask(32, 32)}}
	}
	const many = 2000
	for n := range many {
		must(t, netlink.AddrAdd(lo, address(n)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	here := networkstest.Here(t)
	go func() {
		ended <- here.Do(func() (err error) {
			for err == nil && ctx.Err() == nil {
				if err = netlink.AddrAdd(lo, address(many)); err == nil {
					err = netlink.AddrDel(lo, address(many))
				}
			}
			return err
		})
	}()
	for range 20 {
		must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	}
	cancel()
	must(t, <-ended)
}
