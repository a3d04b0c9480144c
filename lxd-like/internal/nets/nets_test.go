package nets_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/db/dbtest"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/fake"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// kernel is a host without one.
type kernel struct {
	links  []host.Link
	used   []netip.Prefix
	noIPv6 bool
}

func (k *kernel) Links() ([]host.Link, error)         { return k.links, nil }
func (k *kernel) Used(string) ([]netip.Prefix, error) { return k.used, nil }
func (k *kernel) Uses(string) (all []host.Use, err error) {
	for _, p := range k.used {
		all = append(all, host.Use{Prefix: p, Interface: "tun0", By: "the route to " + p.String() + " by tun0"})
	}
	return all, nil
}
func (k *kernel) HasIPv6() bool { return !k.noIPv6 }
func (k *kernel) Find(name string) (host.Link, error) {
	for _, l := range k.links {
		if l.Name == name {
			return l, nil
		}
	}
	return host.Link{}, errs.NotFoundf("network interface %q not found", name)
}

type env struct {
	*nets.Service

	driver *fake.Driver
	kernel *kernel
}

func newEnv(t *testing.T) env {
	t.Helper()
	e := env{driver: &fake.Driver{}, kernel: &kernel{}}
	e.Service = &nets.Service{
		DB: dbtest.New(t), Dir: t.TempDir(), Host: e.kernel, Events: &events.Hub{}, Log: slog.New(slog.DiscardHandler),
		Drivers: map[string]networks.Driver{"bridge": e.driver, "macvlan": &fake.Driver{}, "physical": &fake.Driver{}},
	}
	return e
}

func (e env) create(t *testing.T, name string, config api.ConfigMap) {
	t.Helper()
	must(t, e.Create(t.Context(), api.NetworksPost{Name: name, NetworkPut: api.NetworkPut{Config: config}}))
}

// instance adds an instance with a NIC on br0.
func (e env) instance(t *testing.T, name string, nic map[string]string) {
	t.Helper()
	dev := map[string]string{"type": "nic", "network": "br0"}
	maps.Copy(dev, nic)
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		pools, err := db.Pools(ctx, tx)
		if err != nil {
			return err
		}
		if len(pools) == 0 {
			p := db.Pool{Name: "p", Driver: "dir", Status: db.Ready}
			if err := db.AddPool(ctx, tx, &p); err != nil {
				return err
			}
			pools = append(pools, p)
		}
		return db.AddInstance(ctx, tx, &db.Instance{
			Name: name, PoolID: pools[0].ID, Status: db.Ready, Config: map[string]string{"volatile.eth0.host_name": "veth1"},
			Devices: map[string]map[string]string{"eth0": dev}, Profiles: []string{"default"},
		})
	}))
}

// picture is all that the service has made.
func (e env) picture(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	must(t, e.DB.View(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Networks(ctx, tx)
		for _, n := range all {
			fmt.Fprintf(&b, "record %s %s %q %v %s\n", n.Name, n.Type, n.Description, n.Config, n.Status)
		}
		return err
	}))
	applied := e.driver.Networks()
	for _, name := range slices.Sorted(maps.Keys(applied)) {
		fmt.Fprintf(&b, "applied %s %+v\n", name, applied[name])
	}
	return strings.ReplaceAll(b.String(), e.Dir, "DIR")
}

const mac = "10:66:6a:00:00:01"

func TestDefaults(t *testing.T) {
	e := newEnv(t)
	e.create(t, "cuibbr0", nil)
	n, err := e.Get(t.Context(), "cuibbr0")
	must(t, err)
	if n.Config["ipv4.nat"] != "true" || n.Config["ipv6.nat"] != "true" || n.Type != "bridge" || !n.Managed || n.Status != "Created" {
		t.Errorf("got %+v", n)
	}
	cfg := e.driver.Networks()["cuibbr0"]
	if !strings.HasPrefix(cfg.IPv4.Address.String(), "10.") || cfg.IPv4.Address.Bits() != 24 || !strings.HasPrefix(cfg.IPv6.Address.String(), "fd42:") {
		t.Errorf("got addresses %s and %s", cfg.IPv4.Address, cfg.IPv6.Address)
	}
	if f := cfg.IPv4; !f.NAT || !f.DHCP || !f.Routing || !f.Firewall || cfg.DNS.Mode != "managed" || cfg.DNS.Domain != "cuib" {
		t.Errorf("got %+v", cfg)
	}
	if want := filepath.Join(e.Dir, "networks", "cuibbr0"); cfg.Dir != want {
		t.Errorf("got directory %s", cfg.Dir)
	}
}

