package dnsmasq

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

func TestNames(t *testing.T) {
	on := func(p string) networks.Family { return networks.Family{Address: netip.MustParsePrefix(p), DHCP: true} }
	tests := map[string]struct {
		cfg       networks.Config
		want, not string // Lines.
	}{
		"private addresses are nobody else's": {
			networks.Config{IPv4: on("10.7.8.1/24"), IPv6: on("fd42:1:2:3::1/64")},
			"local=/8.7.10.in-addr.arpa/\nlocal=/3.0.0.0.2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa/", "",
		},
		"others are somebody's":         {networks.Config{IPv4: on("192.0.2.1/24"), IPv6: on("2001:db8::1/64")}, "", "local="},
		"a part of a domain is none":    {networks.Config{IPv4: on("10.7.8.1/25")}, "", "local="},
		"a network of names of no kind": {networks.Config{IPv4: on("10.7.8.1/24"), DNS: networks.DNS{Mode: networks.DNSNone}}, "", "local="},
		"forwards": {
			networks.Config{IPv4: on("192.0.2.1/24"), DNS: networks.DNS{Forward: []networks.DNSForward{
				{Domain: "corp.example", Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("[2001:db8::53]:5353")}},
			}}},
			"server=/corp.example/192.0.2.53\nserver=/corp.example/2001:db8::53#5353", "",
		},
		"aliases": {
			networks.Config{IPv4: on("192.0.2.1/24"), DNS: networks.DNS{Domain: "cuib"}, Aliases: []networks.Alias{{Name: "db", Host: "web"}}},
			"cname=db.cuib,db,web.cuib", "",
		},
		"a peer of another domain": {
			networks.Config{DNS: networks.DNS{Domain: "cuib"}, Peers: []networks.Peer{{IPv4: netip.MustParsePrefix("10.7.9.1/24"), Domain: "two", Server: netip.MustParseAddr("10.7.9.1")}}},
			"server=/two/10.7.9.1\nrev-server=10.7.9.0/24,10.7.9.1", "",
		},
		"a peer of the same domain": {
			networks.Config{DNS: networks.DNS{Domain: "cuib"}, Peers: []networks.Peer{{IPv4: netip.MustParsePrefix("10.7.9.1/24"), Shared: true, Names: []string{"db"}, Server: netip.MustParseAddr("10.7.9.1")}}},
			"local=/cuib/\nserver=/db.cuib/10.7.9.1\nrev-server=10.7.9.0/24,10.7.9.1", "",
		},
		"aliases without a domain":           {networks.Config{IPv4: on("192.0.2.1/24"), Aliases: []networks.Alias{{Name: "db", Host: "web"}}}, "cname=db,web", ""},
		"aliases where guests name themself": {networks.Config{IPv4: on("192.0.2.1/24"), DNS: networks.DNS{Mode: networks.DNSDynamic}, Aliases: []networks.Alias{{Name: "db", Host: "web"}}}, "", "cname="},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.cfg.Name, tt.cfg.Dir = "br0", "/d"
			text, err := config(tt.cfg, 1)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.SplitSeq(tt.want, "\n") {
				if !strings.Contains("\n"+text, "\n"+line) {
					t.Errorf("lacks %q:\n%s", line, text)
				}
			}
			if tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("has %q:\n%s", tt.not, text)
			}
		})
	}
}

func TestBadNames(t *testing.T) {
	for name, cfg := range map[string]networks.Config{
		"a domain with a line": {DNS: networks.DNS{Forward: []networks.DNSForward{{Domain: "x\ndhcp-script=/x"}}}},
		"an alias with a line": {Aliases: []networks.Alias{{Name: "a\nb", Host: "web"}}},
		"a host with a comma":  {Aliases: []networks.Alias{{Name: "a", Host: "web,x"}}},
		"no name":              {Aliases: []networks.Alias{{Name: "", Host: "web"}}},
		"one alias of two":     {Aliases: []networks.Alias{{Name: "db", Host: "a"}, {Name: "DB", Host: "b"}}},
		"an alias of itself":   {Aliases: []networks.Alias{{Name: "web", Host: "web"}}},
	} {
		cfg.Name, cfg.Dir = "br0", "/d"
		if _, err := config(cfg, 1); !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Conflict) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
