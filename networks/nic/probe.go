package nic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// How often it is asked who has an address, and how long an answer is waited
// for.
const (
	probes     = 3
	probePause = 100 * time.Millisecond
)

// probe refuses addresses that somebody has on the parent.
func (h Host) probe(ctx context.Context, n NIC) error {
	if !n.IPv4.Probe && !n.IPv6.Probe || n.Parent == "" {
		return nil
	}
	l, err := h.link(n.Lower())
	if errs.Is(err, errs.NotFound) && n.Lower() != n.Parent {
		return nil // Nobody is there: it is yet to be made.
	}
	if err != nil {
		return err
	}
	if l.Attrs().RawFlags&unix.IFF_UP == 0 {
		return nil
	}
	for _, f := range n.families() {
		if !f.Probe {
			continue
		}
		for _, a := range f.Addresses {
			has, err := someone(ctx, l, a.Addr())
			if err != nil {
				return fmt.Errorf("ask who has %s on %s: %w", a.Addr(), n.Lower(), err)
			}
			if has {
				return errs.Conflictf("address %s is somebody's on %s already; neighbor_probe=false starts without asking", a.Addr(), n.Lower())
			}
		}
	}
	return nil
}

// someone reports whether somebody answers for an address.
func someone(ctx context.Context, l netlink.Link, a netip.Addr) (bool, error) {
	q := askARP
	if a.Is6() {
		q = askNDP
	}
	f, ask, err := q(l, a)
	if f == nil || err != nil {
		return false, err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	buf := make([]byte, 2048)
	for range probes {
		if err := ask.send(f); err != nil {
			return false, err
		}
		if err := f.SetReadDeadline(time.Now().Add(probePause)); err != nil {
			return false, err
		}
		for {
			n, err := f.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return false, errors.Join(context.Cause(ctx), err)
			}
			if ask.answers(buf[:n]) {
				return true, nil
			}
		}
	}
	return false, nil
}

// A question is what is asked, to whom, and what an answer is.
type question struct {
	data    []byte
	to      unix.Sockaddr
	answers func([]byte) bool
}

func (q question) send(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = errors.Join(raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), q.data, 0, q.to)
		return !errors.Is(err, unix.EAGAIN)
	}), err)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENETUNREACH) {
		return nil // The host has no address there to ask from.
	}
	return err
}

func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// askARP asks as who wants to know whether it can have an address itself.
func askARP(l netlink.Link, a netip.Addr) (*os.File, question, error) {
	mac := l.Attrs().HardwareAddr
	if len(mac) != 6 {
		return nil, question{}, nil // Nobody is asked there.
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, question{}, err
	}
	f := os.NewFile(uintptr(fd), "arp")
	at := unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: l.Attrs().Index}
	if err := unix.Bind(fd, &at); err != nil {
		return nil, question{}, errors.Join(err, f.Close())
	}
	to := at
	to.Halen, to.Addr = 6, [8]byte{255, 255, 255, 255, 255, 255}
	// Ethernet, IPv4, and the sizes of their addresses; a request.
	data := append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, mac...)
	data = append(data, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	data = append(data, a.AsSlice()...)
	return f, question{data, &to, func(b []byte) bool {
		if len(b) < 28 || string(b[8:14]) == string(mac) {
			return false
		}
		sender, _ := netip.AddrFromSlice(b[14:18])
		return sender == a
	}}, nil
}

// askNDP asks as a neighbor.
func askNDP(l netlink.Link, a netip.Addr) (*os.File, question, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMPV6)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, question{}, nil
	}
	if err != nil {
		return nil, question{}, err
	}
	f := os.NewFile(uintptr(fd), "ndp")
	if err := errors.Join(
		unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, l.Attrs().Name),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
	); err != nil {
		return nil, question{}, errors.Join(err, f.Close())
	}
	raw := a.As16()
	group := [16]byte{0xff, 2, 11: 1, 12: 0xff, 13: raw[13], 14: raw[14], 15: raw[15]}
	const ask, answer = 135, 136
	data := append([]byte{ask, 0, 0, 0, 0, 0, 0, 0}, raw[:]...)
	if mac := l.Attrs().HardwareAddr; len(mac) == 6 {
		data = append(append(data, 1, 1), mac...)
	}
	to := &unix.SockaddrInet6{ZoneId: uint32(l.Attrs().Index), Addr: group} //nolint:gosec // Indexes are small.
	return f, question{data, to, func(b []byte) bool {
		return len(b) >= 24 && b[0] == answer && string(b[8:24]) == string(raw[:])
	}}, nil
}