func TestDefaultsWithoutIPv6(t *testing.T) {
	e := newEnv(t)
	e.kernel.noIPv6 = true
	e.create(t, "br0", nil)
	if n, _ := e.Get(t.Context(), "br0"); n.Config["ipv6.address"] != "none" || e.driver.Networks()["br0"].IPv6.Address.IsValid() {
		t.Errorf("got %v", n.Config)
	}
}

func TestCreateRefuses(t *testing.T) {
	e := newEnv(t)
	e.kernel.links = []host.Link{{Name: "eth0", Kind: "physical"}}
	e.kernel.used = []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}
	e.create(t, "taken", nil)
	before := e.picture(t)
	bridge := func(key, value string) api.NetworksPost {
		return api.NetworksPost{Name: "br0", Type: "bridge", NetworkPut: api.NetworkPut{Config: api.ConfigMap{key: value}}}
	}
	with := func(req api.NetworksPost, key, value string) api.NetworksPost {
		req.Config[key] = value
		return req
	}
	tests := map[string]struct {
		req  api.NetworksPost
		kind errs.Kind
		want string
	}{
		"no name":            {api.NetworksPost{}, errs.Invalid, "network name"},
		"long name":          {api.NetworksPost{Name: "a234567890123456"}, errs.Invalid, "2 to 15"},
		"path":               {api.NetworksPost{Name: "../x"}, errs.Invalid, "network name"},
		"type":               {api.NetworksPost{Name: "x1", Type: "ring"}, errs.Invalid, "bridge, macvlan"},
		"refused type":       {api.NetworksPost{Name: "x1", Type: "ovn"}, errs.Invalid, "no OVN"},
		"exists":             {api.NetworksPost{Name: "taken"}, errs.Conflict, "exists already"},
		"host's interface":   {api.NetworksPost{Name: "eth0"}, errs.Conflict, "exists already on the host"},
		"unknown key":        {bridge("ipv4.adress", "x"), errs.Invalid, `"ipv4.adress"`},
		"bridge key":         {api.NetworksPost{Name: "x1", Type: "macvlan", NetworkPut: api.NetworkPut{Config: api.ConfigMap{"ipv4.nat": "true"}}}, errs.Invalid, `"ipv4.nat"`},
		"no parent":          {api.NetworksPost{Name: "x1", Type: "macvlan"}, errs.Invalid, "parent"},
		"overlap":            {bridge("ipv4.address", "192.168.0.1/16"), errs.Conflict, "192.168.1.0/24"},
		"network address":    {bridge("ipv4.address", "10.1.1.0/24"), errs.Invalid, "ipv4.address"},
		"broadcast address":  {bridge("ipv4.address", "10.1.1.255/24"), errs.Invalid, "ipv4.address"},
		"no length":          {bridge("ipv4.address", "10.1.1.1"), errs.Invalid, "ipv4.address"},
		"length":             {bridge("ipv4.address", "10.1.1.1/32"), errs.Invalid, "ipv4.address"},
		"wrong family":       {bridge("ipv4.address", "fd42::1/64"), errs.Invalid, "ipv4.address"},
		"IPv6 length":        {bridge("ipv6.address", "fd42::1/80"), errs.Invalid, "stateful"},
		"bool":               {bridge("ipv4.nat", "maybe"), errs.Invalid, "ipv4.nat"},
		"range":              {bridge("ipv4.dhcp.ranges", "10.1.1.9"), errs.Invalid, "FIRST-LAST"},
		"range backwards":    {bridge("ipv4.dhcp.ranges", "10.1.1.9-10.1.1.2"), errs.Invalid, "FIRST-LAST"},
		"range outside":      {with(bridge("ipv4.address", "10.1.1.1/24"), "ipv4.dhcp.ranges", "10.1.2.1-10.1.2.9"), errs.Invalid, "outside"},
		"range not stateful": {bridge("ipv6.dhcp.ranges", "fd42::1-fd42::9"), errs.Invalid, "stateful"},
		"gateway outside":    {with(bridge("ipv4.address", "10.1.1.1/24"), "ipv4.dhcp.gateway", "10.1.2.1"), errs.Invalid, "outside"},
		"expiry":             {bridge("ipv4.dhcp.expiry", "1s"), errs.Invalid, "2m"},
		"dns mode":           {bridge("dns.mode", "static"), errs.Invalid, "managed, dynamic or none"},
		"domain":             {bridge("dns.domain", "a_b"), errs.Invalid, "dns.domain"},
		"domain's line":      {bridge("dns.domain", "a\ndhcp-script=/x"), errs.Invalid, "dns.domain"},
		"search":             {bridge("dns.search", "a,b c"), errs.Invalid, "dns.search"},
		"nameserver":         {bridge("dns.nameservers", "ns1"), errs.Invalid, "dns.nameservers"},
		"mtu":                {bridge("bridge.mtu", "99999"), errs.Invalid, "bridge.mtu"},
		"mtu for IPv6":       {bridge("bridge.mtu", "1000"), errs.Invalid, "1280"},
		"hwaddr":             {bridge("bridge.hwaddr", "ff:ff:ff:ff:ff:ff"), errs.Invalid, "bridge.hwaddr"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := e.Create(t.Context(), tt.req)
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			if got := e.picture(t); got != before {
				t.Errorf("it left something:\n%s", got)
			}
		})
	}
}

