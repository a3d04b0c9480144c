package networkstest

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/thread"
)

// A NS is a network namespace.
type NS struct{ file *os.File }

// Here returns the namespace of the calling thread.
func Here(tb testing.TB) *NS {
	tb.Helper()
	f, err := os.Open("/proc/thread-self/ns/net")
	must(tb, err)
	tb.Cleanup(func() { f.Close() })
	return &NS{f}
}

// New returns a new namespace.
func New(tb testing.TB) *NS {
	tb.Helper()
	var n NS
	var err error
	thread.Do(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
	})
	must(tb, err)
	tb.Cleanup(func() { n.file.Close() })
	return &n
}

// File is the namespace, for those who put something into it.
func (n *NS) File() *os.File { return n.file }

// Do runs fn on a thread in the namespace.
func (n *NS) Do(fn func() error) (err error) {
	thread.Do(func() {
		if err = unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err == nil {
			err = fn()
		}
	})
	return err
}

// Must is Do for what must succeed.
func (n *NS) Must(tb testing.TB, fn func() error) {
	tb.Helper()
	must(tb, n.Do(fn))
}

// Plug makes a pair of interfaces: hostName here, attached to the bridge if
// that is not empty, and eth0 in the namespace, with the MAC address if it is
// not empty. Both are up.
func (n *NS) Plug(tb testing.TB, hostName, bridge, mac string) {
	tb.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = hostName
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(n.file.Fd()))}
	if mac != "" {
		hw, err := net.ParseMAC(mac)
		must(tb, err)
		veth.PeerHardwareAddr = hw
	}
	must(tb, netlink.LinkAdd(veth))
	n.Must(tb, func() error {
		for _, name := range []string{"lo", "eth0"} {
			// An address can be used at once.
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0o644); err != nil {
				return err
			}
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(l); err != nil {
				return err
			}
		}
		return nil
	})
	l, err := netlink.LinkByName(hostName)
	must(tb, err)
	if bridge != "" {
		br, err := netlink.LinkByName(bridge)
		must(tb, err)
		must(tb, netlink.LinkSetMaster(l, br))
	}
	must(tb, netlink.LinkSetUp(l))
}

// Guest returns a namespace with an eth0 on the bridge.
func Guest(tb testing.TB, bridge, hostName, mac string) *NS {
	tb.Helper()
	n := New(tb)
	n.Plug(tb, hostName, bridge, mac)
	return n
}

// World returns a namespace that is connected to the host, and has addresses
// that guests have no route from: 192.0.2.2 and 2001:db8::2.
func World(tb testing.TB) *NS {
	tb.Helper()
	n := New(tb)
	n.Plug(tb, "uplink", "", "")
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		must(tb, Address("uplink", a))
	}
	n.Must(tb, func() error {
		if err := Address("eth0", "192.0.2.2/24"); err != nil {
			return err
		}
		return Address("eth0", "2001:db8::2/64")
	})
	return n
}

// Address gives an interface of the calling thread's namespace an address.
func Address(name, cidr string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(l, a)
}

// Route gives the calling thread's namespace a default route.
func Route(via netip.Addr) error {
	return netlink.RouteAdd(&netlink.Route{Gw: via.AsSlice()})
}
