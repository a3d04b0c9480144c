// Package probe tries a network out as an instance would: from a network
// namespace of its own that is connected to the bridge, it gets an address, asks
// for names, and connects to what is behind the host.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/pause"
	"github.com/cuib/cuib/shared/thread"
)

// A Status is what became of a check.
type Status string

// What becomes of checks.
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Skipped Status = "skipped" // It could not be tried, which the detail tells.
)

// A Check is one thing that was tried.
type Check struct {
	Name   string // For people.
	Status Status
	Detail string
	Needs  []string // Beginnings of the names of packets, as the firewall's needs have them, that it depends on.
}

// patience is how long one check waits for an answer.
const patience = 4 * time.Second

// inner is the name of the interface in the namespace.
const inner = "eth0"

// Run tries out a bridge of the network namespace of the calling thread. Its
// interface and its lease are gone when it returns. The error is that of what
// is needed to try anything.
func Run(ctx context.Context, cfg networks.Config) (checks []Check, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer host.Close()

	thread.Do(func() { // With the thread its namespace ends.
		if err = unix.Setns(int(host.Fd()), unix.CLONE_NEWNET); err == nil {
			checks, err = run(ctx, cfg, host)
		}
	})
	return checks, err
}

// trial is one run.
type trial struct {
	cfg    networks.Config
	host   *os.File // The namespace of the bridge.
	client Client
	hw     net.HardwareAddr
	checks []Check
}

func run(ctx context.Context, cfg networks.Config, host *os.File) (_ []Check, err error) {
	// Before the thread has a namespace of its own: what is behind the host.
	t := &trial{cfg: cfg, host: host, client: Client{Interface: inner, Patience: patience}}
	out4, out6 := behind(ctx, netlink.FAMILY_V4), behind(ctx, netlink.FAMILY_V6)
	unplug, err := t.plug()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unplug()) }()

	if cfg.IPv4.Address.IsValid() {
		t.ipv4(ctx, out4)
	}
	if cfg.IPv6.Address.IsValid() {
		t.ipv6(ctx, out6)
	}
	return t.checks, ctx.Err()
}

// plug puts the calling thread into a new namespace that has an interface on
// the bridge.
func (t *trial) plug() (unplug func() error, err error) {
	host, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	bridge, err := host.LinkByName(t.cfg.Name)
	if err != nil {
		host.Close()
		return nil, fmt.Errorf("find the bridge %s: %w", t.cfg.Name, err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		host.Close()
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		host.Close()
		return nil, err
	}
	defer here.Close()

	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("cuibdr%d", unix.Gettid()) // At most 13 characters.
	attrs.MasterIndex = bridge.Attrs().Index
	attrs.MTU = bridge.Attrs().MTU
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: inner, PeerNamespace: netlink.NsFd(int(here.Fd()))}
	if err := host.LinkAdd(veth); err != nil {
		host.Close()
		return nil, fmt.Errorf("connect to the bridge %s: %w", t.cfg.Name, err)
	}
	unplug = func() error {
		defer host.Close()
		return host.LinkDel(veth)
	}
	if err := errors.Join(host.LinkSetUp(veth), t.setUp()); err != nil {
		return nil, errors.Join(err, unplug())
	}
	return unplug, nil
}

// setUp sets the interfaces of the namespace up.
func (t *trial) setUp() error {
	// An address can be used at once, and routers are asked again and again.
	for name, value := range map[string]string{"accept_dad": "0", "router_solicitation_delay": "0", "router_solicitation_interval": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+inner+"/"+name, []byte(value), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, name := range []string{"lo", inner} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		t.hw = l.Attrs().HardwareAddr
	}
	return nil
}

// try does one check. It tells whether that was well.
func (t *trial) try(c Check, fn func() (string, error)) bool {
	detail, err := fn()
	c.Status, c.Detail = OK, detail
	if err != nil {
		c.Status, c.Detail = Failed, err.Error()
	}
	t.checks = append(t.checks, c)
	return err == nil
}

// tryIfAllowed is try for what the network's ACLs can refuse: if there are some, nobody
// knows whether what fails is wrong.
func (t *trial) tryIfAllowed(c Check, fn func() (string, error)) {
	if t.try(c, fn) || t.cfg.ACL == nil {
		return
	}
	last := &t.checks[len(t.checks)-1]
	last.Status, last.Detail = Skipped, "it fails, as the network's ACLs may want it (security.acls): "+last.Detail
}

func (t *trial) skip(name, why string) {
	t.checks = append(t.checks, Check{Name: name, Status: Skipped, Detail: why})
}

// ipv4 tries IPv4.
func (t *trial) ipv4(ctx context.Context, out target) {
	const suffix = " (IPv4)"
	if !t.cfg.IPv4.DHCP {
		t.skip("address by DHCP"+suffix, "the network has no DHCP, so nothing else can be tried")
		return
	}
	var lease Offer
	got := t.try(Check{Name: "address by DHCP" + suffix, Needs: []string{"DHCP requests of instances" + suffix, "DHCP answers to instances" + suffix}}, func() (string, error) {
		began := time.Now()
		var err error
		if lease, err = t.client.DHCP(ctx, t.hw, ""); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s in %d ms", lease.Address, time.Since(began).Milliseconds()), t.use(lease)
	})
	if !got {
		return
	}
	t.common(ctx, t.cfg.IPv4, out, suffix)
	t.try(Check{Name: "lease given back" + suffix}, func() (string, error) { return lease.Address.String(), t.client.Release(ctx, t.hw, lease) })
}

