package nft_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/networkstest"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/testenv"
)

// What becomes of a try to reach somebody.
const (
	open    = "open"
	refused = "refused"
	silent  = "silent"
)

// silence is how long a try takes of which nothing is expected: too short a time
// makes a failure look like a success, and never the other way.
const silence = 300 * time.Millisecond

// A lab is a bridge with two guests, and a world beyond the host.
type lab struct {
	t            *testing.T
	one, two     *networkstest.NS
	world        *networkstest.NS
	cfg          networks.Config
	address      map[*networkstest.NS][]string
	listens      map[*networkstest.NS]bool
	here         *networkstest.NS
	mu           sync.Mutex
	booked       map[string][]acl.Range
	hostAddress4 string
}

func (l *lab) Addresses(name string) []acl.Range {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.booked[name]
}

func (l *lab) book(name string, addresses ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.booked[name] = ranges(addresses...)
}

func ranges(addresses ...string) []acl.Range {
	var all []acl.Range
	for _, a := range addresses {
		all = append(all, acl.OfAddress(netip.MustParseAddr(a)))
	}
	return all
}

func newLab(t *testing.T) *lab {
	testenv.NetNS(t)
	testenv.Kernel(t, "nft", "ip")
	l := &lab{t: t, here: networkstest.Here(t), booked: map[string][]acl.Range{}, listens: map[*networkstest.NS]bool{}, hostAddress4: "10.7.8.1"}
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", "br0", "type", "bridge"},
		{"ip", "link", "set", "br0", "up"},
		{"ip", "address", "add", "10.7.8.1/24", "dev", "br0"},
		{"ip", "address", "add", "fd42:7::1/64", "dev", "br0", "nodad"},
	} {
		testenv.Run(t, args...)
	}
	for _, key := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+key, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l.one, l.two, l.world = networkstest.Guest(t, "br0", "port1", ""), networkstest.Guest(t, "br0", "port2", ""), networkstest.World(t)
	l.address = map[*networkstest.NS][]string{
		l.one: {"10.7.8.11", "fd42:7::11"}, l.two: {"10.7.8.12", "fd42:7::12"}, l.world: {"192.0.2.2", "2001:db8::2"}, l.here: {"10.7.8.1", "fd42:7::1"},
	}
	for _, ns := range []*networkstest.NS{l.one, l.two} {
		ns.Must(t, func() error {
			return errors.Join(
				networkstest.Address("eth0", l.address[ns][0]+"/24"), networkstest.Address("eth0", l.address[ns][1]+"/64"),
				networkstest.Route(netip.MustParseAddr("10.7.8.1")), networkstest.Route(netip.MustParseAddr("fd42:7::1")),
			)
		})
	}
	l.world.Must(t, func() error {
		return errors.Join(networkstest.Route(netip.MustParseAddr("192.0.2.1")), networkstest.Route(netip.MustParseAddr("2001:db8::1")))
	})
	f := networks.Family{Routing: true, Firewall: true}
	l.cfg = networks.Config{Name: "br0", IPv4: f, IPv6: f}
	l.cfg.IPv4.Address, l.cfg.IPv6.Address = netip.MustParsePrefix("10.7.8.1/24"), netip.MustParsePrefix("fd42:7::1/64")
	l.serve()
	return l
}

// serve has everybody answer on some ports of TCP.
func (l *lab) serve() {
	for ns := range l.address {
		for _, port := range []string{"80", "81", "443"} {
			var s net.Listener
			ns.Must(l.t, func() (err error) {
				s, err = new(net.ListenConfig).Listen(l.t.Context(), "tcp", ":"+port)
				return err
			})
			l.t.Cleanup(func() { s.Close() })
			go func() {
				for {
					c, err := s.Accept()
					if err != nil {
						return
					}
					go func() {
						_, _ = c.Read(make([]byte, 1))
						_, _ = c.Write([]byte("x"))
						_, _ = c.Read(make([]byte, 1))
						_ = c.Close()
					}()
				}
			}()
		}
	}
}

// try connects, and tells what came of it. Wanted is what is hoped for.
func (l *lab) try(from, to *networkstest.NS, six int, port, wanted string) (string, net.Conn) {
	patience := testenv.Patience
	if wanted == silent {
		patience = silence
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	var c net.Conn
	err := from.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(l.address[to][six], port))
		return err
	})
	switch {
	case err == nil:
		return open, c
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EACCES):
		return refused, nil
	}
	return silent, nil
}

