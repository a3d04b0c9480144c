package admission_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/admission"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/host"
	"github.com/cuib/cuib/shared/testenv"
)

// links are a host with two uplinks, and a bridge with a port.
type links struct {
	mu  sync.Mutex // Guards err.
	err error
}

func (l *links) Links() ([]host.Link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	link := func(name, kind, master string, addresses ...string) host.Link {
		out := host.Link{Name: name, Kind: kind, Master: master}
		for _, a := range addresses {
			out.Addresses = append(out.Addresses, netip.MustParsePrefix(a))
		}
		return out
	}
	return []host.Link{
		link("lo", "loopback", "", "127.0.0.1/8", "::1/128"),
		link("up0", "physical", "", "192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"),
		link("up1", "physical", "", "198.51.100.1/24"),
		link("br0", "bridge", ""), link("port", "veth", "br0", "203.0.113.1/24"),
	}, l.err
}

const (
	accepts = "nft add table inet f; nft add chain inet f in '{ type filter hook input priority 0; }';"
	drops   = "nft add table inet f; nft add chain inet f in '{ type filter hook input priority 0; policy drop; }';"
)

func entry(listen string, protocol uint8, first, last uint16) networks.Published {
	return networks.Published{
		Listen: netip.MustParseAddr(listen), Protocol: protocol, First: first, Last: last,
		Targets: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:0")},
	}
}