// TestLostNetwork takes up a bridge whose record is lost with the database.
func TestLostNetwork(t *testing.T) {
	e := newEnv(t)
	e.kernel.links = []host.Link{{Name: "br0", Kind: "bridge"}}
	req := api.NetworksPost{Name: "br0", Type: "bridge"}
	if err := e.Create(t.Context(), req); !errs.Is(err, errs.Conflict) {
		t.Errorf("one that is not ours: %v", err)
	}
	must(t, os.MkdirAll(filepath.Join(e.Dir, "networks", "br0"), 0o700))
	must(t, e.Create(t.Context(), req))
}

func TestAllKeys(t *testing.T) {
	e := newEnv(t)
	e.kernel.links = []host.Link{{Name: "eth1", Kind: "physical"}, {Name: "eth2", Kind: "physical"}}
	e.create(t, "br0", api.ConfigMap{
		"ipv4.address": "10.1.1.1/24", "ipv4.nat": "true", "ipv4.dhcp": "yes", "ipv4.dhcp.ranges": "10.1.1.5-10.1.1.6, 10.1.1.8-10.1.1.9",
		"ipv4.dhcp.expiry": "2d", "ipv4.dhcp.gateway": "10.1.1.254", "ipv4.routing": "false", "ipv4.firewall": "0",
		"ipv4.dhcp.routes": "10.8.0.0/16,10.1.1.7", "ipv4.nat.address": "192.0.2.7", "ipv4.nat.order": "after", "ipv4.routes": "10.9.0.0/16, 10.10.0.0/16",
		"ipv6.address": "fd42::1/80", "ipv6.nat": "false", "ipv6.dhcp": "true", "ipv6.dhcp.stateful": "true",
		"ipv6.dhcp.ranges": "fd42::5-fd42::9", "ipv6.dhcp.expiry": "600", "ipv6.routing": "true", "ipv6.firewall": "true",
		"ipv6.ra": "false", "ipv6.nat.address": "2001:db8::7", "ipv6.nat.order": "before", "ipv6.routes": "fd43::/48",
		"dns.mode": "dynamic", "dns.domain": "example.org", "dns.search": "a.org, b.org", "dns.nameservers": "9.9.9.9,fd42::53",
		"bridge.mtu": "9000", "bridge.hwaddr": "02:11:22:33:44:55", "bridge.driver": "native", "bridge.external_interfaces": "eth1, v5/eth2/5",
		"bridge.multicast_snooping": "no", "raw.dnsmasq": "log-queries\nlog-dhcp", "user.x": "any\nthing",
	})
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	between := func(a, b string) networks.Range { return networks.Range{First: addr(a), Last: addr(b)} }
	want := networks.Config{
		Name: "br0", Key: "br0", Dir: filepath.Join(e.Dir, "networks", "br0"), HWAddr: "02:11:22:33:44:55", MTU: 9000,
		IPv4: networks.Family{
			Address: prefix("10.1.1.1/24"), NAT: true, DHCP: true, Ranges: []networks.Range{between("10.1.1.5", "10.1.1.6"), between("10.1.1.8", "10.1.1.9")},
			Expiry: 48 * time.Hour, Gateway: addr("10.1.1.254"), NATAddress: addr("192.0.2.7"), NATOrder: networks.NATAfter,
			Routes: []netip.Prefix{prefix("10.9.0.0/16"), prefix("10.10.0.0/16")}, DHCPRoutes: []networks.Route{{To: prefix("10.8.0.0/16"), Via: addr("10.1.1.7")}},
		},
		IPv6: networks.Family{
			Address: prefix("fd42::1/80"), DHCP: true, Stateful: true, Ranges: []networks.Range{between("fd42::5", "fd42::9")}, Expiry: 10 * time.Minute,
			Routing: true, Firewall: true, NATAddress: addr("2001:db8::7"), NATOrder: networks.NATBefore, Routes: []netip.Prefix{prefix("fd43::/48")}, NoRA: true,
		},
		DNS:      networks.DNS{Mode: "dynamic", Domain: "example.org", Search: []string{"a.org", "b.org"}, Nameservers: []netip.Addr{addr("9.9.9.9"), addr("fd42::53")}},
		Raw:      "log-queries\nlog-dhcp",
		External: []networks.External{{Name: "eth1"}, {Name: "v5", Parent: "eth2", VLAN: 5}}, NoSnooping: true,
	}
	if got := e.driver.Networks()["br0"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestFailsAnywhere fails each step of each change: once with an error, and
// once by the caller's leaving, which the step after it notices.
func TestFailsAnywhere(t *testing.T) {
	put := api.NetworkPut{Description: "new", Config: api.ConfigMap{"ipv4.address": "10.2.2.1/24", "firewall.integrate": "false"}}
	changes := map[string]func(ctx context.Context, e env) error{
		"create": func(ctx context.Context, e env) error {
			return e.Create(ctx, api.NetworksPost{Name: "br1", NetworkPut: put})
		},
		"update": func(ctx context.Context, e env) error { return e.Update(ctx, "br0", put) },
		"rename": func(ctx context.Context, e env) error { return e.Rename(ctx, "br0", "br2") },
		"delete": func(ctx context.Context, e env) error { return e.Delete(ctx, "br0") },
	}
	boom := errors.New("boom")
	for name, change := range changes {
		for kind, fail := range map[string]func(context.CancelFunc) error{
			"error":  func(context.CancelFunc) error { return boom },
			"cancel": func(cancel context.CancelFunc) error { cancel(); return nil },
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				e := newEnv(t)
				w := &wall{}
				e.Opener = w
				e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv6.address": "none"})
				before := e.picture(t)
				for n := 0; ; n++ {
					ctx, cancel := context.WithCancel(t.Context())
					failed := false
					e.driver.Fail = func(string) error {
						if n--; n != -1 {
							return nil
						}
						failed = true
						return fail(cancel)
					}
					w.fail = e.driver.Fail
					saved := n
					err := change(ctx, e)
					e.driver.Fail, w.fail = nil, nil
					cancel()
					n = saved
					if !failed || err == nil && kind == "cancel" { // Nothing came after the step.
						must(t, err)
						if got := e.picture(t); got == before {
							t.Error("success changed nothing")
						}
						return
					}
					if err == nil {
						t.Fatalf("step %d failed, and nothing was said", n)
					}
					if got := e.picture(t); got != before {
						t.Fatalf("step %d: got\n%s\nwant\n%s", n, got, before)
					}
				}
			})
		}
	}
}

