package vxlan

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/announce"
	"github.com/cuib/cuib/networks/nft"
)

// The times of what hosts tell each other.
const (
	lookEvery    = 2 * time.Second  // How often a host looks what it has, if the kernel announces nothing.
	tellEvery    = 10 * time.Second // How often it tells, if nothing is new.
	silence      = 35 * time.Second // After how long of nothing a connection is given up.
	writeTimeout = 10 * time.Second
	dialTimeout  = 5 * time.Second
	firstPause   = 250 * time.Millisecond // How long until a host is called again that could not be reached.
	longestPause = 5 * time.Second
)

// maxMessage is how long one message is at most, in bytes.
const maxMessage = 8 << 20

// A talk is the exchange of one network with the other hosts.
type talk struct {
	cfg   networks.Config // As it was when the talk began: without hosts.
	local netip.Addr
	with  networks.Company

	mu       sync.Mutex // Guards what follows.
	now      []byte     // What is told, as one line.
	said     networks.Member
	fresh    map[netip.Addr]chan struct{} // By peer: has an element when it is to be told.
	problems map[topic]string
}

// A topic is something that can be wrong with another host.
type topic struct {
	peer netip.Addr
	what string
}

const (
	reach   = "reach"   // It cannot be told anything.
	differs = "differs" // It has another configuration.
	follow  = "follow"  // What it says cannot be followed.
)

// Speak tells the other hosts what this one has, and hears what they have. Each
// host calls each other one, and tells; who is called listens. So a
// connection has one direction, and either can be down alone.
func (d *Driver) Speak(ctx context.Context, cfg networks.Config, with networks.Company) error {
	if len(cfg.Overlay.Peers) == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	_, u, err := seen(cfg)
	if err != nil {
		return err
	}
	k := &talk{cfg: cfg, local: u.local, with: with, fresh: map[netip.Addr]chan struct{}{}, problems: map[topic]string{}}
	for _, p := range cfg.Overlay.Peers {
		k.fresh[p] = make(chan struct{}, 1)
	}
	return k.run(ctx, &d.hub)
}

func (k *talk) run(ctx context.Context, h *hub) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	events := make(chan error, 1)
	l, err := announce.Listen(events, unix.NETLINK_ROUTE, unix.RTNLGRP_NEIGH)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := k.look(ctx); err != nil {
		return err
	}
	at := netip.AddrPortFrom(k.local, k.cfg.Overlay.Port)
	stop, err := h.listen(ctx, at, k.cfg.Overlay, func(c net.Conn) { k.hear(ctx, c) })
	if err != nil {
		return err
	}
	defer stop()
	config, err := tlsConfig(k.cfg.Overlay)
	if err != nil {
		return err
	}
	k.warn(ctx) // What kept it from speaking before is over.
	for _, p := range k.cfg.Overlay.Peers {
		wg.Go(func() { k.call(ctx, p, config) })
	}
	return k.lookOn(ctx, events)
}

// lookOn looks again what this host has whenever that may have changed.
func (k *talk) lookOn(ctx context.Context, events <-chan error) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-events:
			if err != nil {
				return err
			}
		case <-tick.C:
		}
		if err := k.look(ctx); err != nil {
			return err
		}
	}
}

// look looks what this host has, and tells those who are called if it is new.
// It puts right what somebody took out of the kernel's tables.
func (k *talk) look(ctx context.Context) error {
	cfg, err := k.with.Config(ctx)
	if err != nil {
		return err
	}
	m, err := describe(cfg)
	if err != nil {
		return err
	}
	t, u, err := seen(cfg)
	if err != nil {
		return err
	}
	if err := inform(cfg, u, t, nft.FollowElsewhere); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil && reflect.DeepEqual(k.said, m) {
		return nil
	}
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	k.now, k.said = append(line, '\n'), m
	for _, c := range k.fresh {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	return nil
}

// call keeps a connection to a host, and tells it what is new, until ctx ends.
func (k *talk) call(ctx context.Context, peer netip.Addr, config *tls.Config) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := k.tell(ctx, peer, config)
		if ctx.Err() != nil {
			return
		}
		k.report(ctx, topic{peer, reach}, fmt.Sprintf("host %s is not reached: %v", peer, err))
		if time.Since(began) > silence {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(pause*2, longestPause)
	}
}

// tell calls a host, and tells it what is new until that fails.
func (k *talk) tell(ctx context.Context, peer netip.Addr, config *tls.Config) error {
	d := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: dialTimeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(k.local, 0))},
		Config:    config,
	}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(peer, k.cfg.Overlay.Port).String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // What was not told is told again.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	// A host that hears nothing any more closes; it says nothing itself.
	gone := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, conn)
		gone <- errors.Join(errors.New("it closed the connection"), err)
	}()
	for {
		k.mu.Lock()
		line := k.now
		k.mu.Unlock()
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := conn.Write(line); err != nil {
			return err
		}
		k.report(ctx, topic{peer, reach}, "")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-gone:
			return err
		case <-k.fresh[peer]:
		case <-time.After(tellEvery):
		}
	}
}

// hear takes what a host that calls says, until it stops.
func (k *talk) hear(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return
	}
	peer := from.Addr().Unmap()
	if !slices.Contains(k.cfg.Overlay.Peers, peer) {
		k.report(ctx, topic{peer, differs}, fmt.Sprintf("host %s knows the network's key and is not in vxlan.peers", peer))
		return
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 64<<10), maxMessage)
	var last []byte
	for {
		_ = conn.SetReadDeadline(time.Now().Add(silence))
		if !lines.Scan() {
			return
		}
		if slices.Equal(lines.Bytes(), last) {
			continue
		}
		var m networks.Member
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return
		}
		m.Underlay = peer
		if err := k.with.Learn(ctx, m); err != nil {
			k.report(ctx, topic{peer, follow}, fmt.Sprintf("cannot follow what host %s says: %v", peer, err))
			return // It calls again.
		}
		k.report(ctx, topic{peer, follow}, "")
		last = slices.Clone(lines.Bytes())
		k.compare(ctx, m)
	}
}

// compare warns of what is not as on another host, and must be.
func (k *talk) compare(ctx context.Context, m networks.Member) {
	k.mu.Lock()
	own := k.said
	k.mu.Unlock()
	problem := ""
	switch {
	case own.Same != m.Same:
		problem = fmt.Sprintf("host %s has another configuration of the network: %s there, %s here", m.Underlay, m.Same, own.Same)
	case !slices.Equal(own.View, m.View):
		problem = fmt.Sprintf("host %s has other members in vxlan.peers: all hosts are to name each other", m.Underlay)
	}
	k.report(ctx, topic{m.Underlay, differs}, problem)
}

// report notes what is wrong with a host, if anything, and warns if that is
// new.
func (k *talk) report(ctx context.Context, about topic, problem string) {
	k.mu.Lock()
	known := k.problems[about] == problem
	k.problems[about] = problem
	k.mu.Unlock()
	if !known {
		k.warn(ctx)
	}
}

// warn tells of all that is wrong with hosts now; nothing resolves the warning.
func (k *talk) warn(ctx context.Context) {
	k.mu.Lock()
	var all []string
	for _, p := range k.problems {
		if p != "" {
			all = append(all, p)
		}
	}
	k.mu.Unlock()
	slices.Sort(all)
	k.with.Warn(ctx, all)
}
