package runtime_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// TestInterfacesThatChange lists the interfaces of a guest that has many
// addresses and changes them all the time.
func TestInterfacesThatChange(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	start(t, r, s)
	in, err := r.Get(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", in.PID))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	guest, err := netlink.NewHandleAt(netns.NsHandle(int(ns.Fd())), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	lo, err := guest.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	address := func(i int) *netlink.Addr {
		return &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 1, byte(i>>8), byte(i)), Mask: net.CIDRMask(32, 32)}} //nolint:gosec // It is cut off.
	}
	const many = 2000
	for i := range many {
		if err := guest.AddrAdd(lo, address(i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var changes sync.WaitGroup
	changes.Go(func() {
		for ctx.Err() == nil {
			if err := guest.AddrDel(lo, address(many-1)); err != nil {
				t.Error(err)
				return
			}
			if err := guest.AddrAdd(lo, address(many-1)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 300 {
		all, err := r.Interfaces(s.Name)
		if err != nil {
			t.Error(err)
			break
		}
		if n := len(all["lo"].Addresses); n < many/2 {
			t.Errorf("there are %d addresses, want about %d", n, many)
			break
		}
	}
	cancel()
	changes.Wait()
}

// TestLookedAtWhileItEnds has somebody look at containers all the time while they
// end: what is half gone is no failure of the host.
func TestLookedAtWhileItEnds(t *testing.T) {
	r := newRuntime(t)
	for range 10 {
		s := newSpec(t)
		start(t, r, s)
		var looks sync.WaitGroup
		for what, look := range map[string]func() error{
			"usage":      func() error { _, err := r.Usage(s.Name); return err },
			"interfaces": func() error { _, err := r.Interfaces(s.Name); return err },
			"state":      func() error { _, err := r.Get(s.Name); return err },
		} {
			looks.Go(func() {
				for {
					err := look()
					switch {
					case err == nil, errs.Is(err, errs.Unavailable):
						continue
					case !errs.Is(err, errs.NotFound):
						t.Errorf("%s: %v", what, err)
					}
					return
				}
			})
		}
		if err := r.Kill(t.Context(), s.Name); err != nil {
			t.Error(err)
		}
		looks.Wait()
	}
}
