package axfr

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/miekg/dns"
)

// How often a peer is told of a change, until it answers, and how long each
// time is waited for that.
const (
	notices   = 4
	noticeGap = 3 * time.Second
)

// A Notice tells a peer that a zone has changed.
type Notice struct {
	Zone string
	SOA  dns.RR
	Peer Peer
	From netip.Addr // The address of ours that the peer knows; not valid for any.
	Port uint16     // 0 for that of DNS.
}

// Send sends the notice, and returns when the peer has answered.
func (n Notice) Send(ctx context.Context) error {
	const port = 53
	if n.Port == 0 {
		n.Port = port
	}
	c := dns.Client{Timeout: noticeGap, TsigProvider: signer{secret: func(string) (string, error) { return n.Peer.Key, nil }}}
	if n.From.IsValid() && !n.From.IsUnspecified() && n.From.Is4() == n.Peer.Address.Is4() {
		c.Dialer = &net.Dialer{Timeout: noticeGap, LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.From, 0))}
	}
	to := net.JoinHostPort(n.Peer.Address.String(), strconv.Itoa(int(n.Port)))
	var err error
	for range notices {
		began := time.Now()
		var reply *dns.Msg
		reply, _, err = c.ExchangeContext(ctx, n.message(), to)
		if err == nil && reply.Rcode == dns.RcodeSuccess {
			return nil
		}
		if err == nil {
			return fmt.Errorf("server %s does not take notice of zone %s: %s", to, n.Zone, dns.RcodeToString[reply.Rcode])
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(noticeGap - time.Since(began)): // A refused port is known at once.
		}
	}
	return fmt.Errorf("tell server %s that zone %s has changed: %w", to, n.Zone, err)
}

func (n Notice) message() *dns.Msg {
	m := new(dns.Msg)
	m.SetNotify(dns.Fqdn(n.Zone))
	m.Answer = []dns.RR{n.SOA}
	if n.Peer.Key != "" {
		const fudge = 300 // Seconds that the clocks may differ.
		m.SetTsig(KeyName(n.Zone, n.Peer.Name), dns.HmacSHA256, fudge, time.Now().Unix())
	}
	return m
}
