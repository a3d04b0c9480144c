package axfr_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/cuib/cuib/networks/axfr"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/testenv"
)

const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="

// source has the zone example.org.
type source struct {
	mu    sync.Mutex
	peers []axfr.Peer
	many  int // Records.
}

func (s *source) Peers(_ context.Context, zone string) ([]axfr.Peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.EqualFold(zone, "example.org") {
		return nil, nil
	}
	return s.peers, nil
}

func (s *source) Secret(_ context.Context, key string) (string, error) {
	if key == "example.org_ns1." {
		return secret, nil
	}
	return "", nil
}

func (s *source) Zone(context.Context, string) ([]dns.RR, error) {
	lines := []string{
		"example.org. 60 IN SOA ns.example.org. hostmaster.example.org. 7 60 60 60 60", "example.org. 60 IN NS ns.example.org.",
	}
	for i := range s.many {
		lines = append(lines, fmt.Sprintf("h%d.example.org. 60 IN TXT %q", i, strings.Repeat("x", 200)))
	}
	var all []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			return nil, err
		}
		all = append(all, rr)
	}
	return all, nil
}

// server returns a server, and where it listens.
func server(t *testing.T, s *source) (srv *axfr.Server, addr string) {
	t.Helper()
	srv = &axfr.Server{Source: s, Log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { srv.Close(context.WithoutCancel(t.Context())) })
	return srv, listen(t, srv)
}

// listen makes the server listen on a port, and returns where. Somebody else
// can take a free one before it does.
func listen(t *testing.T, srv *axfr.Server) string {
	t.Helper()
	var to netip.AddrPort
	testenv.Eventually(t, "a free port", func() bool {
		to = free(t)
		return srv.Listen(t.Context(), to) == nil
	})
	return to.String()
}

// free is an address that nobody listens on, at least now.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

// question is a question of somebody who may sign it.
type question struct {
	name      string
	typ       uint16
	net       string
	key       string
	secret    string
	algorithm string
	serial    uint32
}

func (q question) ask(t *testing.T, to string) (*dns.Msg, error) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(q.name), q.typ)
	if q.typ == dns.TypeIXFR {
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: dns.Fqdn(q.name), Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Serial: q.serial, Ns: ".", Mbox: "."}}
	}
	c := dns.Client{Net: q.net, Timeout: testenv.Patience}
	if q.key != "" {
		if q.algorithm == "" {
			q.algorithm = dns.HmacSHA256
		}
		c.TsigSecret = map[string]string{q.key: q.secret}
		m.SetTsig(q.key, q.algorithm, 300, time.Now().Unix())
	}
	reply, _, err := c.ExchangeContext(t.Context(), m, to)
	return reply, err
}

