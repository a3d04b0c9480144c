package bridge_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

// all is a configuration with what a bridge has of the host.
func all() networks.Config {
	cfg := config()
	cfg.IPv4.Routes = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}
	cfg.IPv6.Routes = []netip.Prefix{netip.MustParsePrefix("fd42:99::/48")}
	cfg.IPv4.NATAddress, cfg.IPv4.NATOrder, cfg.IPv6.NATOrder = netip.MustParseAddr("192.0.2.50"), networks.NATBefore, networks.NATAfter
	cfg.External = []networks.External{{Name: "ext"}, {Name: "absent"}}
	cfg.NoSnooping = true
	return cfg
}

func external(t *testing.T) {
	t.Helper()
	testenv.Run(t, "ip", "link", "add", "ext", "type", "veth", "peer", "name", "far")
}

// TestContractOfAll is TestContract for what is beside the bridge.
func TestContractOfAll(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Suite{
		Driver: bridge.Driver{}, Setup: external,
		Configs: []networks.Config{all(), config()},
		Damages: map[string]func(*testing.T, networks.Config){
			"a lost chain": func(t *testing.T, cfg networks.Config) {
				testenv.Run(t, "nft", "delete", "chain", "inet", "cuib_"+cfg.Name, "postrouting-after")
			},
			"the bridge's deletion": func(t *testing.T, cfg networks.Config) { testenv.Run(t, "ip", "link", "del", cfg.Name) },
		},
	}.Run(t)
}

// TestDisturbed takes away what the dump of the contract does not show, and
// finds that it is noticed and comes back.
func TestDisturbed(t *testing.T) {
	testenv.Kernel(t)
	cfg := all()
	damages := map[string]struct {
		do   []string
		want string // What ip says when it is back.
		show []string
	}{
		"a route":      {[]string{"ip", "route", "del", "10.99.0.0/16"}, "10.99.0.0/16", []string{"ip", "route"}},
		"an IPv6 one":  {[]string{"ip", "-6", "route", "del", "fd42:99::/48"}, "fd42:99::/48", []string{"ip", "-6", "route"}},
		"a port":       {[]string{"ip", "link", "set", "ext", "nomaster"}, "master " + networkstest.Name, []string{"ip", "link", "show", "ext"}},
		"a port lower": {[]string{"ip", "link", "add", "absent", "type", "veth", "peer", "name", "other"}, "master " + networkstest.Name, []string{"ip", "link", "show", "absent"}},
	}
	for name, tt := range damages {
		t.Run(name, func(t *testing.T) {
			networkstest.Host(t)
			external(t)
			cfg.Dir = filepath.Join(networkstest.Dir(t), cfg.Name)
			d := bridge.Driver{}
			must(t, d.Apply(t.Context(), cfg))
			defer func() { must(t, d.Remove(t.Context(), cfg)) }()
			in, missing := networkstest.Here(t), make(chan string, 1)
			go func() {
				_ = in.Do(func() error {
					what, err := d.Watch(t.Context(), cfg)
					missing <- fmt.Sprint(what, err)
					return nil
				})
			}()
			testenv.Run(t, tt.do...)
			if got := <-missing; !strings.HasSuffix(got, "<nil>") {
				t.Errorf("got %s", got)
			}
			must(t, d.Apply(t.Context(), cfg))
			if got := testenv.Run(t, tt.show...); !strings.Contains(got, tt.want) {
				t.Errorf("got %s", got)
			}
		})
	}
}

// TestRenamed has somebody rename the bridge of a guest.
func TestRenamed(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	first := guest.DHCP(t, mac1, "").Address
	testenv.Run(t, "ip", "link", "set", cfg.Name, "down")
	testenv.Run(t, "ip", "link", "set", cfg.Name, "name", "renamed")
	testenv.Run(t, "ip", "link", "set", "renamed", "up")
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := testenv.Run(t, "ip", "link"); strings.Contains(got, "renamed:") || !strings.Contains(got, "master "+cfg.Name) {
		t.Errorf("got %s", got)
	}
	if got := guest.DHCP(t, mac1, "").Address; got != first {
		t.Errorf("got %s, and before %s", got, first)
	}
}

