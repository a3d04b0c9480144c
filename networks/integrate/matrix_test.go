package integrate_test

import (
	"context"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/bridge"
	"github.com/cuib/cuib/networks/firewall"
	"github.com/cuib/cuib/networks/integrate"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/networks/probe"
	"github.com/cuib/cuib/shared/testenv"
)

// A matrixCase is a firewall, and what is let through it.
type matrixCase struct {
	name  string
	raise func(t *testing.T)
	open  bool // All passes: its owner has a place for others, or it drops nothing.
}

func matrix() []matrixCase {
	rules := func(text string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("nft: %v: %s", err, out)
			}
		}
	}
	ufwLike := func(t *testing.T) {
		t.Helper()
		for _, c := range []string{
			"-P INPUT DROP", "-P FORWARD DROP", "-N ufw-before-input", "-N ufw-before-forward", "-A INPUT -j ufw-before-input", "-A FORWARD -j ufw-before-forward",
			"-A ufw-before-input -i lo -j ACCEPT", "-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			"-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
		} {
			testenv.Run(t, append([]string{"iptables-nft"}, strings.Fields(c)...)...)
		}
	}
	firewalldLike := rules(`table inet firewalld {
		chain filter_INPUT { type filter hook input priority 10; ct state established,related accept; iifname "lo" accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; reject with icmpx admin-prohibited; }
		chain filter_FORWARD { type filter hook forward priority 10; ct state established,related accept; reject with icmpx admin-prohibited; }
	}`)
	return []matrixCase{
		{"none", func(*testing.T) {}, true},
		{"a flush of all rules", rules("flush ruleset"), true},
		{"Docker", func(t *testing.T) { t.Helper(); networkstest.Docker(t, "-nft") }, true},
		{"Docker of iptables-legacy", func(t *testing.T) { t.Helper(); networkstest.Docker(t, "-legacy") }, true},
		{"ufw", func(t *testing.T) { t.Helper(); networkstest.UFW(t) }, true},
		{"firewalld", func(t *testing.T) { t.Helper(); networkstest.Firewalld(t, zone(t)) }, true},
		{"like ufw and not its program", ufwLike, false},
		{"like firewalld which does not run", firewalldLike, false},
		{"policies of nobody", rules(`table inet strict {
			chain in { type filter hook input priority 0; policy drop; ct state established accept; }
			chain through { type filter hook forward priority 0; policy drop; ct state established accept; }
		}`), false},
	}
}

// TestMatrix sends real packets through each firewall that is there before the
// network, or comes after it: they get through, or what drops them is named.
func TestMatrix(t *testing.T) {
	for _, c := range matrix() {
		for _, order := range []string{"before", "after"} {
			t.Run(c.name+" "+order, func(t *testing.T) {
				if c.name != "firewalld" { // Which has its bus in the environment.
					t.Parallel() // They mostly wait for what does not come.
				}
				networkstest.Host(t)
				networkstest.World(t)
				for _, via := range []string{"192.0.2.2", "2001:db8::2"} {
					must(t, networkstest.Route(netip.MustParseAddr(via)))
				}
				if order == "before" {
					c.raise(t)
				}
				cfg := network(t)
				if order == "after" {
					c.raise(t)
					// Which the daemon does as soon as it is told.
					if ok, err := nft.Intact(cfg); err != nil {
						t.Fatal(err)
					} else if !ok {
						must(t, bridge.Driver{}.Apply(t.Context(), cfg))
					}
				}
				h := integrate.New(t.TempDir())
				must(t, h.Open(t.Context(), cfg.Name, networks.IntegrateSafe, dropped(t, cfg)))
				c.named(t, cfg, dropped(t, cfg))
				must(t, h.Close(t.Context(), cfg.Name))
			})
		}
	}
}

// network makes a bridge with DHCP, DNS and router advertisements.
func network(t *testing.T) networks.Config {
	t.Helper()
	f := networks.Family{NAT: true, Routing: true, Firewall: true, DHCP: true}
	cfg := networks.Config{Name: networkstest.Name, Dir: networkstest.Dir(t), IPv4: f, IPv6: f, DNS: networks.DNS{Domain: "cuib"}}
	cfg.IPv4.Address = netip.MustParsePrefix("10.7.8.1/24")
	cfg.IPv6.Address = netip.MustParsePrefix("fd42:1:2:3::1/64")
	must(t, bridge.Driver{}.Apply(t.Context(), cfg))
	t.Cleanup(func() { must(t, bridge.Driver{}.Remove(context.WithoutCancel(t.Context()), cfg)) })
	return cfg
}

func dropped(t *testing.T, cfg networks.Config) []firewall.Obstacle {
	t.Helper()
	packets, err := firewall.Needs(cfg)
	must(t, err)
	r, err := firewall.Read(nft.Ours)
	must(t, err)
	_, err = r.ReadLegacy(t.Context())
	must(t, err)
	all, err := r.Obstacles(append(packets, firewall.Inward(cfg)...))
	must(t, err)
	return all
}

// named tries the network out. What fails has something in its way that is
// known, and all is well where nothing is.
func (m matrixCase) named(t *testing.T, cfg networks.Config, known []firewall.Obstacle) {
	t.Helper()
	checks, err := probe.Run(t.Context(), cfg)
	must(t, err)
	failures := 0
	for _, c := range checks {
		if c.Status == probe.OK {
			continue
		}
		failures++
		because := slices.ContainsFunc(known, func(o firewall.Obstacle) bool {
			return o.Rule != "" && o.Chain != "" && slices.ContainsFunc(c.Needs, func(n string) bool { return strings.HasPrefix(o.Packet.What, n) })
		})
		if m.open || !because && len(c.Needs) > 0 {
			t.Errorf("%s: %s: %s; known are %v", c.Name, c.Status, c.Detail, known)
		}
	}
	if !m.open && (failures == 0 || len(known) == 0) {
		t.Errorf("%d failures, known are %v", failures, known)
	}
}
