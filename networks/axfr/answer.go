package axfr

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// answer answers a query.
func (s *Server) answer(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) {
	rcode, rrs := s.look(ctx, w, m)
	if rcode == dns.RcodeSuccess && isTransfer(m) && len(rrs) > 1 {
		s.transfer(ctx, w, m, rrs)
		return
	}
	reply := new(dns.Msg)
	reply.SetRcode(m, rcode)
	reply.Answer, reply.Authoritative = rrs, rcode == dns.RcodeSuccess
	if t := m.IsTsig(); t != nil && w.TsigStatus() == nil {
		reply.SetTsig(t.Hdr.Name, t.Algorithm, t.Fudge, time.Now().Unix())
	}
	if err := w.WriteMsg(reply); err != nil {
		s.Log.DebugContext(ctx, "cannot answer a query", "from", w.RemoteAddr(), "err", err)
	}
}

func isTransfer(m *dns.Msg) bool {
	return len(m.Question) == 1 && (m.Question[0].Qtype == dns.TypeAXFR || m.Question[0].Qtype == dns.TypeIXFR)
}

// look returns what is to be answered to a query.
func (s *Server) look(ctx context.Context, w dns.ResponseWriter, m *dns.Msg) (rcode int, rrs []dns.RR) {
	if m.Opcode != dns.OpcodeQuery {
		return dns.RcodeNotImplemented, nil
	}
	if len(m.Question) != 1 {
		return dns.RcodeFormatError, nil
	}
	if m.IsTsig() != nil && w.TsigStatus() != nil {
		return dns.RcodeNotAuth, nil
	}
	q := m.Question[0]
	zone := strings.TrimSuffix(q.Name, ".")
	peers, err := s.Source.Peers(ctx, zone)
	if err != nil {
		s.Log.ErrorContext(ctx, "cannot read who may have a zone", "zone", zone, "err", err)
		return dns.RcodeServerFailure, nil
	}
	key, err := s.key(ctx, m)
	if err != nil {
		s.Log.ErrorContext(ctx, "cannot read a key", "key", key.name, "err", err)
		return dns.RcodeServerFailure, nil
	}
	if q.Qclass != dns.ClassINET || !allowed(w, key, zone, peers) {
		return dns.RcodeRefused, nil
	}
	all, err := s.Source.Zone(ctx, zone)
	if err != nil || len(all) == 0 {
		s.Log.ErrorContext(ctx, "cannot read a zone", "zone", zone, "err", err)
		return dns.RcodeServerFailure, nil
	}
	return choose(w, m, all)
}

// choose returns what a query asks for of a zone.
func choose(w dns.ResponseWriter, m *dns.Msg, all []dns.RR) (rcode int, rrs []dns.RR) {
	isTCP := w.RemoteAddr().Network() == "tcp"
	q := m.Question[0]
	switch q.Qtype {
	case dns.TypeSOA:
		return dns.RcodeSuccess, all[:1]
	case dns.TypeNS:
		for _, rr := range all {
			if h := rr.Header(); h.Rrtype == dns.TypeNS && strings.EqualFold(h.Name, q.Name) {
				rrs = append(rrs, rr)
			}
		}
		return dns.RcodeSuccess, rrs
	case dns.TypeIXFR:
		// Who has it, or asks by UDP, is told the serial alone (RFC 1995).
		if !isTCP || has(m, all[0]) {
			return dns.RcodeSuccess, all[:1]
		}
		return dns.RcodeSuccess, all
	case dns.TypeAXFR:
		if isTCP {
			return dns.RcodeSuccess, all
		}
	}
	return dns.RcodeRefused, nil
}

// has reports whether who asks for changes has the newest zone.
func has(m *dns.Msg, soa dns.RR) bool {
	now, ok := soa.(*dns.SOA)
	if !ok || len(m.Ns) == 0 {
		return false
	}
	theirs, ok := m.Ns[0].(*dns.SOA)
	return ok && theirs.Serial == now.Serial
}

// A key is what a query is signed with.
type key struct{ name, secret string }

// key returns that of a query; an empty one if it is not signed.
func (s *Server) key(ctx context.Context, m *dns.Msg) (k key, err error) {
	t := m.IsTsig()
	if t == nil {
		return k, nil
	}
	k.name = strings.ToLower(t.Hdr.Name)
	k.secret, err = s.Source.Secret(ctx, k.name)
	return k, err
}

// allowed reports whether who asks is a peer, and has signed if it has a key. Keys
// of several zones can have one name: the secret tells whose it is.
func allowed(w dns.ResponseWriter, by key, zone string, peers []Peer) bool {
	var from netip.Addr
	if a, ok := w.RemoteAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		from = a.AddrPort().Addr().Unmap().WithZone("")
	}
	for _, p := range peers {
		if p.Address.IsValid() && p.Address.Unmap() != from || !p.Address.IsValid() && p.Key == "" {
			continue
		}
		if p.Key == "" || by == (key{KeyName(zone, p.Name), p.Key}) {
			return true
		}
	}
	return false
}

// envelope is how many bytes of records go into one message.
const envelope = 16 << 10

// transfer sends a zone.
func (s *Server) transfer(ctx context.Context, w dns.ResponseWriter, m *dns.Msg, all []dns.RR) {
	out := make(chan *dns.Envelope)
	ended := make(chan struct{})
	go func() {
		defer close(out)
		all = append(slices.Clip(all), all[0]) // It ends as it begins.
		for len(all) > 0 {
			n, size := 0, 0
			for n < len(all) && (n == 0 || size+dns.Len(all[n]) <= envelope) {
				size += dns.Len(all[n])
				n++
			}
			select {
			case out <- &dns.Envelope{RR: all[:n]}:
			case <-ended:
				return
			}
			all = all[n:]
		}
	}()
	err := new(dns.Transfer).Out(w, m, out)
	close(ended)
	if err != nil {
		s.Log.DebugContext(ctx, "a zone was not transferred whole", "to", w.RemoteAddr(), "err", err)
	}
}
