package vxlan

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// handshakeTimeout is how long a host has to show that it knows the key.
const handshakeTimeout = 5 * time.Second

// maxConns is how many connections are open at once on one address, those of
// strangers that say nothing too.
const maxConns = 256

// identity returns the certificate that hosts of the network show each other,
// and what it is checked by. All have the same, of a private key that comes
// from the network's key: whoever has it knows that.
func identity(o networks.Overlay) (tls.Certificate, *x509.CertPool, error) {
	seed, err := derive(o, "exchange", ed25519.SeedSize)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	key := ed25519.NewKeyFromSeed(seed)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serverName(o)}, DNSNames: []string{serverName(o)},
		// The clocks of hosts need not be right for this.
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}

func serverName(o networks.Overlay) string { return fmt.Sprintf("vxlan-%d", o.ID) }

// tlsConfig is for both ends of a connection.
func tlsConfig(o networks.Overlay) (*tls.Config, error) {
	cert, pool, err := identity(o)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ServerName: serverName(o),
		RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true,
	}, nil
}

// A hub listens for other hosts, for all networks that have the same address
// and port. Its zero value can be used.
type hub struct {
	mu   sync.Mutex // Guards what follows.
	open map[netip.AddrPort]*listener
}

// A listener is where a hub listens.
type listener struct {
	net.Listener

	slots    chan struct{} // One for each connection that can be open.
	networks map[string]subscriber
}

// A subscriber is a network that listens.
type subscriber struct {
	tls    *tls.Config
	accept func(net.Conn)
}

// listen has accept called, each time in a goroutine of its own, for hosts
// that know the key of the network, until stop is called.
func (h *hub) listen(ctx context.Context, at netip.AddrPort, o networks.Overlay, accept func(net.Conn)) (stop func(), err error) {
	config, err := tlsConfig(o)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.open[at]
	if l == nil {
		var lc net.ListenConfig
		nl, err := lc.Listen(ctx, "tcp", at.String())
		if err != nil {
			return nil, fmt.Errorf("listen for other hosts: %w", err)
		}
		l = &listener{Listener: nl, slots: make(chan struct{}, maxConns), networks: map[string]subscriber{}}
		if h.open == nil {
			h.open = map[netip.AddrPort]*listener{}
		}
		h.open[at] = l
		go h.serve(context.WithoutCancel(ctx), l)
	}
	name := serverName(o)
	if _, taken := l.networks[name]; taken {
		return nil, errs.Conflictf("two networks of this host have the vxlan.id %d", o.ID)
	}
	l.networks[name] = subscriber{config, accept}
	return func() { h.leave(at, name) }, nil
}

func (h *hub) leave(at netip.AddrPort, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.open[at]
	delete(l.networks, name)
	if len(l.networks) == 0 {
		l.Close()
		delete(h.open, at)
	}
}

func (h *hub) serve(ctx context.Context, l *listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // as net returns it
				continue
			}
			return
		}
		select {
		case l.slots <- struct{}{}:
			go func() {
				defer func() { <-l.slots }()
				h.greet(ctx, l, conn)
			}()
		default:
			_ = conn.Close() // Nothing was written.
		}
	}
}

// greet finds the network that a host means, and has it show that it knows its
// key.
func (h *hub) greet(ctx context.Context, l *listener, conn net.Conn) {
	defer func() { _ = conn.Close() }() // Nothing is written.
	var found subscriber
	tc := tls.Server(conn, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			s, ok := l.networks[hello.ServerName]
			if !ok {
				return nil, errs.NotFoundf("network %q not found", hello.ServerName)
			}
			found = s
			return s.tls, nil
		},
	})
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := tc.HandshakeContext(ctx); err != nil {
		return // A stranger, or one with another key: it finds out itself.
	}
	_ = conn.SetDeadline(time.Time{})
	found.accept(tc)
}
