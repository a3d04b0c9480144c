// Package announce tells of what the kernel announces by netlink: that links,
// addresses, routes or rules of the firewall have changed.
package announce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// quiet is how long announcements are collected: they come in bursts.
const quiet = 50 * time.Millisecond

// Listen posts to events whenever something is announced to groups of a
// netlink protocol, such as [unix.RTNLGRP_LINK] of [unix.NETLINK_ROUTE], until
// the listener is closed. An error ends it.
func Listen(events chan<- error, protocol int, groups ...int) (io.Closer, error) {
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
	go read(f, events)
	return f, nil
}

func read(f *os.File, events chan<- error) {
	buf := make([]byte, 16) // What is announced is not looked at, and the kernel cuts it off.
	for {
		_, err := f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		// ENOBUFS says that announcements were lost, which is one too.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			Post(events, err)
			return
		}
		if err := f.SetReadDeadline(time.Now().Add(quiet)); err == nil {
			for err == nil {
				_, err = f.Read(buf)
			}
			_ = f.SetReadDeadline(time.Time{})
		}
		Post(events, nil)
	}
}

// Follow calls fn at once and after each event, at most once in calm: who
// changes much does so in many steps. It returns nil when ctx ends, and an
// event's error.
func Follow(ctx context.Context, events <-chan error, calm time.Duration, fn func()) error {
	return FollowAlso(ctx, events, calm, Silent{Every: math.MaxInt64, Changed: func() bool { return false }}, fn)
}

// A Silent is something that changes without being announced.
type Silent struct {
	Every   time.Duration // How often it is looked at.
	Changed func() bool   // Whether it is another than when it was asked last.
}

// FollowAlso is [Follow] that calls fn after changes of something silent, too.
func FollowAlso(ctx context.Context, events <-chan error, calm time.Duration, also Silent, fn func()) error {
	tick := time.NewTicker(also.Every)
	defer tick.Stop()
	also.Changed() // What it is before it is looked at.
	for {
		fn()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(calm):
		}
		for changed := false; !changed; {
			select {
			case <-ctx.Done():
				return nil
			case err := <-events:
				if err != nil {
					return err
				}
				changed = true
			case <-tick.C:
				changed = also.Changed()
			}
		}
	}
}

// Post sends an event, unless one waits already.
func Post(events chan<- error, err error) {
	select {
	case events <- err:
	default:
	}
}
