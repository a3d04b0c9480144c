package bridge_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/shared/testenv"
)

// ask asks the bridge for a name, from a namespace, and returns the answers.
func ask(t *testing.T, n *networkstest.NS, cfg networks.Config, name string, typ uint16) (rcode int, answers []string) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), typ)
	testenv.Eventually(t, "an answer for "+name, func() bool {
		var reply *dns.Msg
		err := n.Do(func() (err error) {
			c := dns.Client{Timeout: time.Second}
			reply, _, err = c.ExchangeContext(t.Context(), m, cfg.IPv4.Address.Addr().String()+":53")
			return err
		})
		if err != nil {
			return false
		}
		rcode, answers = reply.Rcode, nil
		for _, rr := range reply.Answer {
			answers = append(answers, strings.Join(strings.Fields(rr.String())[3:], " "))
		}
		return true
	})
	return rcode, answers
}

func TestNamesInside(t *testing.T) {
	testenv.Kernel(t)
	cfg := config()
	cfg.IPv6.Stateful = true
	cfg.Hosts = []networks.Host{
		{Name: "web", MAC: mac1},
		{Name: "db", MAC: mac2, IPv4: netip.MustParseAddr("10.7.8.20"), IPv6: netip.MustParseAddr("fd42:1:2:3::20")},
	}
	cfg.Aliases = []networks.Alias{{Name: "store", Host: "db"}, {Name: "www", Host: "web"}}
	cfg = apply(t, cfg)
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	web4 := guest.DHCP(t, mac1, "web").Address
	must(t, guest.Do(func() error { return networkstest.Address("eth0", web4.String()+"/24") }))

	reverse := func(a netip.Addr) string {
		name, err := dns.ReverseAddr(a.String())
		must(t, err)
		return name
	}
	for _, tt := range []struct {
		name string
		typ  uint16
		want []string
	}{
		{"www.cuib", dns.TypeA, []string{"CNAME web.cuib.", "A " + web4.String()}},
		{"www", dns.TypeA, []string{"CNAME web.cuib.", "A " + web4.String()}},
		{"store.cuib", dns.TypeAAAA, []string{"CNAME db.cuib.", "AAAA fd42:1:2:3::20"}},
		{reverse(web4), dns.TypePTR, []string{"PTR web.cuib."}},
		{reverse(cfg.Hosts[1].IPv4), dns.TypePTR, []string{"PTR db.cuib."}},
		{reverse(cfg.Hosts[1].IPv6), dns.TypePTR, []string{"PTR db.cuib."}},
	} {
		if rcode, got := ask(t, guest, cfg, tt.name, tt.typ); rcode != dns.RcodeSuccess || !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: got %s %v, want %v", tt.name, dns.TypeToString[tt.typ], dns.RcodeToString[rcode], got, tt.want)
		}
	}
	// From the host, too; and what the network alone can know is asked for nowhere else.
	host := networkstest.Here(t)
	if _, got := ask(t, host, cfg, "store.cuib", dns.TypeA); !slices.Equal(got, []string{"CNAME db.cuib.", "A 10.7.8.20"}) {
		t.Errorf("the host got %v", got)
	}
	for _, name := range []string{"nobody.cuib", reverse(netip.MustParseAddr("10.7.8.99")), reverse(netip.MustParseAddr("fd42:1:2:3::99"))} {
		if rcode, got := ask(t, guest, cfg, name, dns.TypePTR); rcode != dns.RcodeNameError {
			t.Errorf("%s: got %s %v", name, dns.RcodeToString[rcode], got)
		}
	}

	// An alias that is gone is no name any more, and leases stay.
	cfg.Aliases = cfg.Aliases[:1]
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	if rcode, got := ask(t, guest, cfg, "www.cuib", dns.TypeA); rcode != dns.RcodeNameError {
		t.Errorf("got %s %v", dns.RcodeToString[rcode], got)
	}
	if _, got := ask(t, guest, cfg, "web.cuib", dns.TypeA); !slices.Equal(got, []string{"A " + web4.String()}) {
		t.Errorf("after the change: got %v", got)
	}
}

func TestForwardedDomains(t *testing.T) {
	testenv.Kernel(t)
	networkstest.Host(t)
	world := networkstest.World(t)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		reply := new(dns.Msg)
		reply.SetReply(m)
		rr, err := dns.NewRR(m.Question[0].Name + " 60 IN A 192.0.2.77")
		if err == nil {
			reply.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(reply)
	})
	server := &dns.Server{PacketConn: world.Listen(t, "192.0.2.2:5353"), Handler: handler}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })

	cfg := config()
	cfg.DNS.Forward = []networks.DNSForward{{Domain: "corp.example", Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:5353")}}}
	cfg.Dir = filepath.Join(networkstest.Dir(t), cfg.Name)
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	t.Cleanup(func() { must(t, bridge.Driver{}.Remove(context.WithoutCancel(t.Context()), cfg)) })
	guest := networkstest.Guest(t, cfg.Name, "veth1", mac1)
	lease := guest.DHCP(t, mac1, "web")
	must(t, guest.Do(func() error { return networkstest.Address("eth0", lease.Address.String()+"/24") }))
	if got := guest.Lookup(t, cfg.IPv4.Address.Addr(), "git.corp.example", dnsmessage.TypeA); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("192.0.2.77")}) {
		t.Errorf("got %v", got)
	}
}