// TestFlowsGoOn changes a network below a connection, which keeps the address
// that it began with.
func TestFlowsGoOn(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	world := networkstest.World(t)
	must(t, networkstest.Address("uplink", "192.0.2.50/24"))
	guest := configured(t, cfg)
	conn := world.Listen(t, "192.0.2.2:7")
	var out net.Conn
	guest.Must(t, func() (err error) {
		out, err = new(net.Dialer).DialContext(t.Context(), "udp", "192.0.2.2:7")
		return err
	})
	defer func() { must(t, out.Close()) }()
	var first string
	for i, change := range []func(){func() {}, func() { cfg.IPv4.NATAddress = addr("192.0.2.50") }, func() { cfg.IPv4.Routes = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")} }} {
		change()
		must(t, bridge.Driver{}.Apply(t.Context(), cfg))
		from := caller(conn)
		_, err := out.Write([]byte("ping"))
		must(t, err)
		got := <-from
		if i == 0 {
			first = got
		}
		if got != first {
			t.Errorf("change %d: called by %s, and by %s before", i, got, first)
		}
	}
	from := caller(conn)
	guest.Ping(t, netip.MustParseAddrPort("192.0.2.2:7"))
	if got := <-from; got != "192.0.2.50" {
		t.Errorf("what begins now: called by %s", got)
	}
}

// caller returns the address that somebody has who sends to the socket.
func caller(conn net.PacketConn) <-chan string {
	from := make(chan string, 1)
	go func() {
		buf := make([]byte, 100)
		_, addr, err := conn.ReadFrom(buf)
		if err != nil {
			from <- err.Error()
			return
		}
		host, _, _ := net.SplitHostPort(addr.String())
		_, _ = conn.WriteTo([]byte("pong"), addr)
		from <- host
	}()
	return from
}

// configured returns a guest that has an address of each family.
func configured(t *testing.T, cfg networks.Config) *networkstest.NS {
	t.Helper()
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	guest.Must(t, func() error {
		for _, a := range []string{"10.7.8.20/24", "fd42:1:2:3::20/64"} {
			if err := networkstest.Address("eth0", a); err != nil {
				return err
			}
		}
		return networkstest.Route(cfg.IPv4.Address.Addr()) // That of IPv6 is by advertisement.
	})
	return guest
}

// TestLeaving looks with which addresses guests leave.
func TestLeaving(t *testing.T) {
	testenv.Kernel(t)
	const other = "table ip other { chain post { type nat hook postrouting priority 100; oifname \"uplink\" snat to 192.0.2.60; }; }"
	tests := map[string]struct {
		change     func(*networks.Config)
		other      bool // Somebody else changes the address, too.
		four, six  string
		fourRoutes bool // The world knows the way to guests.
	}{
		"with the host's": {func(*networks.Config) {}, false, "192.0.2.1", "2001:db8::1", false},
		"with one of their own": {func(c *networks.Config) {
			c.IPv4.NATAddress, c.IPv6.NATAddress = addr("192.0.2.50"), addr("2001:db8::50")
		}, false, "192.0.2.50", "2001:db8::50", false},
		"as they are":               {func(c *networks.Config) { c.IPv4.NAT, c.IPv6.NAT = false, false }, false, "10.7.8.20", "fd42:1:2:3:", true},
		"before others":             {func(c *networks.Config) { c.IPv4.NATOrder = networks.NATBefore }, true, "192.0.2.1", "2001:db8::1", false},
		"after others":              {func(c *networks.Config) { c.IPv4.NATOrder = networks.NATAfter }, true, "192.0.2.60", "2001:db8::1", false},
		"after others that are not": {func(c *networks.Config) { c.IPv4.NATOrder, c.IPv6.NATOrder = networks.NATAfter, networks.NATAfter }, false, "192.0.2.1", "2001:db8::1", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			tt.change(&cfg)
			cfg = apply(t, cfg)
			world := networkstest.World(t)
			for _, a := range []string{"192.0.2.50/24", "192.0.2.60/24"} {
				must(t, networkstest.Address("uplink", a))
			}
			if cfg.IPv6.NATAddress.IsValid() {
				must(t, networkstest.Address("uplink", "2001:db8::50/64"))
			}
			if tt.other {
				testenv.Run(t, "nft", other)
			}
			if tt.fourRoutes {
				world.Must(t, func() error {
					for _, via := range []string{"192.0.2.1", "2001:db8::1"} {
						if err := networkstest.Route(addr(via)); err != nil {
							return err
						}
					}
					return nil
				})
			}
			guest := configured(t, cfg)
			for listen, want := range map[string]string{"192.0.2.2:7": tt.four, "[2001:db8::2]:7": tt.six} {
				from := caller(world.Listen(t, listen))
				guest.Ping(t, netip.MustParseAddrPort(listen))
				if got := <-from; got != want && (!strings.HasSuffix(want, ":") || !strings.HasPrefix(got, want)) {
					t.Errorf("the world was called by %s, want %s", got, want)
				}
			}
		})
	}
}

