package proxies

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// changed is what the kernel has announced.
type changed struct {
	lost      bool            // More than is known: anything can have changed.
	tables    map[string]bool // Of nftables.
	links     map[string]int  // With their numbers.
	addressed map[int]bool    // The numbers of links that got or lost an address.
}

// isMoved reports whether a bridge is another than it was, or has other addresses,
// or was not looked at before. It notes it in known.
func (c changed) isMoved(bridge string, known map[string]int) bool {
	now, told := c.links[bridge]
	if was := known[bridge]; was != 0 && (!told || now == was) {
		return c.addressed[was]
	}
	if !told {
		l, err := netlink.LinkByName(bridge)
		if err != nil {
			return false // It is told of when it comes.
		}
		now = l.Attrs().Index
	}
	known[bridge] = now
	return true
}

// changes collects what the kernel announces, until it is taken.
type changes struct {
	some chan struct{} // Has an element when there are some.

	mu  sync.Mutex // Guards now.
	now changed
}

// newChanges returns changes of which the first are not known.
func newChanges() *changes { return &changes{some: make(chan struct{}, 1), now: changed{lost: true}} }

// take returns what was announced since it was taken last.
func (c *changes) take() changed {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.now
	c.now = changed{}
	return out
}

// listen collects what is announced of tables of nftables, links and addresses until
// ctx ends.
func (c *changes) listen(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return c.announced(ctx, unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES) })
	g.Go(func() error {
		return c.announced(ctx, unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	})
}

// announced collects what the kernel announces to groups of netlink, until ctx ends.
func (c *changes) announced(ctx context.Context, protocol int, groups ...int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return os.NewSyscallError("listen for changes of the network", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	for _, group := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group); err != nil {
			return os.NewSyscallError("listen for changes of the network", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) }) // It is open.
	defer stop()
	buf := make([]byte, longest)
	for {
		if err := c.next(ctx, f, buf); err != nil || ctx.Err() != nil {
			return err
		}
		select {
		case c.some <- struct{}{}:
		default:
		}
	}
}

const (
	// quiet is how long announcements are collected: they come in bursts.
	quiet = 50 * time.Millisecond

	// longest is room for what is announced at once. More is taken for anything.
	longest = 64 << 10
)

// next waits until something has been announced, and for what comes with it.
func (c *changes) next(ctx context.Context, f *os.File, buf []byte) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	take := func(fd uintptr) bool {
		var n int
		n, err = unix.Read(int(fd), buf)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		c.add(buf[:max(n, 0)], n == len(buf) || errors.Is(err, unix.ENOBUFS)) // Which says that announcements were lost.
		return true
	}
	if rerr := conn.Read(take); rerr != nil && ctx.Err() == nil {
		return fmt.Errorf("listen for changes of the network: %w", rerr)
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

// add adds messages of the kernel.
func (c *changes) add(data []byte, lost bool) {
	messages, err := syscall.ParseNetlinkMessage(data)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now.lost = c.now.lost || lost || err != nil
	for _, m := range messages {
		if c.now.add(m) != nil {
			c.now.lost = true
		}
	}
}

// add adds a message.
func (c *changed) add(m syscall.NetlinkMessage) error {
	switch typ := int(m.Header.Type); {
	case typ == unix.RTM_NEWLINK:
		name, err := textIn(m.Data, unix.SizeofIfInfomsg, unix.IFLA_IFNAME)
		if err == nil && name != "" {
			if c.links == nil {
				c.links = map[string]int{}
			}
			c.links[name] = int(int32(binary.NativeEndian.Uint32(m.Data[4:]))) //nolint:gosec // It is such a number.
		}
		return err
	case typ == unix.RTM_NEWADDR || typ == unix.RTM_DELADDR:
		return c.addAddress(m.Data)
	case typ>>8 == unix.NFNL_SUBSYS_NFTABLES && typ&0xff != unix.NFT_MSG_NEWGEN: // That ends a change.
		name, err := textIn(m.Data, nl.SizeofNfgenmsg, unix.NFTA_TABLE_NAME) // Of all that is in a table it is the first, too.
		if err == nil {
			if c.tables == nil {
				c.tables = map[string]bool{}
			}
			c.tables[name] = true
		}
		return err
	}
	return nil
}

// addAddress adds a message about an address of a link.
func (c *changed) addAddress(data []byte) error {
	if len(data) < unix.SizeofIfAddrmsg {
		return errShort
	}
	if data[0] == unix.AF_INET6 && data[3] == unix.RT_SCOPE_LINK {
		return nil // A bridge makes one itself. Nothing leads there.
	}
	if c.addressed == nil {
		c.addressed = map[int]bool{}
	}
	c.addressed[int(binary.NativeEndian.Uint32(data[4:]))] = true
	return nil
}

var errShort = errors.New("a message is too short")

// textIn returns a text of the attributes that follow a head; empty if there is none.
func textIn(data []byte, head int, attribute uint16) (string, error) {
	if len(data) < head {
		return "", errShort
	}
	all, err := nl.ParseRouteAttr(data[head:])
	for _, a := range all {
		if a.Attr.Type == attribute {
			return nl.BytesToString(a.Value), err
		}
	}
	return "", err
}
