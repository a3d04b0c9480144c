package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/thread"
)

// reached has a program that listens here be connected to, by what from runs
// elsewhere.
func reached(ctx context.Context, network netip.Prefix, from func(dial func() error) error) (string, error) {
	to, err := address(network)
	if err != nil {
		return "", err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", netip.AddrPortFrom(to, 0).String())
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	defer func() { _ = l.Close() }() // Nothing was written.

	go answer(l)
	began := time.Now()
	err = from(func() error {
		conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return fmt.Sprintf("%s answers in %.1f ms", to, time.Since(began).Seconds()*1000), err
}

// answer takes connections until the listener is closed.
func answer(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.Close() // Nothing was written.
	}
}

// onHost runs fn on a thread in the namespace of the bridge.
func (t *trial) onHost(fn func() error) (err error) {
	thread.Do(func() {
		if err = unix.Setns(int(t.host.Fd()), unix.CLONE_NEWNET); err == nil {
			err = fn()
		}
	})
	return err
}

// address returns the one in a network that the interface has.
func address(network netip.Prefix) (netip.Addr, error) {
	l, err := netlink.LinkByName(inner)
	if err != nil {
		return netip.Addr{}, err
	}
	all, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && network.Contains(ip.Unmap()) {
			return ip.Unmap(), nil
		}
	}
	return netip.Addr{}, errors.New("the interface has lost its address")
}
