package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// An endpoint is a port of a back end.
type endpoint struct {
	of       owner
	backend  string
	protocol uint8
	target   netip.AddrPort
}

// A condition is what is known of an endpoint.
type condition struct {
	known bool // It was tried.
	dead  bool
	run   int // How often in a row it was otherwise than that.
}

// endpoints are what is to be tried of a port: of several that follow each
// other it is the first.
func (e entry) endpoints(of owner) []endpoint {
	var out []endpoint
	for i, name := range e.backends {
		to := e.Targets[i]
		if to.Port() == 0 {
			to = netip.AddrPortFrom(to.Addr(), e.First)
		}
		out = append(out, endpoint{of, name, e.Protocol, to})
	}
	return out
}

// alive is an entry without those who do not answer.
func (s *Service) alive(of owner, p plan, e entry) networks.Published {
	if p.checking == nil {
		return e.Published
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := e.Published
	out.Targets = nil
	for i, ep := range e.endpoints(of) {
		if !s.health[ep].dead {
			out.Targets = append(out.Targets, e.Targets[i])
		}
	}
	return out
}

// LoadBalancerState returns how the back ends of a load balancer are. There
// are none if they are not checked.
func (s *Service) LoadBalancerState(ctx context.Context, network, address string) (api.NetworkLoadBalancerState, error) {
	out := api.NetworkLoadBalancerState{BackendHealth: map[string]api.NetworkLoadBalancerStateBackendHealth{}}
	part, err := get(ctx, s, balancers, network, address)
	if err != nil {
		return out, err
	}
	listen, err := parseListen(part.Name)
	if err != nil {
		return out, err
	}
	p, err := balancers.read(listen, part.Document)
	if err != nil || p.checking == nil {
		return out, err
	}
	for _, e := range p.entries {
		for _, ep := range e.endpoints(owner{string(balancers.name), network, listen}) {
			b := out.BackendHealth[ep.backend]
			b.Address = ep.target.Addr().String()
			port := api.NetworkLoadBalancerStateBackendHealthPort{Protocol: protocolNames[ep.protocol], Port: int(ep.target.Port()), Status: s.status(ep)}
			if !slices.Contains(b.Ports, port) {
				b.Ports = append(b.Ports, port)
			}
			out.BackendHealth[ep.backend] = b
		}
	}
	return out, nil
}

var protocolNames = map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}

func (s *Service) status(ep endpoint) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c := s.health[ep]; {
	case !c.known:
		return "unknown"
	case c.dead:
		return "offline"
	}
	return "online"
}

// touch has [Service.Run] look whether there are others to check.
func (s *Service) touch() {
	select {
	case s.touched() <- struct{}{}:
	default:
	}
}

func (s *Service) touched() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dirty == nil {
		s.dirty = make(chan struct{}, 1)
	}
	return s.dirty
}

// relook is how long it takes at most until load balancers that went with
// their network are not checked any more.
const relook = 30 * time.Second

// Run checks the back ends of load balancers until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[endpoint]watch{}
	for {
		if err := s.watchAll(ctx, running, &wg); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot check the back ends of load balancers", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.touched():
		case <-time.After(relook):
		}
	}
}

// A watch is the goroutine that tries an endpoint.
type watch struct {
	checking

	cancel context.CancelFunc
}

// watchAll makes those that are tried be those that are to be.
func (s *Service) watchAll(ctx context.Context, running map[endpoint]watch, wg *sync.WaitGroup) error {
	want, err := s.wanted(ctx)
	if err != nil {
		return err
	}
	for ep, w := range running {
		if c, ok := want[ep]; !ok || c != w.checking {
			w.cancel()
			delete(running, ep)
			if !ok {
				s.mu.Lock()
				delete(s.health, ep)
				s.mu.Unlock()
			}
		}
	}
	for ep, c := range want {
		if _, ok := running[ep]; ok {
			continue
		}
		wctx, cancel := context.WithCancel(ctx)
		running[ep] = watch{c, cancel}
		wg.Go(func() { s.watch(wctx, ep, c) })
	}
	return nil
}

// wanted are the endpoints that are to be tried, and how.
func (s *Service) wanted(ctx context.Context) (map[endpoint]checking, error) {
	want := map[endpoint]checking{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		return each(ctx, tx, balancers, "", func(o owner, p plan) error {
			if p.checking == nil {
				return nil
			}
			for _, e := range p.entries {
				for _, ep := range e.endpoints(o) {
					want[ep] = *p.checking
				}
			}
			return nil
		})
	})
	return want, err
}

// watch tries an endpoint again and again. An answer that takes longer than
// the time to the next try is none.
func (s *Service) watch(ctx context.Context, ep endpoint, c checking) {
	every := time.NewTicker(c.interval)
	defer every.Stop()
	for {
		tctx, cancel := context.WithTimeout(ctx, min(c.timeout, c.interval))
		err := c.try(tctx, ep)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if s.note(ep, c, err == nil) {
			s.turned(ctx, ep, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// note keeps what came of a try, and reports whether the endpoint is to be
// taken out or put back for it. The first try decides alone.
func (s *Service) note(ep endpoint, c checking, ok bool) bool { //nolint:revive // A result and not a switch.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.health == nil {
		s.health = map[endpoint]condition{}
	}
	h := s.health[ep]
	first := !h.known
	h.known = true
	if ok != h.dead {
		h.run = 0
		s.health[ep] = h
		return false
	}
	h.run++
	turns := first || h.dead && h.run >= c.successes || !h.dead && h.run >= c.failures
	if turns {
		h.dead, h.run = !h.dead, 0
	}
	s.health[ep] = h
	return turns
}

// turned has the network follow what an endpoint has become.
func (s *Service) turned(ctx context.Context, ep endpoint, err error) {
	args := []any{"network", ep.of.network, "listen", ep.of.listen, "backend", ep.backend, "target", ep.target}
	if err != nil {
		s.Log.WarnContext(ctx, "a back end does not answer and gets no connections", append(args, "err", err)...)
	} else {
		s.Log.InfoContext(ctx, "a back end answers again", args...)
	}
	if err := s.Nets.Reapply(ctx, ep.of.network); err != nil && ctx.Err() == nil && !errs.Is(err, errs.NotFound) {
		s.Log.ErrorContext(ctx, "cannot apply what load balancers have become", "network", ep.of.network, "err", err)
	}
}

// try returns nil if an endpoint answers.
func (c checking) try(ctx context.Context, ep endpoint) error {
	switch {
	case ep.protocol == unix.IPPROTO_UDP:
		return tryDatagram(ctx, ep.target)
	case c.path != "":
		return tryHTTP(ctx, "http://"+ep.target.String()+c.path)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", ep.target.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// tryDatagram sends an empty datagram. Who has nobody at the port says so; who
// says nothing may have taken it.
func tryDatagram(ctx context.Context, to netip.AddrPort) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", to.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // It was read from.
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // It is open.
	defer stop()
	if _, err := conn.Write(nil); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

func tryHTTP(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "cuib-healthcheck")
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}
