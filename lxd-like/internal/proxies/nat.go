package proxies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/profiles"
)

// forwards are what nftables is to have for an instance.
func (s *Service) forwards(instance string) ([]nft.Forward, error) {
	var all []*proxy
	for _, p := range s.of(instance) {
		if p.rule.NAT {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *proxy) int { return cmp.Compare(a.owner.Device, b.owner.Device) })
	var out []nft.Forward
	for _, p := range all {
		f, err := forward(p.rule)
		if err != nil {
			return nil, fmt.Errorf("device %q: %w", p.owner.Device, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func forward(r Rule) (nft.Forward, error) {
	listen, err := profiles.ParseProxyAddress(r.Listen)
	if err != nil {
		return nft.Forward{}, err
	}
	connect, err := profiles.ParseProxyAddress(r.Connect)
	if err != nil {
		return nft.Forward{}, err
	}
	f := nft.Forward{UDP: listen.Kind == "udp", Listen: listen.Address(listening), Target: r.Target, Bridge: r.Bridge}
	targets := connect.List()
	for i, port := range listen.List() {
		to := targets[0]
		if len(targets) > 1 {
			to = targets[i]
		}
		f.Ports = append(f.Ports, nft.PortPair{From: port, To: to})
	}
	return f, nil
}

// applyNAT makes nftables have what an instance is to have.
func (s *Service) applyNAT(instance string) error {
	s.nat.Lock()
	defer s.nat.Unlock()
	list, err := s.forwards(instance)
	if err != nil {
		return err
	}
	return s.Forward.Apply(instance, list)
}

// Run puts the rules of nftables back when somebody removes them, until ctx
// ends.
func (s *Service) Run(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("listen for changes of nftables: %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES); err != nil {
		return os.NewSyscallError("listen for changes of nftables", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }) // It is open.
	defer stop()
	for {
		if err := s.repairNAT(); err != nil && ctx.Err() == nil {
			s.Log.ErrorContext(ctx, "cannot keep rules of proxies", "err", err)
		}
		if err := nextChange(ctx, f); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// quiet is how long announcements are collected: they come in bursts.
const quiet = 50 * time.Millisecond

// nextChange waits until something has been announced.
func nextChange(ctx context.Context, f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	// ENOBUFS says that announcements were lost, which is one too.
	take := func(fd uintptr) bool {
		_, err = unix.Read(int(fd), buf)
		return !errors.Is(err, unix.EAGAIN)
	}
	if rerr := conn.Read(take); rerr != nil && ctx.Err() != nil {
		return nil
	} else if rerr != nil {
		return fmt.Errorf("listen for changes of nftables: %w", rerr)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(quiet):
	}
	return conn.Control(func(fd uintptr) {
		for take(fd) && (err == nil || errors.Is(err, unix.ENOBUFS)) {
		}
	})
}

// repairNAT applies again what is not as it was applied.
func (s *Service) repairNAT() error {
	s.nat.Lock()
	defer s.nat.Unlock()
	var failed error
	for _, name := range s.forwarding() {
		list, err := s.forwards(name)
		intact := false
		if err == nil && len(list) > 0 {
			intact, err = s.Forward.Intact(name, list)
		}
		if err == nil && !intact {
			err = s.Forward.Apply(name, list)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// forwarding are the instances that have rules.
func (s *Service) forwarding() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for of, p := range s.all {
		if p.rule.NAT && !slices.Contains(out, of.Instance) {
			out = append(out, of.Instance)
		}
	}
	return out
}
