package bridge

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/announce"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/networks/nft"
)

// Watch waits until the bridge, its rules or its dnsmasq are missing.
func (Driver) Watch(ctx context.Context, cfg networks.Config) (string, error) {
	return Watch(ctx, cfg, Also{})
}

// Also is what a driver watches whose networks are more than a bridge.
type Also struct {
	Groups  []int                  // Of netlink's routes, such as [unix.RTNLGRP_IPV4_ROUTE].
	Missing func() (string, error) // Returns what is missing; nil for nothing.
}

// missing returns what of the bridge is missing, or of what else is watched.
func (a Also) missing(cfg networks.Config) (string, error) {
	what, err := whatIsMissing(cfg)
	if what == "" && err == nil && a.Missing != nil {
		return a.Missing()
	}
	return what, err
}

// Watch waits until something of the bridge is missing, or of what also says.
func Watch(ctx context.Context, cfg networks.Config, also Also) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// Listening begins before the first look, so that nothing is missed.
	events := make(chan error, 1)
	links, err := announce.Listen(events, unix.NETLINK_ROUTE, groups(cfg, also)...)
	if err != nil {
		return "", err
	}
	defer links.Close()

	rules, err := announce.Listen(events, unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return "", err
	}
	defer rules.Close()

	var s server
	defer s.close()
	for {
		if err := s.follow(ctx, cfg, events); err != nil {
			return "", err
		}
		if what, err := also.missing(cfg); what != "" || err != nil {
			return what, err
		}
		if err := reflect(cfg); err != nil { // There may be ports that were not.
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case err := <-events:
			if err != nil {
				return "", err
			}
		}
		// An instance that starts makes many events, one after the other.
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(settling):
		}
	}
}

// A server is the dnsmasq of a network whose end is waited for. Others than who
// watches start a new one, such as for another alias of an instance.
type server struct {
	process *dnsmasq.Process // Nil for none.
	ended   chan struct{}    // Closed when it has ended.
}

// follow waits for the end of the dnsmasq that runs now, which is an event.
func (s *server) follow(ctx context.Context, cfg networks.Config, events chan<- error) error {
	select {
	case <-s.ended:
		s.close()
	default:
	}
	if s.process != nil {
		return nil
	}
	p, err := dnsmasq.Find(cfg)
	if p == nil || err != nil {
		return err
	}
	ended := make(chan struct{})
	s.process, s.ended = p, ended
	go func() {
		err := p.Wait(ctx)
		close(ended)
		announce.Post(events, err)
	}()
	return nil
}

func (s *server) close() {
	if s.process != nil {
		s.process.Close()
	}
	s.process, s.ended = nil, nil
}

// groups are those of netlink's routes that tell of changes of the network.
func groups(cfg networks.Config, also Also) []int {
	all := append([]int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}, also.Groups...)
	if len(cfg.IPv4.Routes)+len(cfg.IPv6.Routes) > 0 {
		all = append(all, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	}
	return all
}

// settling is how long after an event it is looked what is missing.
const settling = 100 * time.Millisecond

// whatIsMissing returns what of the network is missing, if anything.
func whatIsMissing(cfg networks.Config) (string, error) {
	l, err := netlink.LinkByName(cfg.Name)
	if missing(err) {
		return "bridge", nil
	}
	if err != nil {
		return "", err
	}
	ok, err := addressed(l, cfg)
	if !ok || err != nil {
		return "address", err
	}
	ok, err = tunnelsIntact(l, cfg)
	if !ok || err != nil {
		return "tunnel", err
	}
	ok, err = routed(l, cfg)
	if !ok || err != nil {
		return "route", err
	}
	if name, err := lacking(l, cfg); name != "" || err != nil {
		return "port " + name, err
	}
	ok, err = nft.Intact(cfg)
	if !ok || err != nil {
		return "nftables rules", err
	}
	ok, err = dnsmasq.Intact(cfg)
	if !ok || err != nil {
		return "dnsmasq", err
	}
	return "", nil
}

// addressed reports whether the bridge is up and has the addresses of cfg.
func addressed(l netlink.Link, cfg networks.Config) (bool, error) {
	if l.Attrs().RawFlags&unix.IFF_UP == 0 {
		return false, nil
	}
	have, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return true, nil // It changes now: the next event tells.
	}
	if err != nil {
		return false, err
	}
	got := map[string]bool{}
	for _, a := range have {
		got[prefix(a).String()] = true
	}
	return (!cfg.IPv4.Address.IsValid() || got[cfg.IPv4.Address.String()]) &&
		(!cfg.IPv6.Address.IsValid() || got[cfg.IPv6.Address.String()] && slices.ContainsFunc(have, isLinkLocal)), nil
}