func TestUpdate(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.1.1/24"})
	must(t, e.Update(t.Context(), "br0", api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "auto", "user.a": "b"}}))
	n, err := e.Get(t.Context(), "br0")
	must(t, err)
	if a := n.Config["ipv4.address"]; a == "auto" || a == "10.1.1.1/24" || n.Config["user.a"] != "b" || n.Config["ipv6.address"] != "none" {
		t.Errorf("got %v", n.Config)
	}
	if err := e.Update(t.Context(), "br9", api.NetworkPut{}); !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown: got %v", err)
	}
	if err := e.Update(t.Context(), "br0", api.NetworkPut{Config: api.ConfigMap{"x": "y"}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad key: got %v", err)
	}
}

func TestUseForbids(t *testing.T) {
	e := newEnv(t)
	config := api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv6.address": "none"}
	e.create(t, "br0", config)
	e.instance(t, "c1", map[string]string{"ipv4.address": "10.1.1.5", "hwaddr": mac})
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return db.AddProfile(ctx, tx, &db.Profile{Name: "p1", Devices: map[string]map[string]string{"n": {"type": "nic", "nictype": "bridged", "parent": "br0"}}})
	}))
	n, err := e.Get(t.Context(), "br0")
	must(t, err)
	if want := []string{"/1.0/instances/c1", "/1.0/profiles/p1"}; !slices.Equal(n.UsedBy, want) {
		t.Errorf("used by %v", n.UsedBy)
	}
	before := e.picture(t)
	for name, err := range map[string]error{
		"delete":        e.Delete(t.Context(), "br0"),
		"rename":        e.Rename(t.Context(), "br0", "br1"),
		"other network": e.Update(t.Context(), "br0", api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "10.1.2.1/24"}}),
		"the address":   e.Update(t.Context(), "br0", api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "10.1.1.5/24"}}),
		"no DHCP":       e.Update(t.Context(), "br0", api.NetworkPut{Config: api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv4.dhcp": "false"}}),
	} {
		if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "c1") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := e.picture(t); got != before {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
	wider := api.ConfigMap{"ipv4.address": "10.1.1.1/23"}
	must(t, e.Update(t.Context(), "br0", api.NetworkPut{Config: wider}))
	want := []networks.Host{{Name: "c1", Instance: "c1", MAC: mac, IPv4: netip.MustParseAddr("10.1.1.5"), Port: "veth1"}}
	if got := e.driver.Networks()["br0"].Hosts; !reflect.DeepEqual(got, want) {
		t.Errorf("applied with hosts %v", got)
	}
}

func TestCheckHost(t *testing.T) {
	e := newEnv(t)
	e.kernel.links = []host.Link{{Name: "eth0", Kind: "physical"}}
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv6.address": "none"})
	must(t, e.Create(t.Context(), api.NetworksPost{Name: "mv", Type: "macvlan", NetworkPut: api.NetworkPut{Config: api.ConfigMap{"parent": "eth0"}}}))
	e.instance(t, "c1", map[string]string{"ipv4.address": "10.1.1.5"})
	e.instance(t, "c3", map[string]string{"ipv4.address": "10.1.1.7"})
	tests := []struct {
		network, name, addr string
		want                errs.Kind
	}{
		{"br0", "c2", "10.1.1.6", errs.Internal},
		{"br0", "c1", "10.1.1.5", errs.Internal},
		{"br0", "c2", "10.1.1.5", errs.Conflict},
		{"br0", "c2", "10.1.1.7", errs.Conflict},
		{"br0", "c2", "10.1.1.1", errs.Conflict},
		{"br0", "c2", "10.1.2.1", errs.Invalid},
		{"br0", "c2", "fd42::1", errs.Invalid},
		{"mv", "c2", "10.1.1.6", errs.Invalid},
		{"br9", "c2", "10.1.1.6", errs.NotFound},
	}
	for _, tt := range tests {
		h := networks.Host{Instance: tt.name, MAC: mac, IPv4: netip.MustParseAddr(tt.addr)}
		if h.IPv4.Is6() {
			h.IPv4, h.IPv6 = netip.Addr{}, h.IPv4
		}
		err := e.CheckHost(t.Context(), tt.network, h)
		if (err == nil) != (tt.want == errs.Internal) || err != nil && errs.KindOf(err) != tt.want {
			t.Errorf("%v: got %v", tt, err)
		}
	}
}

// TestMACsAreOneInstances looks for two instances with one MAC address, of
// which the other is on record, or was told of.
func TestMACsAreOneInstances(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", nil)
	e.create(t, "br1", nil)
	e.instance(t, "c1", map[string]string{"hwaddr": mac})
	known := "10:66:6a:00:00:0a"
	must(t, e.SetHost(t.Context(), "br0", networks.Host{Instance: "c2", MAC: known}))
	for _, tt := range []struct {
		network, name, mac, taken string
	}{
		{"br0", "c1", mac, ""},
		{"br0", "c3", mac, "c1"},
		{"br1", "c3", mac, ""},
		{"br0", "c2", strings.ToUpper(known), ""},
		{"br0", "c3", strings.ToUpper(known), "c2"},
	} {
		err := e.CheckHost(t.Context(), tt.network, networks.Host{Instance: tt.name, MAC: tt.mac})
		if tt.taken == "" && err != nil || tt.taken != "" && (!errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), tt.taken)) {
			t.Errorf("%v: got %v", tt, err)
		}
	}
	if err := e.SetHost(t.Context(), "br0", networks.Host{Instance: "c3", MAC: known}); !errs.Is(err, errs.Conflict) {
		t.Errorf("told of twice: got %v", err)
	}
	must(t, e.UnsetHost(t.Context(), "br0", networks.Host{Instance: "c2", MAC: known}))
	must(t, e.SetHost(t.Context(), "br0", networks.Host{Instance: "c3", MAC: known}))
}

