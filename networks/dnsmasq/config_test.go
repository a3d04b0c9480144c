package dnsmasq

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cuib/cuib/networks"
)

func TestConfig(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd42::1/64")
	on := func(p netip.Prefix) networks.Family { return networks.Family{Address: p, DHCP: true, Routing: true} }
	tests := map[string]struct {
		cfg       networks.Config
		want, not string // Lines.
	}{
		"defaults": {
			networks.Config{IPv4: on(v4), IPv6: on(v6), DNS: networks.DNS{Domain: "cuib"}},
			`interface=br0
except-interface=lo
user=nobody
domain=cuib
local=/cuib/
dhcp-ignore-names=tag:!known
dhcp-range=10.0.0.1,10.0.0.254,255.255.255.0,1h
enable-ra
dhcp-range=::,constructor:br0,ra-stateless,ra-names,64`,
			"dhcp-option=",
		},
		"ranges, expiry, gateway": {
			networks.Config{IPv4: networks.Family{
				Address: v4, DHCP: true, Expiry: time.Hour * 24, Gateway: netip.MustParseAddr("10.0.0.9"),
				Ranges: []networks.Range{
					{First: netip.MustParseAddr("10.0.0.2"), Last: netip.MustParseAddr("10.0.0.3")},
					{First: netip.MustParseAddr("10.0.0.5"), Last: netip.MustParseAddr("10.0.0.6")},
				},
			}},
			`dhcp-range=10.0.0.2,10.0.0.3,255.255.255.0,86400s
dhcp-range=10.0.0.5,10.0.0.6,255.255.255.0,86400s
dhcp-option=option:router,10.0.0.9`,
			"enable-ra",
		},
		"not routed": {
			networks.Config{IPv4: networks.Family{Address: v4, DHCP: true}, IPv6: networks.Family{Address: v6, DHCP: true}},
			"dhcp-option=option:router\nra-param=br0,60,0", "",
		},
		"stateful": {
			networks.Config{IPv6: networks.Family{Address: v6, DHCP: true, Stateful: true, Routing: true}},
			"dhcp-range=fd42::1,fd42::ffff:ffff:ffff:ffff,64,1h", "ra-stateless",
		},
		"no DHCPv6":   {networks.Config{IPv6: networks.Family{Address: v6}}, "dhcp-range=::,constructor:br0,ra-only,64", ""},
		"no DHCPv4":   {networks.Config{IPv4: networks.Family{Address: v4}}, "interface=br0", "dhcp-range="},
		"no names":    {networks.Config{IPv4: on(v4), DNS: networks.DNS{Mode: networks.DNSNone}}, "dhcp-ignore-names", "addn-hosts=/d/dnsmasq.names"},
		"their names": {networks.Config{IPv4: on(v4), DNS: networks.DNS{Mode: networks.DNSDynamic}}, "", "dhcp-ignore-names"},
		"MTU":         {networks.Config{IPv4: on(v4), IPv6: on(v6), MTU: 1400}, "dhcp-option=option:mtu,1400\nra-param=br0,mtu:1400,60", ""},
		"search and servers": {
			networks.Config{IPv4: on(v4), DNS: networks.DNS{
				Search: []string{"a.org", "b.org"}, Nameservers: []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("fd42::9"), netip.MustParseAddr("8.8.8.8")},
			}},
			`dhcp-option=option:domain-search,a.org,b.org
dhcp-option=option6:domain-search,a.org,b.org
dhcp-option=option:dns-server,9.9.9.9,8.8.8.8
dhcp-option=option6:dns-server,[fd42::9]`,
			"",
		},
		"raw": {networks.Config{IPv4: on(v4), Raw: "log-queries\nport=54\n"}, "log-queries\nport=54", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Name, tt.cfg.Dir = "br0", "/d"
			got, err := config(tt.cfg, 3)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.SplitSeq(tt.want, "\n") {
				if !strings.Contains("\n"+got, "\n"+line+"\n") && line != "" {
					t.Errorf("no line %q in\n%s", line, got)
				}
			}
			if tt.not != "" && strings.Contains(got, "\n"+tt.not) {
				t.Errorf("a line %q in\n%s", tt.not, got)
			}
		})
	}
}