func addr(v string) netip.Addr { return netip.MustParseAddr(v) }

// TestNetworksBehindGuests routes networks to a bridge, and takes them away.
func TestNetworksBehindGuests(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, all())
	guest := configured(t, cfg)
	guest.Must(t, func() error {
		if err := networkstest.Address("lo", "10.99.0.5/32"); err != nil {
			return err
		}
		return networkstest.Address("eth0", "fd42:99::5/128")
	})
	host := networkstest.Here(t)
	// Only the bridge's client speaks on eth0: the host's is any here.
	for _, listen := range []string{"10.99.0.5:7", "[fd42:99::5]:7"} {
		from := caller(guest.Listen(t, listen))
		host.Must(t, func() error {
			conn, err := new(net.Dialer).DialContext(t.Context(), "udp", listen)
			if err != nil {
				return err
			}
			_, err = conn.Write([]byte("ping"))
			return errors.Join(err, conn.Close())
		})
		if got := <-from; got != cfg.IPv4.Address.Addr().String() && got != cfg.IPv6.Address.Addr().String() {
			t.Errorf("%s: called by %s", listen, got)
		}
	}
	conflict := cfg
	conflict.IPv4.Routes = append(slices.Clone(cfg.IPv4.Routes), netip.MustParsePrefix("10.98.0.0/16"))
	testenv.Run(t, "ip", "link", "set", "lo", "up")
	testenv.Run(t, "ip", "route", "add", "10.98.0.0/16", "dev", "lo")
	if err := (bridge.Driver{}).Apply(t.Context(), conflict); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "10.98.0.0/16") {
		t.Errorf("a route that the host has: got %v", err)
	}
	cfg.IPv4.Routes, cfg.IPv6.Routes = nil, nil
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := testenv.Run(t, "ip", "route") + testenv.Run(t, "ip", "-6", "route"); strings.Contains(got, "10.99.") || strings.Contains(got, "fd42:99:") || !strings.Contains(got, "10.98.") {
		t.Errorf("after that: %s", got)
	}
}

// TestExternalInterfaces connects a network with what is beyond an interface
// of the host.
func TestExternalInterfaces(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Host(t)
	beyond := networkstest.New(t)
	beyond.Plug(t, "ext", "", mac2)
	cfg := config()
	cfg.External = []networks.External{{Name: "ext"}}
	cfg.Dir = filepath.Join(networkstest.Dir(t), cfg.Name)
	d := bridge.Driver{}
	defer func() { must(t, d.Remove(t.Context(), cfg)) }()

	must(t, networkstest.Address("ext", "192.0.2.1/24"))
	if err := d.Apply(t.Context(), cfg); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "192.0.2.1/24") {
		t.Errorf("with an address: got %v", err)
	}
	testenv.Run(t, "ip", "addr", "flush", "dev", "ext")
	testenv.Run(t, "ip", "link", "add", "others", "type", "bridge")
	testenv.Run(t, "ip", "link", "set", "ext", "master", "others")
	if err := d.Apply(t.Context(), cfg); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "others") {
		t.Errorf("a part of another: got %v", err)
	}
	testenv.Run(t, "ip", "link", "set", "ext", "nomaster")

	must(t, d.Apply(t.Context(), cfg))
	if got := beyond.DHCP(t, mac2, "").Address; !cfg.IPv4.Address.Contains(got) {
		t.Errorf("beyond it: got %s", got)
	}
	without := cfg
	without.External = nil
	must(t, d.Apply(t.Context(), without))
	if got := testenv.Run(t, "ip", "link", "show", "ext"); strings.Contains(got, "master") {
		t.Errorf("given back: %s", got)
	}
	must(t, d.Apply(t.Context(), cfg))
	must(t, d.Stop(t.Context(), cfg))
	if got := testenv.Run(t, "ip", "link", "show", "ext"); strings.Contains(got, "master") {
		t.Errorf("stopped: %s", got)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "external.json")); err == nil {
		t.Error("stopped: the list is still there")
	}
}

