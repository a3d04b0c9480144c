// Package axfr serves DNS zones, whole, to the servers that may have them, and
// tells those of changes.
//
// It is a hidden primary: it answers no resolvers. Who is no peer of a zone is
// told nothing, also not whether there is one. Transfers are as RFC 5936 has
// them, their keys as RFC 8945, and notices as RFC 1996.
package axfr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// A Peer is a server that may have a zone.
type Peer struct {
	Name    string
	Address netip.Addr // Not valid for any that has the key.
	Key     string     // The secret that it signs with, in Base64; empty for none.
}

// KeyName is how a peer calls its key.
func KeyName(zone, peer string) string { return strings.ToLower(zone + "_" + peer + ".") }

// A Source has the zones. Their names have no dot at the end. It is called at
// the same time by many.
type Source interface {
	// Peers returns who may have a zone; nobody if there is none.
	Peers(ctx context.Context, zone string) ([]Peer, error)

	// Zone returns the records of a zone, its SOA first.
	Zone(ctx context.Context, zone string) ([]dns.RR, error)

	// Secret returns the secret of a key; an empty string if there is none.
	Secret(ctx context.Context, key string) (string, error)
}

// most is how many connections are served at once.
const most = 128

// A Server serves zones on one address. Its fields are set before it listens.
type Server struct {
	Source Source
	Log    *slog.Logger

	mu   sync.Mutex // Held by what changes where it listens.
	addr netip.AddrPort
	open []*dns.Server // One for TCP and one for UDP.
}

// Address returns where it listens; not valid for nowhere.
func (s *Server) Address() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Listen makes it listen on an address instead of where it does; on none if
// the address is not valid. If it cannot, all stays as it is. It serves until
// ctx ends, or it listens elsewhere.
func (s *Server) Listen(ctx context.Context, addr netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr == s.addr {
		return nil
	}
	if !addr.IsValid() {
		s.close(ctx)
		return nil
	}
	opened, err := s.listen(ctx, addr)
	if errors.Is(err, unix.EADDRINUSE) && s.addr.IsValid() && s.addr.Port() == addr.Port() {
		opened, err = s.swap(ctx, addr)
	}
	if err != nil {
		return failed(addr, err)
	}
	s.close(ctx)
	s.serve(ctx, addr, opened)
	return nil
}

// swap is listen for an address that the old one may be in the way of.
func (s *Server) swap(ctx context.Context, addr netip.AddrPort) (sockets, error) {
	old := s.addr
	s.close(ctx)
	opened, err := s.listen(ctx, addr)
	if err == nil {
		return opened, nil
	}
	back, berr := s.listen(ctx, old)
	if berr != nil {
		return opened, errors.Join(err, berr)
	}
	s.serve(ctx, old, back)
	return opened, err
}

func failed(addr netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return errs.Conflictf("cannot serve DNS on %s: something else on this host listens on it: choose another address or port", addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return errs.Newf(errs.Unavailable, "cannot serve DNS on %s: no interface of this host has the address", addr)
	default:
		return fmt.Errorf("serve DNS on %s: %w", addr, err)
	}
}

// sockets are what a server listens on.
type sockets struct {
	tcp net.Listener
	udp net.PacketConn
}

func (s *Server) listen(ctx context.Context, addr netip.AddrPort) (sockets, error) {
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", addr.String())
	if err != nil {
		return sockets{}, err
	}
	udp, err := lc.ListenPacket(ctx, "udp", addr.String())
	if err != nil {
		_ = tcp.Close() // Nobody was served.
		return sockets{}, err
	}
	return sockets{netutil.LimitListener(tcp, most), udp}, nil
}

// serve answers on the sockets. The caller holds mu.
func (s *Server) serve(ctx context.Context, addr netip.AddrPort, on sockets) {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { s.answer(ctx, w, m) })
	keys := signer{secret: func(key string) (string, error) { return s.Source.Secret(ctx, key) }}
	s.addr = addr
	s.open = []*dns.Server{{Listener: on.tcp, Handler: handler, TsigProvider: keys}, {PacketConn: on.udp, Handler: handler, TsigProvider: keys}}
	for _, one := range s.open {
		begun := make(chan struct{})
		one.NotifyStartedFunc = func() { close(begun) }
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := one.ActivateAndServe(); err != nil && ctx.Err() == nil {
				s.Log.ErrorContext(ctx, "DNS is not served any more", "address", addr, "err", err)
			}
		}()
		select { // What has not begun cannot be shut down.
		case <-begun:
		case <-ended:
		}
	}
}

// Close ends it.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(ctx)
}

// close is Close for who holds mu.
func (s *Server) close(ctx context.Context) {
	for _, one := range s.open {
		if err := one.ShutdownContext(ctx); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "cannot end serving DNS", "address", s.addr, "err", err)
		}
	}
	s.open, s.addr = nil, netip.AddrPort{}
}