func (l *lab) want(what string, from, to *networkstest.NS, port, wanted string) {
	l.t.Helper()
	for six := range 2 {
		got, c := l.try(from, to, six, port, wanted)
		if got != wanted {
			l.t.Errorf("%s, to %s port %s: got %s, want %s", what, l.address[to][six], port, got, wanted)
		}
		if c != nil {
			_ = c.Close()
		}
	}
}

// alive sends a byte each way, if it is the first time.
func alive(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(testenv.Patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

func (l *lab) apply(p *acl.Policy) {
	l.t.Helper()
	if p != nil {
		p.Network, p.Book = "br0", l
		p.Gateways = []netip.Addr{netip.MustParseAddr("10.7.8.1"), netip.MustParseAddr("fd42:7::1")}
		acl.Sort(p.Ingress.Rules)
		acl.Sort(p.Egress.Rules)
	}
	l.cfg.ACL = p
	if err := nft.Apply(l.cfg); err != nil {
		l.t.Fatal(err)
	}
	if ok, err := nft.Intact(l.cfg); err != nil || !ok {
		l.t.Fatalf("the network's table is not intact: %v", err)
	}
}

func tcp(action string, source, destination acl.Side, ports ...uint16) acl.Rule {
	r := acl.Rule{ACL: "a", Action: action, Protocol: acl.TCP, Source: source, Destination: destination, ICMPType: -1, ICMPCode: -1}
	for _, p := range ports {
		r.DestinationPorts = append(r.DestinationPorts, acl.Ports{First: p, Last: p})
	}
	return r
}

var everybody = acl.Side{All: true}

func TestNetworkACL(t *testing.T) {
	l := newLab(t)
	l.apply(nil)
	for _, to := range []*networkstest.NS{l.two, l.world, l.here} {
		l.want("no ACL", l.one, to, "80", open)
	}
	l.want("no ACL, in", l.world, l.one, "80", open)
	_, before := l.try(l.one, l.world, 0, "80", open)
	l.apply(&acl.Policy{
		Egress:  acl.Direction{Default: acl.Reject, Rules: []acl.Rule{tcp(acl.Allow, everybody, acl.Side{Addresses: append(ranges("192.0.2.2", "198.51.100.1"), acl.OfPrefix(netip.MustParsePrefix("2001:db8::/64")))}, 80, 81), tcp(acl.Drop, everybody, everybody, 81)}},
		Ingress: acl.Direction{Default: acl.Drop, Rules: []acl.Rule{tcp(acl.Allow, acl.Side{Names: []string{"friend"}}, acl.Side{Addresses: ranges("10.7.8.11", "fd42:7::11")})}},
	})
	l.want("allowed", l.one, l.world, "80", open)
	l.want("drop comes before allow", l.one, l.world, "81", silent)
	l.want("by default", l.one, l.world, "443", refused)
	l.want("the host, by default", l.one, l.here, "80", refused)
	l.want("within the bridge", l.one, l.two, "80", open)
	l.want("in, nobody has the name", l.world, l.one, "80", silent)
	if err := alive(before); err != nil {
		t.Errorf("a connection from before is not there any more: %v", err)
	}
	l.book("friend", "192.0.2.2", "2001:db8::2")
	if err := nft.Readdress(l.cfg); err != nil {
		t.Fatal(err)
	}
	l.want("in, by name", l.world, l.one, "80", open)
	l.want("in, not for the other", l.world, l.two, "80", silent)
	counts, err := nft.CountACL(l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		direction string
		rule      int
	}{{acl.Ingress, 0}, {acl.Ingress, -1}, {acl.Egress, 0}, {acl.Egress, 1}, {acl.Egress, -1}} {
		if !slices.ContainsFunc(counts, func(c nft.Count) bool {
			return c.Direction == want.direction && c.Rule == want.rule && c.Packets > 0 && c.Bytes > 0
		}) {
			t.Errorf("got no count of rule %d of %s: %+v", want.rule, want.direction, counts)
		}
	}
	testenv.Run(t, "nft", "flush", "chain", "inet", "cuib_br0", "acl-egress")
	if ok, err := nft.Intact(l.cfg); err != nil || ok {
		t.Errorf("a chain without rules is intact: %v", err)
	}
}

func TestPortACL(t *testing.T) {
	l := newLab(t)
	s := nft.NewACLPorts("/lab")
	var policy *acl.Policy
	s.Serve(func(acl.Ref) (*acl.Policy, error) {
		policy.Network, policy.Book = "br0", l
		policy.Gateways = []netip.Addr{netip.MustParseAddr("10.7.8.1"), netip.MustParseAddr("fd42:7::1")}
		acl.Sort(policy.Ingress.Rules)
		acl.Sort(policy.Egress.Rules)
		return policy, nil
	})
	policy = &acl.Policy{
		Egress:  acl.Direction{Default: acl.Reject, Rules: []acl.Rule{tcp(acl.Allow, everybody, everybody, 80), tcp(acl.AllowStateless, everybody, everybody, 81)}},
		Ingress: acl.Direction{Default: acl.Reject, Rules: []acl.Rule{tcp(acl.Allow, acl.Side{Names: []string{"friend"}}, everybody, 80)}},
	}
	port := nft.ACLPort{Link: "port1", Ref: acl.Ref{Network: "br0", ACLs: []string{"a"}}}
	if err := s.Set(port); err != nil {
		t.Fatal(err)
	}
	if rules := testenv.Run(t, "nft", "list", "ruleset"); strings.Count(rules, "size 32768") != 4 || strings.Contains(rules, "cuib-probe") {
		t.Errorf("a port has not got four sets of the full size, or something else:\n%s", rules)
	}
	for _, to := range []*networkstest.NS{l.two, l.world, l.here} {
		l.want("allowed", l.one, to, "80", open)
		l.want("answers are not, without a state", l.one, to, "81", silent)
		l.want("by default", l.one, to, "443", refused)
		l.want("in, nobody has the name", to, l.one, "80", silent)
	}
	l.want("others have no ACL", l.two, l.world, "443", open)
	_, before := l.try(l.one, l.two, 0, "80", open)
	l.book("friend", "10.7.8.12", "fd42:7::12")
	if err := s.Readdress(); err != nil {
		t.Fatal(err)
	}
	l.want("in, by name", l.two, l.one, "80", open)
	l.want("in, not for the other", l.world, l.one, "80", silent)
	policy = &acl.Policy{Egress: acl.Direction{Default: acl.Drop}, Ingress: acl.Direction{Default: acl.Drop}}
	if err := s.Refresh("b"); err != nil {
		t.Fatal(err)
	}
	l.want("another ACL has changed", l.one, l.two, "80", open)
	if err := s.Refresh("a"); err != nil {
		t.Fatal(err)
	}
	l.want("after the change", l.one, l.two, "80", silent)
	if err := alive(before); err != nil {
		t.Errorf("a connection from before is not there any more: %v", err)
	}
	_, counts, err := s.Count("port1")
	if err != nil || !slices.ContainsFunc(counts, func(c nft.Count) bool { return c.Direction == acl.Egress && c.Rule == -1 && c.Packets > 0 }) {
		t.Errorf("got counts %+v, %v", counts, err)
	}
	repairs(t, s)
	if err := s.Unset("port1"); err != nil {
		t.Fatal(err)
	}
	l.want("no ACL any more", l.one, l.two, "443", open)
	if rules := testenv.Run(t, "nft", "list", "tables"); rules != "" {
		t.Errorf("something is left: %s", rules)
	}
}

// repairs tests that the table comes back, and is taken over by the next daemon.
func repairs(t *testing.T, s *nft.ACLPorts) {
	t.Helper()
	if missing, err := s.Restore(); err != nil || missing {
		t.Errorf("restore of what is there: got %t, %v", missing, err)
	}
	testenv.Run(t, "nft", "flush", "ruleset")
	if missing, err := s.Restore(); err != nil || !missing {
		t.Errorf("restore: got %t, %v", missing, err)
	}
	if missing, err := s.Restore(); err != nil || missing {
		t.Errorf("restore of what is there: got %t, %v", missing, err)
	}
}

func TestPortACLsOfMany(t *testing.T) {
	l := newLab(t)
	s := nft.NewACLPorts("/lab")
	s.Serve(func(r acl.Ref) (*acl.Policy, error) {
		return &acl.Policy{
			Network: r.Network, Book: l, Egress: acl.Direction{Default: acl.Allow, Rules: []acl.Rule{tcp(acl.Drop, everybody, acl.Side{Names: r.ACLs}, 80)}}, Ingress: acl.Direction{Default: acl.Allow},
		}, nil
	})
	l.book("b", "10.7.8.12", "fd42:7::12")
	ref := func(acls ...string) acl.Ref { return acl.Ref{Network: "br0", ACLs: acls} }
	for _, p := range []nft.ACLPort{{Link: "port1", Ref: ref("a")}, {Link: "port2", Ref: ref("a")}, {Link: "port1", Ref: ref("b")}, {Link: "port1", Ref: ref("b")}, {Link: "port2", Ref: ref("b")}} {
		if err := s.Set(p); err != nil {
			t.Fatal(err)
		}
		if missing, err := s.Restore(); err != nil || missing {
			t.Fatalf("%+v: the table is not as it should be: %v", p, err)
		}
	}
	l.want("dropped", l.one, l.two, "80", silent)
	l.want("allowed", l.one, l.two, "81", open)
	ports := nft.NewPorts("/lab")
	testenv.Run(t, "ip", "link", "add", "ifb1", "up", "type", "ifb")
	if err := ports.Set(nft.Port{Link: "port1", Through: "ifb1"}); err != nil {
		t.Fatal(err)
	}
	l.want("dropped before a limit", l.one, l.two, "80", silent)
	l.want("allowed through a limit", l.one, l.two, "81", open)
	if err := ports.Unset("port1"); err != nil {
		t.Fatal(err)
	}
	next := nft.NewACLPorts("/lab")
	next.Serve(func(acl.Ref) (*acl.Policy, error) { return nil, fmt.Errorf("gone") })
	if err := next.Take([]nft.ACLPort{{Link: "port1", Ref: ref("b")}}); err == nil {
		t.Error("what is not there is taken over")
	}
	testenv.Run(t, "ip", "link", "del", "port2")
	if err := s.Unset("port2"); err != nil {
		t.Fatal(err)
	}
	if err := s.Unset("port1"); err != nil {
		t.Fatal(err)
	}
	if rules := testenv.Run(t, "nft", "list", "tables"); rules != "" {
		t.Errorf("something is left: %s", rules)
	}
}

// TestRefusedACL gives a port ACLs that the kernel does not take: it keeps those
// that it had.
func TestRefusedACL(t *testing.T) {
	l := newLab(t)
	s := nft.NewACLPorts("/lab")
	s.Serve(func(r acl.Ref) (*acl.Policy, error) {
		p := &acl.Policy{Network: r.Network, Book: l, Egress: acl.Direction{Default: acl.Allow}, Ingress: acl.Direction{Default: acl.Allow}}
		if r.ACLs[0] == "wrong" { // There is no room for that in what is logged.
			p.Egress.Logged, p.Egress.Owner, p.Network = true, "wrong", strings.Repeat("x", 200)
		}
		return p, nil
	})
	set := func(link, name string) error {
		return s.Set(nft.ACLPort{Link: link, Ref: acl.Ref{Network: "br0", ACLs: []string{name}}})
	}
	for _, link := range []string{"port1", "port1", "port2"} {
		if err := set(link, "a"); err != nil {
			t.Fatal(err)
		}
		if err := set(link, "wrong"); err == nil {
			t.Fatal("the kernel takes it")
		}
		if missing, err := s.Restore(); err != nil || missing {
			t.Errorf("%s has not got what it had: %t, %v", link, missing, err)
		}
	}
	if err := s.Unset("port1"); err != nil {
		t.Fatal(err)
	}
	if missing, err := s.Restore(); err != nil || missing {
		t.Errorf("port2 has not got what it had: %t, %v", missing, err)
	}
	if err := s.Unset("port2"); err != nil {
		t.Fatal(err)
	}
	if rules := testenv.Run(t, "nft", "list", "tables"); rules != "" {
		t.Errorf("something is left: %s", rules)
	}
}
