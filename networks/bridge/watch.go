package bridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/networks/nft"
)

// Watch waits until the bridge, its rules or its dnsmasq are missing.
func (Driver) Watch(ctx context.Context, cfg networks.Config) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// Listening begins before the first look, so that nothing is missed.
	links, err := listen(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return "", err
	}
	defer links.Close()

	rules, err := listen(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return "", err
	}
	defer rules.Close()

	events := make(chan error, 1)
	go notify(links, events)
	go notify(rules, events)
	p, err := dnsmasq.Find(cfg)
	if err != nil {
		return "", err
	}
	if p != nil {
		defer p.Close()

		go func() { post(events, p.Wait(ctx)) }()
	}
	for {
		what, err := whatIsMissing(cfg)
		if what != "" || err != nil {
			return what, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case err := <-events:
			if err != nil {
				return "", err
			}
		}
	}
}

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

// listen returns a netlink socket that receives the kernel's announcements.
func listen(protocol int, groups ...int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("listen for changes of the network: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

// quiet is how long announcements are collected: they come in bursts.
const quiet = 50 * time.Millisecond

// notify posts to events whenever something is announced, until f is closed.
func notify(f *os.File, events chan<- error) {
	buf := make([]byte, 64<<10)
	for {
		_, err := f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		// ENOBUFS says that announcements were lost, which is one too.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			post(events, err)
			return
		}
		if err := f.SetReadDeadline(time.Now().Add(quiet)); err == nil {
			for err == nil {
				_, err = f.Read(buf)
			}
			_ = f.SetReadDeadline(time.Time{})
		}
		post(events, nil)
	}
}

// post posts an event if none waits already: whoever reads it looks anew.
func post(events chan<- error, err error) {
	select {
	case events <- err:
	default:
	}
}