func TestHostsOutliveUpdates(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", nil)
	h := networks.Host{Instance: "c1", MAC: mac}
	must(t, e.SetHost(t.Context(), "br0", h)) // No record knows it yet.
	n, err := e.Get(t.Context(), "br0")
	must(t, err)
	n.Config["bridge.mtu"] = "1400"
	must(t, e.Update(t.Context(), "br0", n.NetworkPut))
	if got := e.driver.Networks()["br0"].Hosts; !reflect.DeepEqual(got, []networks.Host{{Name: "c1", Instance: "c1", MAC: mac}}) {
		t.Errorf("got %v", got)
	}
	must(t, e.UnsetHost(t.Context(), "br0", h))
	if got := e.driver.Networks()["br0"].Hosts; len(got) != 0 {
		t.Errorf("after it was unset: %v", got)
	}
	must(t, e.UnsetHost(t.Context(), "br9", h))

	h.IPv4 = n0(t, e)
	must(t, e.SetHost(t.Context(), "br0", h))
	other := networks.Host{Instance: "c2", MAC: "10:66:6a:00:00:02", IPv4: h.IPv4}
	if err := e.SetHost(t.Context(), "br0", other); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "c1") {
		t.Errorf("an address twice: got %v", err)
	}
	if err := e.SetHost(t.Context(), "br9", h); !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown network: got %v", err)
	}
}