// described tells of each entry where it listens and who gets there.
func described(list []networks.Published) string {
	var out []string
	for _, e := range list {
		text := fmt.Sprintf("%s:%d-%d", e.Listen, e.First, e.Last)
		for _, p := range e.Gate {
			word := map[bool]string{true: "open", false: "shut"}[p.Open]
			if p.In != "" {
				word += " " + p.In
			}
			if p.Source.IsValid() {
				word += " " + p.Source.String()
			}
			text += " (" + word + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// TestAdmit publishes ports of hosts whose firewalls let in this and that.
func TestAdmit(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	ports := entry("192.0.2.1", unix.IPPROTO_TCP, 80, 83)
	for name, tt := range map[string]struct {
		rules string
		entry networks.Published
		want  string
	}{
		"no firewall":        {"", ports, "192.0.2.1:80-83"},
		"no input chain":     {"nft add table inet f; nft add chain inet f fw '{ type filter hook forward priority 0; policy drop; }'", ports, "192.0.2.1:80-83"},
		"nothing":            {drops, ports, "192.0.2.1:80-83 (shut)"},
		"some of the ports":  {drops + "nft add rule inet f in tcp dport '{ 81, 82 }' accept", ports, "192.0.2.1:80-80 (shut), 192.0.2.1:81-82, 192.0.2.1:83-83 (shut)"},
		"one is refused":     {accepts + "nft add rule inet f in tcp dport 82 drop", ports, "192.0.2.1:80-81, 192.0.2.1:82-82 (shut), 192.0.2.1:83-83"},
		"by an interface":    {drops + "nft add rule inet f in iifname up1 accept", ports, "192.0.2.1:80-83 (shut up0) (open up1) (shut br0)"},
		"from a network":     {drops + "nft add rule inet f in ip saddr 10.0.0.0/8 accept", ports, "192.0.2.1:80-83 (open 10.0.0.0/8) (shut)"},
		"other protocol":     {drops + "nft add rule inet f in udp dport 80-83 accept", ports, "192.0.2.1:80-83 (shut)"},
		"UDP":                {drops + "nft add rule inet f in udp dport 53 accept", entry("192.0.2.1", unix.IPPROTO_UDP, 53, 53), "192.0.2.1:53-53"},
		"IPv6":               {accepts + "nft add rule inet f in meta nfproto ipv6 drop", entry("2001:db8::1", unix.IPPROTO_TCP, 80, 80), "2001:db8::1:80-80 (shut)"},
		"all addresses":      {drops + "nft add rule inet f in tcp dport 80 accept", entry("0.0.0.0", unix.IPPROTO_TCP, 80, 81), "0.0.0.0:80-80, 0.0.0.0:81-81 (shut)"},
		"one address of all": {drops + "nft add rule inet f in ip daddr 198.51.100.1 accept", entry("0.0.0.0", unix.IPPROTO_TCP, 80, 80), "192.0.2.1:80-80 (shut), 198.51.100.1:80-80"},
		"all of IPv6":        {drops, entry("::", unix.IPPROTO_TCP, 80, 80), ":::80-80 (shut)"},
		"many ports":         {drops, entry("192.0.2.1", unix.IPPROTO_TCP, 1, 65535), "192.0.2.1:1-65535 (shut)"},
		"everything, open":   {accepts, entry("192.0.2.1", 0, 0, 0), "192.0.2.1:0-0"},
		"everything, shut":   {drops + "nft add rule inet f in tcp dport 80 accept", entry("192.0.2.1", 0, 0, 0), "192.0.2.1:0-0 (shut)"},
		"our own tables":     {"nft add table inet cuib-br0; nft add chain inet cuib-br0 in '{ type filter hook input priority 0; policy drop; }'", ports, "192.0.2.1:80-83"},
	} {
		t.Run(name, func(t *testing.T) {
			testenv.NetNS(t) // A subtest has a thread of its own, which is not in that of its parent.
			if tt.rules != "" {
				testenv.Run(t, "sh", "-ec", tt.rules)
			}
			s := &admission.Service{Host: &links{}, Log: slog.New(slog.DiscardHandler)}
			got := s.Admit(t.Context(), []networks.Published{tt.entry})
			if described(got) != tt.want {
				t.Errorf("got  %s\nwant %s", described(got), tt.want)
			}
			for _, e := range got {
				if !slices.Equal(e.Targets, tt.entry.Targets) {
					t.Errorf("%s leads to %v", e.Listen, e.Targets)
				}
			}
		})
	}
}

// TestUnreadable has a host of which nothing is known: nothing is let in.
func TestUnreadable(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	host := &links{err: errors.New("boom")}
	s := &admission.Service{Host: host, Log: slog.New(slog.DiscardHandler)}
	list := []networks.Published{entry("192.0.2.1", unix.IPPROTO_TCP, 80, 80)}
	if got := described(s.Admit(t.Context(), list)); got != "192.0.2.1:80-80 (shut)" {
		t.Errorf("got %s", got)
	}
	host.mu.Lock()
	host.err = nil
	host.mu.Unlock()
	if got := described(s.Admit(t.Context(), list)); got != "192.0.2.1:80-80" {
		t.Errorf("when it can be read again: got %s", got)
	}
}

// TestFollows changes the firewall, and those are told who want to know. All is
// done by the one thread that is in the test's network namespace.
func TestFollows(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience)
	defer cancel()
	list := []networks.Published{entry("192.0.2.1", unix.IPPROTO_TCP, 80, 80)}
	s := &admission.Service{Host: &links{}, Log: slog.New(slog.DiscardHandler)}
	steps := []struct {
		change func()
		want   string
	}{
		{func() { testenv.Run(t, "sh", "-ec", drops) }, "0.0.0.0:80-80 (shut)"},
		{func() { testenv.Run(t, "sh", "-ec", "nft add rule inet f in iifname up0 accept") }, "0.0.0.0:80-80 (open up0) (shut up1) (shut br0)"},
		{func() { testenv.Run(t, "sh", "-ec", "nft add rule inet f in ip daddr 192.0.2.1 accept") }, "192.0.2.1:80-80, 198.51.100.1:80-80 (open up0) (shut up1) (shut br0)"},
		{func() { testenv.Run(t, "sh", "-ec", "nft delete table inet f") }, "0.0.0.0:80-80"},
	}
	list[0].Listen = netip.IPv4Unspecified()
	n := 0
	s.Changed = []func(context.Context) error{func(ctx context.Context) error {
		if got := described(s.Admit(ctx, list)); got != steps[n].want {
			t.Errorf("step %d: got %s, want %s", n, got, steps[n].want)
		}
		if n++; n == len(steps) {
			cancel()
			return nil
		}
		steps[n].change()
		return nil
	}}
	if got := described(s.Admit(ctx, list)); got != "0.0.0.0:80-80" {
		t.Fatalf("got %s", got)
	}
	steps[0].change()
	if err := s.Run(ctx); err != nil || n != len(steps) {
		t.Errorf("told of %d changes of %d: %v", n, len(steps), err)
	}
}

// TestLegacyFollows changes rules of iptables-legacy alone, of which nobody is
// told.
func TestLegacyFollows(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "iptables-legacy", "iptables-legacy-save")
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience)
	defer cancel()
	list := []networks.Published{entry("192.0.2.1", unix.IPPROTO_TCP, 80, 80)}
	s := &admission.Service{Host: &links{}, Log: slog.New(slog.DiscardHandler)}
	steps := []struct{ rule, want string }{
		{"-P INPUT DROP", "192.0.2.1:80-80 (shut)"},
		{"-A INPUT -p tcp --dport 80 -j ACCEPT", "192.0.2.1:80-80"},
		{"-R INPUT 1 -p tcp --dport 81 -j ACCEPT", "192.0.2.1:80-80 (shut)"}, // As long as the one before.
		{"-P INPUT ACCEPT", "192.0.2.1:80-80"},
	}
	change := func(n int) { testenv.Run(t, "sh", "-ec", "iptables-legacy "+steps[n].rule) }
	n := 0
	s.Changed = []func(context.Context) error{func(ctx context.Context) error {
		if got := described(s.Admit(ctx, list)); got != steps[n].want {
			t.Errorf("after %s: got %s, want %s", steps[n].rule, got, steps[n].want)
		}
		if n++; n == len(steps) {
			cancel()
			return nil
		}
		change(n)
		return nil
	}}
	if got := described(s.Admit(ctx, list)); got != "192.0.2.1:80-80" {
		t.Errorf("at first: got %s", got)
	}
	change(0)
	if err := s.Run(ctx); err != nil || n != len(steps) {
		t.Errorf("told of %d changes of %d: %v", n, len(steps), err)
	}
}

// TestTriesAgain has a host that cannot be read at first, and somebody who cannot
// follow what it lets in at first. Nothing of the host changes.
func TestTriesAgain(t *testing.T) {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft")
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience)
	defer cancel()
	host := &links{err: errors.New("boom")}
	s := &admission.Service{Host: host, Log: slog.New(slog.DiscardHandler)}
	list := []networks.Published{entry("192.0.2.1", unix.IPPROTO_TCP, 80, 80)}
	if got := described(s.Admit(ctx, list)); got != "192.0.2.1:80-80 (shut)" {
		t.Errorf("got %s", got)
	}
	host.err = nil
	var told []string
	s.Changed = []func(context.Context) error{
		func(ctx context.Context) error {
			told = append(told, described(s.Admit(ctx, list)))
			if len(told) == 1 {
				return errors.New("no room")
			}
			return nil
		},
		func(context.Context) error {
			told = append(told, "the second")
			if len(told) == 4 {
				cancel()
			}
			return nil
		},
	}
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	if want := []string{"192.0.2.1:80-80", "the second", "192.0.2.1:80-80", "the second"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
