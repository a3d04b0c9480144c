package axfr

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// one has the zone example.org, for whoever is at 192.0.2.1.
type one struct{}

func (one) Peers(_ context.Context, zone string) ([]Peer, error) {
	if zone != "example.org" {
		return nil, nil
	}
	return []Peer{{Name: "a", Address: netip.MustParseAddr("192.0.2.1")}, {Name: "b", Key: "c2VjcmV0LXNlY3JldA=="}}, nil
}

func (one) Zone(context.Context, string) ([]dns.RR, error) {
	soa, err := dns.NewRR("example.org. 60 IN SOA a. b. 7 60 60 60 60")
	if err != nil {
		return nil, err
	}
	ns, err := dns.NewRR("example.org. 60 IN NS a.")
	return []dns.RR{soa, ns}, err
}

func (one) Secret(context.Context, string) (string, error) { return "", nil }

// heard is an answer to somebody at an address.
type heard struct {
	from net.Addr
	tsig error
	all  []*dns.Msg
}

func (h *heard) LocalAddr() net.Addr         { return h.from }
func (h *heard) RemoteAddr() net.Addr        { return h.from }
func (h *heard) WriteMsg(m *dns.Msg) error   { h.all = append(h.all, m); return nil }
func (h *heard) Write(b []byte) (int, error) { return len(b), nil }
func (h *heard) Close() error                { return nil }
func (h *heard) TsigStatus() error           { return h.tsig }
func (h *heard) TsigTimersOnly(bool)         {}
func (h *heard) Hijack()                     {}

// FuzzQuery has strangers ask: they are told nothing, and peers get an answer
// that can be sent.
func FuzzQuery(f *testing.F) {
	for _, typ := range []uint16{dns.TypeSOA, dns.TypeAXFR, dns.TypeIXFR, dns.TypeNS, dns.TypeANY} {
		m := new(dns.Msg)
		m.SetQuestion("example.org.", typ)
		raw, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	s := &Server{Source: one{}, Log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(dns.Msg)
		if m.Unpack(raw) != nil {
			return // It is answered before we see it.
		}
		for _, from := range []net.Addr{
			&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1)},
			&net.TCPAddr{IP: net.IPv4(192, 0, 2, 2)}, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 2)},
		} {
			h := &heard{from: from, tsig: dns.ErrSecret}
			s.answer(t.Context(), h, m)
			if len(h.all) == 0 {
				t.Fatal("no answer")
			}
			for _, reply := range h.all {
				stranger := from.String() == "192.0.2.2:0"
				if stranger && (len(reply.Answer) > 0 || reply.Rcode == dns.RcodeSuccess) {
					t.Fatalf("a stranger is told %v", reply)
				}
				if _, err := reply.Pack(); err != nil && reply.IsTsig() == nil && len(reply.Answer) > 0 {
					t.Fatalf("an answer that cannot be sent: %v", err)
				}
			}
		}
	})
}