func TestHostLine(t *testing.T) {
	const mac = "10:66:6A:00:00:01"
	v4, v6 := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd42::5")
	domain := networks.DNS{Domain: "cuib"}
	tests := map[string]struct {
		dns         networks.DNS
		h           networks.Host
		dhcp, names string // Both are empty for an error.
	}{
		"dynamic address": {domain, networks.Host{Name: "web", MAC: mac}, "10:66:6a:00:00:01,web.cuib\n", ""},
		"static": {
			domain,
			networks.Host{Name: "web", MAC: mac, IPv4: v4, IPv6: v6},
			"10:66:6a:00:00:01,10.0.0.5,[fd42::5],web.cuib\n", "10.0.0.5 web.cuib web\nfd42::5 web.cuib web\n",
		},
		"no domain":    {networks.DNS{}, networks.Host{Name: "web", MAC: mac, IPv4: v4}, "10:66:6a:00:00:01,10.0.0.5,web\n", "10.0.0.5 web\n"},
		"no names":     {networks.DNS{Mode: networks.DNSNone}, networks.Host{Name: "web", MAC: mac, IPv4: v4}, "10:66:6a:00:00:01,10.0.0.5\n", ""},
		"keyword":      {domain, networks.Host{Name: "1h", MAC: mac}, "10:66:6a:00:00:01,1h.cuib\n", ""},
		"bare keyword": {networks.DNS{}, networks.Host{Name: "ignore", MAC: mac}, "10:66:6a:00:00:01\n", ""},
		"below the domain": {
			domain,
			networks.Host{Name: "web.p", MAC: mac, IPv4: v4},
			"10:66:6a:00:00:01,10.0.0.5,0-10666a000001.cuib\n", "10.0.0.5 web.p.cuib\n10.0.0.9 web.p.cuib\nfd42:1::1266:6aff:fe00:1 web.p.cuib\n",
		},
		"below no domain":   {networks.DNS{}, networks.Host{Name: "web.p", MAC: mac, IPv4: v4}, "10:66:6a:00:00:01,10.0.0.5,0-10666a000001\n", "10.0.0.5 web.p\n10.0.0.9 web.p\nfd42:1::1266:6aff:fe00:1 web.p\n"},
		"below, no address": {domain, networks.Host{Name: "web.p", MAC: mac}, "", "10.0.0.9 web.p.cuib\n10.0.0.5 web.p.cuib\nfd42:1::1266:6aff:fe00:1 web.p.cuib\n"},
		"nobody":            {domain, networks.Host{MAC: mac, IPv4: v4}, "10:66:6a:00:00:01,10.0.0.5,0-10666a000001.cuib\n", ""},
		"below, no names":   {networks.DNS{Mode: networks.DNSNone}, networks.Host{Name: "web.p", MAC: mac}, "10:66:6a:00:00:01\n", ""},
		"no MAC":            {domain, networks.Host{Name: "web"}, "", ""},
		"tag":               {domain, networks.Host{Name: "set:x", MAC: mac}, "", ""},
		"ignore":            {domain, networks.Host{Name: "web,ignore", MAC: mac}, "", ""},
		"another line":      {domain, networks.Host{Name: "web\n10.0.0.1", MAC: mac}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := networks.Config{
				DNS:  tt.dns,
				IPv4: networks.Family{Address: netip.MustParsePrefix("10.0.0.1/24"), DHCP: true},
				IPv6: networks.Family{Address: netip.MustParsePrefix("fd42:1::1/64"), DHCP: true},
			}
			leases := []lease{
				{mac: strings.ToLower(mac), addr: netip.MustParseAddr("10.0.0.9")},
				{mac: strings.ToLower(mac), addr: v4},
				{mac: strings.ToLower(mac), addr: netip.MustParseAddr("192.0.2.9")},
				{mac: "10:66:6a:00:00:02", addr: netip.MustParseAddr("10.0.0.8")},
			}
			dhcp, names, err := hostLine(cfg, tt.h, givenTo(cfg, tt.h, leases))
			if dhcp != tt.dhcp || names != tt.names || (err != nil) != (tt.dhcp+tt.names == "") {
				t.Errorf("got %q, %q, %v", dhcp, names, err)
			}
		})
	}
}

func TestParseLeases(t *testing.T) {
	got := parseLeases(`1700000000 10:66:6a:00:00:01 10.0.0.5 web 01:10:66:6a:00:00:01
1700000000 10:66:6a:00:00:02 10.0.0.6 * *
duid 00:01:00:01:2e:00:00:00:02:66:6a:00:00:01
1700000000 16909060 fd42::5 db 00:03:00:01:10:66:6a:00:00:03
1700000000 T7 fd42::6 * 00:01:00:01:2e:00:00:00:10:66:6a:00:00:04
1700000000 8 fd42::7 * 00:02:00:00:ab:11:01
nonsense
1700000000 x y z w
`)
	want := []lease{
		{mac: "10:66:6a:00:00:01", addr: netip.MustParseAddr("10.0.0.5"), name: "web"},
		{mac: "10:66:6a:00:00:02", addr: netip.MustParseAddr("10.0.0.6")},
		{mac: "10:66:6a:00:00:03", addr: netip.MustParseAddr("fd42::5"), name: "db", iaid: 0x01020304},
		{mac: "10:66:6a:00:00:04", addr: netip.MustParseAddr("fd42::6"), iaid: 7},
		{addr: netip.MustParseAddr("fd42::7"), iaid: 8},
	}
	if len(got.server) != 14 || len(got.all) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, w := range want {
		g := got.all[i]
		g.id = nil
		if g.mac != w.mac || g.addr != w.addr || g.name != w.name || g.iaid != w.iaid {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
}