// use gives the interface what DHCP gave.
func (t *trial) use(o Offer) error {
	l, err := netlink.LinkByName(inner)
	if err != nil {
		return err
	}
	mask := net.IPMask(o.Options[optMask])
	if len(mask) != net.IPv4len {
		return errors.New("the answer has no netmask")
	}
	err = netlink.AddrAdd(l, &netlink.Addr{IPNet: &net.IPNet{IP: o.Address.AsSlice(), Mask: mask}})
	if err != nil {
		return fmt.Errorf("use the address: %w", err)
	}
	if router, ok := netip.AddrFromSlice(o.Options[optRouter]); ok {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: router.AsSlice()}); err != nil {
			return fmt.Errorf("use the router %s: %w", router, err)
		}
	}
	return nil
}

// ipv6 tries IPv6.
func (t *trial) ipv6(ctx context.Context, out target) {
	const suffix = " (IPv6)"
	needs := []string{"router solicitations of instances" + suffix, "router advertisements to instances" + suffix}
	got := t.try(Check{Name: "route by router advertisements" + suffix, Needs: needs}, func() (string, error) {
		return t.wait(ctx, "no router has announced itself", routed)
	})
	if got && t.cfg.IPv6.Stateful {
		got = t.try(Check{Name: "address by DHCP" + suffix, Needs: []string{"DHCP requests of instances" + suffix}}, func() (string, error) {
			return t.leased(ctx)
		})
	} else if got {
		got = t.try(Check{Name: "address by autoconfiguration" + suffix, Needs: needs}, func() (string, error) {
			return t.wait(ctx, "no address has come", t.addressed)
		})
	}
	if got {
		t.common(ctx, t.cfg.IPv6, out, suffix)
	}
}

// leased gives the interface an IPv6 address that DHCP gave.
func (t *trial) leased(ctx context.Context) (string, error) {
	a, err := t.client.DHCPv6(ctx, t.hw)
	if err != nil {
		return "", err
	}
	l, err := netlink.LinkByName(inner)
	if err != nil {
		return "", err
	}
	to := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
	return a.String(), netlink.AddrAdd(l, to)
}

// wait waits until look finds something, and returns it with how long that
// took.
func (t *trial) wait(ctx context.Context, nothing string, look func(l netlink.Link) (string, error)) (string, error) {
	l, err := netlink.LinkByName(inner)
	if err != nil {
		return "", err
	}
	began := time.Now()
	for end := began.Add(patience); time.Now().Before(end) && ctx.Err() == nil; _ = pause.For(ctx, 20*time.Millisecond) {
		if found, err := look(l); found != "" || err != nil {
			return fmt.Sprintf("%s in %d ms", found, time.Since(began).Milliseconds()), err
		}
	}
	return "", fmt.Errorf("%s in %s", nothing, patience)
}

// routed looks for a router that the kernel has heard of.
func routed(l netlink.Link) (string, error) {
	routes, err := netlink.RouteList(l, netlink.FAMILY_V6)
	for _, r := range routes {
		if r.Gw != nil && r.Protocol == unix.RTPROT_RA {
			return r.Gw.String(), nil
		}
	}
	return "", err
}

// addressed looks for an address that the kernel made of what a router said.
func (t *trial) addressed(l netlink.Link) (string, error) {
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && t.cfg.IPv6.Address.Contains(ip) {
			return ip.String(), nil
		}
	}
	return "", err
}

// common tries what IPv4 and IPv6 have alike, with an address.
func (t *trial) common(ctx context.Context, f networks.Family, out target, suffix string) {
	host := f.Address.Addr()
	t.tryIfAllowed(Check{Name: "ping of the host" + suffix}, func() (string, error) {
		took, err := echo(ctx, host)
		return fmt.Sprintf("%s in %.1f ms", host, took.Seconds()*1000), err
	})
	t.try(Check{Name: "DNS of the host" + suffix, Needs: []string{"DNS queries of instances" + suffix}}, func() (string, error) {
		name := strings.Trim("localhost."+t.cfg.DNS.Domain, ".")
		_, err := t.client.Lookup(ctx, host, name, dnsmessage.TypeA)
		return host.String() + " answers", err
	})
	inward := []string{"connections of the host to instances" + suffix, "answers of instances to the host" + suffix, "neighbor advertisements of instances" + suffix}
	t.tryIfAllowed(Check{Name: "connection from the host" + suffix, Needs: inward}, func() (string, error) { return reached(ctx, f.Address, t.onHost) })
	if f.Routing && !f.NAT && t.cfg.ACL == nil {
		outside := []string{"connections from other networks to instances" + suffix, "answers of instances to other networks" + suffix}
		t.try(Check{Name: "connection from other networks" + suffix, Needs: outside}, func() (string, error) {
			return reached(ctx, f.Address, func(dial func() error) error { return t.outside(host, dial) })
		})
	}
	const name = "connection to other networks"
	reach := out.reach
	if t.cfg.ACL != nil { // They refuse connections as routers do.
		reach = func(ctx context.Context) error { _, err := echo(ctx, out.address); return err }
	}
	switch {
	case !f.Routing:
		t.skip(name+suffix, "the network is not routed")
	case !out.address.IsValid():
		t.skip(name+suffix, out.why)
	default:
		t.tryIfAllowed(Check{Name: name + suffix, Needs: []string{"connections of instances to other networks" + suffix, "answers from other networks to instances" + suffix}}, func() (string, error) {
			return out.address.String() + " answers", reach(ctx)
		})
	}
}