// n0 returns an address on br0.
func n0(t *testing.T, e env) netip.Addr {
	t.Helper()
	return e.driver.Networks()["br0"].IPv4.Address.Addr().Next()
}

func TestLink(t *testing.T) {
	e := newEnv(t)
	e.kernel.links = []host.Link{{Name: "eth0", Kind: "physical"}}
	e.create(t, "br0", api.ConfigMap{"bridge.mtu": "1400"})
	must(t, e.Create(t.Context(), api.NetworksPost{Name: "mv", Type: "macvlan", NetworkPut: api.NetworkPut{Config: api.ConfigMap{"parent": "eth0"}}}))
	for name, want := range map[string]networks.Link{"br0": {Kind: "bridged", Parent: "br0", MTU: 1400}, "mv": {Kind: "macvlan", Parent: "eth0"}} {
		got, err := e.Link(t.Context(), name)
		if name == "br0" && got.Autoconf.Bits() != 64 {
			t.Errorf("guests make no addresses: %v", got)
		}
		got.Autoconf = want.Autoconf
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	if _, err := e.Link(t.Context(), "eth0"); !errs.Is(err, errs.NotFound) {
		t.Errorf("unknown: got %v", err)
	}
}

func TestListAndState(t *testing.T) {
	e := newEnv(t)
	e.create(t, "br0", api.ConfigMap{"ipv4.address": "10.1.1.1/24", "ipv6.address": "fd42::1/64"})
	e.kernel.links = []host.Link{
		{Name: "br0", Kind: "bridge", MAC: "02:66:6a:00:00:01", MTU: 1500, Up: true, Ports: []string{"veth1"}, Addresses: []netip.Prefix{
			netip.MustParsePrefix("10.1.1.1/24"), netip.MustParsePrefix("fe80::1/64"),
		}},
		{Name: "eth0", Kind: "physical"},
		{Name: "veth1", Kind: "unknown"},
	}
	e.instance(t, "c1", map[string]string{"ipv4.address": "10.1.1.5", "hwaddr": mac})
	all, err := e.List(t.Context())
	must(t, err)
	var got []string
	for _, n := range all {
		got = append(got, fmt.Sprintf("%s %s %v %v", n.Name, n.Type, n.Managed, n.UsedBy))
	}
	if want := []string{"br0 bridge true [/1.0/instances/c1]", "eth0 physical false []"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	st, err := e.State(t.Context(), "br0")
	must(t, err)
	want := []api.NetworkStateAddress{
		{Family: "inet", Address: "10.1.1.1", Netmask: "24", Scope: "global"}, {Family: "inet6", Address: "fe80::1", Netmask: "64", Scope: "link"},
	}
	if !slices.Equal(st.Addresses, want) || st.State != "up" || !slices.Equal(st.Bridge.UpperDevices, []string{"veth1"}) || st.Bridge.ID != "8000.02666a000001" {
		t.Errorf("got %+v %+v", st, st.Bridge)
	}
	leases, err := e.Leases(t.Context(), "br0")
	must(t, err)
	got = nil
	for _, l := range leases {
		got = append(got, strings.TrimSpace(l.Type+" "+l.Address+" "+l.Hostname+" "+l.Hwaddr))
	}
	if want := []string{"gateway 10.1.1.1 br0.gw", "gateway fd42::1 br0.gw", "static 10.1.1.5 c1 " + mac, "dynamic fd42::1266:6aff:fe00:1 c1 " + mac}; !slices.Equal(got, want) {
		t.Errorf("got leases %q", got)
	}
	for name, err := range map[string]error{
		"get": second(e.Get(t.Context(), "x9")), "state": second(e.State(t.Context(), "x9")), "leases": second(e.Leases(t.Context(), "x9")),
	} {
		if !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), `network "x9" not found`) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestRecover(t *testing.T) {
	e := newEnv(t)
	for _, n := range []string{"br0", "br1", "br2"} {
		e.create(t, n, nil)
	}
	before := e.driver.Networks()
	e.instance(t, "c1", map[string]string{"hwaddr": mac})
	must(t, e.DB.Do(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		return db.SetNetworkStatus(ctx, tx, "br2", db.Pending)
	}))
	must(t, os.MkdirAll(filepath.Join(e.Dir, "networks", "br2"), 0o755))

	// A machine has started, and br1 cannot be made.
	for _, n := range []string{"br0", "br1"} {
		e.driver.Disturb(n)
	}
	e.driver.Fail = func(step string) error {
		if step == "apply br1" {
			return errors.New("boom")
		}
		return nil
	}
	must(t, e.Recover(t.Context()))
	got := e.driver.Networks()
	if len(got["br0"].Hosts) != 1 || got["br0"].IPv4.Address != before["br0"].IPv4.Address {
		t.Errorf("br0: got %+v", got["br0"])
	}
	if _, ok := got["br2"]; ok {
		t.Error("the pending network is still there")
	}
	if _, err := e.Get(t.Context(), "br2"); !errs.Is(err, errs.NotFound) {
		t.Errorf("the pending network's record: got %v", err)
	}
	if _, err := os.Stat(filepath.Join(e.Dir, "networks", "br2")); !os.IsNotExist(err) {
		t.Errorf("the pending network's directory: got %v", err)
	}
	if n, _ := e.Get(t.Context(), "br1"); n.Status != "Errored" {
		t.Errorf("br1: got status %q", n.Status)
	}
	if _, err := e.Link(t.Context(), "br1"); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "boom") {
		t.Errorf("br1: got %v", err)
	}
	e.driver.Fail = nil
	if _, err := e.Link(t.Context(), "br1"); err != nil {
		t.Errorf("br1, repaired: got %v", err)
	}
	if n, _ := e.Get(t.Context(), "br1"); n.Status != "Created" {
		t.Errorf("br1, repaired: got status %q", n.Status)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