func TestWhoMayHaveWhat(t *testing.T) {
	here, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")
	open, keyed := []axfr.Peer{{Name: "ns1", Address: here}}, []axfr.Peer{{Name: "ns1", Address: here, Key: secret}}
	tests := map[string]struct {
		peers   []axfr.Peer
		q       question
		rcode   int
		answers int
	}{
		"a peer asks for the SOA":              {open, question{name: "example.org", typ: dns.TypeSOA, net: "udp"}, dns.RcodeSuccess, 1},
		"in other letters":                     {open, question{name: "EXAMPLE.org", typ: dns.TypeSOA, net: "tcp"}, dns.RcodeSuccess, 1},
		"a peer asks for name servers":         {open, question{name: "example.org", typ: dns.TypeNS, net: "udp"}, dns.RcodeSuccess, 1},
		"a peer asks for the zone":             {open, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp"}, dns.RcodeSuccess, 3},
		"the zone by UDP":                      {open, question{name: "example.org", typ: dns.TypeAXFR, net: "udp"}, dns.RcodeRefused, 0},
		"changes since an old one":             {open, question{name: "example.org", typ: dns.TypeIXFR, net: "tcp", serial: 6}, dns.RcodeSuccess, 3},
		"changes since this one":               {open, question{name: "example.org", typ: dns.TypeIXFR, net: "tcp", serial: 7}, dns.RcodeSuccess, 1},
		"changes by UDP":                       {open, question{name: "example.org", typ: dns.TypeIXFR, net: "udp", serial: 6}, dns.RcodeSuccess, 1},
		"a peer asks for an address":           {open, question{name: "example.org", typ: dns.TypeA, net: "udp"}, dns.RcodeRefused, 0},
		"another zone":                         {open, question{name: "example.com", typ: dns.TypeSOA, net: "udp"}, dns.RcodeRefused, 0},
		"a name in the zone":                   {open, question{name: "a.example.org", typ: dns.TypeSOA, net: "udp"}, dns.RcodeRefused, 0},
		"nobody is a peer":                     {nil, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp"}, dns.RcodeRefused, 0},
		"who is none":                          {[]axfr.Peer{{Name: "ns1", Address: other}}, question{name: "example.org", typ: dns.TypeSOA, net: "udp"}, dns.RcodeRefused, 0},
		"who is none, with the key":            {[]axfr.Peer{{Name: "ns1", Address: other, Key: secret}}, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp", key: "example.org_ns1.", secret: secret}, dns.RcodeRefused, 0},
		"a peer without its key":               {keyed, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp"}, dns.RcodeRefused, 0},
		"a peer with its key":                  {keyed, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp", key: "example.org_ns1.", secret: secret}, dns.RcodeSuccess, 3},
		"with an older algorithm":              {keyed, question{name: "example.org", typ: dns.TypeSOA, net: "udp", key: "example.org_ns1.", secret: secret, algorithm: dns.HmacSHA1}, dns.RcodeSuccess, 1},
		"with a newer algorithm":               {keyed, question{name: "example.org", typ: dns.TypeSOA, net: "udp", key: "example.org_ns1.", secret: secret, algorithm: dns.HmacSHA512}, dns.RcodeSuccess, 1},
		"who only has the key":                 {[]axfr.Peer{{Name: "ns1", Key: secret}}, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp", key: "example.org_ns1.", secret: secret}, dns.RcodeSuccess, 3},
		"a peer with a wrong secret":           {keyed, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp", key: "example.org_ns1.", secret: "d3Jvbmctd3Jvbmctd3Jvbmc="}, dns.RcodeNotAuth, 0},
		"a key of that name of another zone":   {[]axfr.Peer{{Name: "ns1", Key: "d3Jvbmctd3Jvbmctd3Jvbmc="}}, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp", key: "example.org_ns1.", secret: secret}, dns.RcodeRefused, 0},
		"a peer with a key of another's":       {keyed, question{name: "example.org", typ: dns.TypeAXFR, net: "tcp", key: "example.org_ns2.", secret: secret}, dns.RcodeNotAuth, 0},
		"a peer without a key, and nobody has": {[]axfr.Peer{{Name: "ns1"}}, question{name: "example.org", typ: dns.TypeSOA, net: "udp"}, dns.RcodeRefused, 0},
	}
	src := &source{}
	_, to := server(t, src)
	for name, tt := range tests {
		src.mu.Lock()
		src.peers = tt.peers
		src.mu.Unlock()
		reply, err := tt.q.ask(t, to)
		// What has no good signature comes without one.
		if err != nil && (reply == nil || tt.rcode != dns.RcodeNotAuth) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if reply.Rcode != tt.rcode || len(reply.Answer) != tt.answers {
			t.Errorf("%s: got %s with %d answers", name, dns.RcodeToString[reply.Rcode], len(reply.Answer))
		}
	}
}

// TestLargeZone transfers a zone that takes many messages, each signed.
func TestLargeZone(t *testing.T) {
	src := &source{peers: []axfr.Peer{{Name: "ns1", Key: secret}}, many: 5000}
	_, to := server(t, src)
	m := new(dns.Msg)
	m.SetAxfr("example.org.")
	m.SetTsig("example.org_ns1.", dns.HmacSHA256, 300, time.Now().Unix())
	tr := &dns.Transfer{TsigSecret: map[string]string{"example.org_ns1.": secret}, ReadTimeout: testenv.Patience}
	in, err := tr.In(m, to)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	messages := 0
	for e := range in {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		messages++
		for _, rr := range e.RR {
			names = append(names, rr.Header().Name)
		}
	}
	slices.Sort(names)
	if len(names) != src.many+3 || messages < 2 || len(slices.Compact(names)) != src.many+1 {
		t.Errorf("got %d records in %d messages", len(names), messages)
	}
}

func TestListen(t *testing.T) {
	src := &source{peers: []axfr.Peer{{Name: "ns1", Address: netip.MustParseAddr("127.0.0.1")}}}
	srv, first := server(t, src)
	q := question{name: "example.org", typ: dns.TypeSOA, net: "udp"}
	answers := func(to string) bool {
		reply, err := q.ask(t, to)
		return err == nil && reply.Rcode == dns.RcodeSuccess
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	err = srv.Listen(t.Context(), netip.MustParseAddrPort(taken.Addr().String()))
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), taken.Addr().String()) || !answers(first) {
		t.Errorf("a port in use: got %v", err)
	}
	if err := srv.Listen(t.Context(), netip.MustParseAddrPort("192.0.2.1:5353")); !errs.Is(err, errs.Unavailable) || !answers(first) {
		t.Errorf("an address of nobody: got %v", err)
	}
	// All addresses on the port that it has now: it is itself in the way.
	wide := netip.AddrPortFrom(netip.IPv4Unspecified(), netip.MustParseAddrPort(first).Port())
	if err := srv.Listen(t.Context(), wide); err != nil || !answers(first) || srv.Address() != wide {
		t.Errorf("all addresses: got %v", err)
	}
	second := listen(t, srv)
	if !answers(second) {
		t.Error("another address: no answer")
	}
	if err := srv.Listen(t.Context(), netip.AddrPort{}); err != nil || srv.Address().IsValid() {
		t.Errorf("no address: got %v", err)
	}
	if c, err := net.Dial("tcp", second); err == nil {
		_ = c.Close()
		t.Error("it listens still")
	}
}

func TestNotice(t *testing.T) {
	got := make(chan *dns.Msg, 1)
	status := make(chan error, 1)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var rcode atomic.Int32 // It is success.
	peer := &dns.Server{
		PacketConn: conn, TsigSecret: map[string]string{"example.org_ns1.": secret},
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			got <- m
			status <- w.TsigStatus()
			reply := new(dns.Msg)
			reply.SetRcode(m, int(rcode.Load()))
			if k := m.IsTsig(); k != nil {
				reply.SetTsig(k.Hdr.Name, k.Algorithm, k.Fudge, time.Now().Unix())
			}
			_ = w.WriteMsg(reply)
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- peer.ActivateAndServe() }()
	all, err := (&source{}).Zone(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	n := axfr.Notice{
		Zone: "example.org", SOA: all[0], Port: netip.MustParseAddrPort(conn.LocalAddr().String()).Port(), From: netip.MustParseAddr("127.0.0.1"),
		Peer: axfr.Peer{Name: "ns1", Address: netip.MustParseAddr("127.0.0.1"), Key: secret},
	}
	if err := n.Send(t.Context()); err != nil {
		t.Error(err)
	}
	m := <-got
	if err := <-status; err != nil || m.Opcode != dns.OpcodeNotify || m.IsTsig() == nil || m.Question[0].Name != "example.org." || !strings.Contains(m.Answer[0].String(), " 7 ") {
		t.Errorf("got %v, signed: %v", m, err)
	}
	rcode.Store(dns.RcodeRefused)
	if err := n.Send(t.Context()); err == nil || !strings.Contains(err.Error(), "REFUSED") {
		t.Errorf("refused: got %v", err)
	}
	<-got
	if err := peer.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// Nobody is there: it tries for a while, until nobody wants it any more.
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if err := n.Send(ctx); err == nil || !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		t.Errorf("got %v", err)
	}
}