// TestAdvertisements has guests with and without them.
func TestAdvertisements(t *testing.T) {
	testenv.Kernel(t)
	cfg := config()
	cfg.IPv6.NoRA, cfg.IPv6.Stateful = true, true
	cfg = apply(t, cfg)
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	if got := guest.DHCPv6(t, mac1); !cfg.IPv6.Address.Contains(got) {
		t.Errorf("stateful: got %s", got)
	}
	has := func() bool {
		var got string
		guest.Must(t, func() error { got = testenv.Run(t, "ip", "-6", "route", "show", "default"); return nil })
		return strings.Contains(got, "via fe80::")
	}
	if has() { // dnsmasq sends the first as soon as it has seen the interface.
		t.Error("there is a route by advertisement")
	}
	cfg.IPv6.NoRA = false
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	testenv.Eventually(t, "there is a route by advertisement", has)
	cfg.IPv6.NoRA, cfg.IPv6.Stateful = true, false
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if got := len(networkstest.Processes(t, cfg.Dir)); got != 1 {
		t.Errorf("stateless without them: %d processes", got)
	}
}

func TestRoutesByDHCP(t *testing.T) {
	testenv.Kernel(t)
	route := networks.Route{To: netip.MustParsePrefix("10.50.0.0/16"), Via: addr("10.7.8.9")}
	named := append([]byte{16, 10, 50}, addr("10.7.8.9").AsSlice()...)
	home := append([]byte{0}, addr("10.7.8.1").AsSlice()...)
	tests := map[string]struct {
		change func(*networks.Family)
		want   []byte
	}{
		"with the gateway":     {func(*networks.Family) {}, append(slices.Clone(named), home...)},
		"with another gateway": {func(f *networks.Family) { f.Gateway = addr("10.7.8.2") }, append(append(slices.Clone(named), 0), addr("10.7.8.2").AsSlice()...)},
		"with a default of them": {func(f *networks.Family) {
			f.DHCPRoutes = []networks.Route{{Via: addr("10.7.8.3"), To: netip.MustParsePrefix("0.0.0.0/0")}}
		}, append([]byte{0}, addr("10.7.8.3").AsSlice()...)},
		"without a gateway": {func(f *networks.Family) { f.Routing = false }, named},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			cfg.IPv4.DHCPRoutes = []networks.Route{route}
			tt.change(&cfg.IPv4)
			cfg = apply(t, cfg)
			got := networkstest.Guest(t, cfg.Name, "veth1", mac1).DHCP(t, mac1, "").Options[121]
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestSnooping changes nothing where the kernel cannot learn.
func TestSnooping(t *testing.T) {
	testenv.Kernel(t)
	cfg := apply(t, config())
	br, err := netlink.LinkByName(cfg.Name)
	must(t, err)
	if err := netlink.BridgeSetMcastSnoop(br, true); errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return
	}
	for _, off := range []bool{false, true, false} {
		cfg.NoSnooping = off
		must(t, bridge.Driver{}.Apply(t.Context(), cfg))
		want := "mcast_snooping 1"
		if off {
			want = "mcast_snooping 0"
		}
		if got := testenv.Run(t, "ip", "-d", "link", "show", cfg.Name); !strings.Contains(got, want) {
			t.Errorf("want %s, got %s", want, got)
		}
	}
}
