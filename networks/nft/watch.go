package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Steps of Watch: how long changes are collected, which come in bursts, and
// how long it waits before it looks again, at least: who changes rules all the
// time does not keep the daemon busy.
const (
	watchQuiet = 50 * time.Millisecond
	watchPause = 200 * time.Millisecond
)

// Watch calls fn whenever somebody has changed nftables, until ctx ends.
func Watch(ctx context.Context, fn func()) error {
	f, err := listen()
	if err != nil {
		return fmt.Errorf("listen for changes of nftables: %w", err)
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	for {
		err := changed(f)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		fn()
		select {
		case <-ctx.Done():
		case <-time.After(watchPause):
		}
	}
}

func listen() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "nftables")
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.NFNLGRP_NFTABLES),
	); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// changed waits for a change, and for the end of those that come with it.
func changed(f *os.File) error {
	buf := make([]byte, 16)                                                 // What has changed is not looked at, and the kernel cuts it off.
	if _, err := f.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) { // Which says that some were lost.
		return err
	}
	if err := f.SetReadDeadline(time.Now().Add(watchQuiet)); err != nil {
		return err
	}
	var err error
	for err == nil || errors.Is(err, unix.ENOBUFS) {
		_, err = f.Read(buf)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return f.SetReadDeadline(time.Time{})
}
