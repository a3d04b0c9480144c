package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// A netNS is the network namespace of a container, and ours.
type netNS struct {
	nic.Host
	guest *nic.Guest
}

func (r *Runtime) openNetNS(in *guestInit) (*netNS, error) {
	file, err := in.open("ns/net", os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	guest, err := handleAt(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	host, err := r.openHost()
	if err != nil {
		guest.Close()
		return nil, errors.Join(err, file.Close())
	}
	return &netNS{host, &nic.Guest{Net: guest, File: file}}, nil
}

func (r *Runtime) openHost() (nic.Host, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	return nic.Host{Net: h, Ports: r.ports()}, err
}

// ports are what nftables has of the host's ends of NICs.
func (r *Runtime) ports() *nft.Ports {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.filters == nil {
		r.filters = nft.NewPorts(r.Dir)
	}
	return r.filters
}

func (s *netNS) close() {
	s.Net.Close()
	s.guest.Net.Close()
	s.guest.File.Close()
}

// makeNICs makes what liblxc does not make itself, before the container starts.
func (r *Runtime) makeNICs(ctx context.Context, c *container) error {
	all := prepared(c.spec)
	if len(all) == 0 {
		return nil
	}
	host, err := r.openHost()
	if err != nil {
		return err
	}
	defer host.Net.Close()
	for _, n := range all {
		if n.Kind == nic.CNI {
			continue // There is no namespace yet.
		}
		if err := r.makeNIC(ctx, host, c.name, n, nil); err != nil {
			return errs.Newf(errs.KindOf(err), "network interface %s: %w", n.Name, err)
		}
	}
	return nil
}

func prepared(s Spec) []NIC {
	var all []NIC
	for _, n := range s.NICs {
		if n.Prepared() {
			all = append(all, n)
		}
	}
	return all
}

// makeNIC makes one of a container, and the VLAN of the host that several can
// share.
func (r *Runtime) makeNIC(ctx context.Context, host nic.Host, of string, n NIC, g *nic.Guest) error {
	if n.Kind == nic.CNI {
		return r.plug(ctx, of, n, g)
	}
	if n.Lower() != n.Parent {
		r.lowers.Lock()
		defer r.lowers.Unlock()
	}
	return host.Make(ctx, n, g)
}

// removeNIC removes one of a container.
func (r *Runtime) removeNIC(ctx context.Context, host nic.Host, of string, n NIC, g *nic.Guest) error {
	if n.Kind == nic.CNI {
		return r.unplugged(ctx, of, n, g)
	}
	if n.Lower() != n.Parent {
		r.lowers.Lock()
		defer r.lowers.Unlock()
	}
	return host.Remove(n, g, func(lower string) bool { return r.needs(lower, of, n.Device) })
}

// needs reports whether a NIC is on an interface of the host, but for one
// device of an instance.
func (r *Runtime) needs(lower, except, device string) bool {
	for _, c := range r.all() {
		for _, n := range c.specNow().NICs {
			if n.Lower() == lower && (c.name != except || n.Device != device) {
				return true
			}
		}
	}
	return false
}

func (r *Runtime) all() []*container {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*container, 0, len(r.running))
	for _, c := range r.running {
		all = append(all, c)
	}
	return all
}

// removeNICs removes what is left of the NICs of a container that has ended:
// what liblxc has not made it does not remove.
func (r *Runtime) removeNICs(ctx context.Context, s Spec, netns *os.File) error {
	if netns != nil {
		defer netns.Close()
	}
	all := prepared(s)
	if len(all) == 0 {
		return nil
	}
	host, err := r.openHost()
	if err != nil {
		return err
	}
	defer host.Net.Close()
	var failed []error
	var guest *nic.Guest // Only of what is the host's: all else ends with it.
	if netns != nil {
		h, err := handleAt(netns)
		if err != nil {
			return err
		}
		defer h.Close()
		guest = &nic.Guest{Net: h, File: netns}
	}
	for _, n := range all {
		g := guest
		if !ofHost(n) {
			g = nil
		}
		failed = append(failed, r.removeNIC(ctx, host, s.Name, n, g))
	}
	return errors.Join(failed...)
}

// ofHost reports whether a NIC is an interface of the host itself, or can be.
func ofHost(n NIC) bool { return n.Kind == nic.Physical || n.Kind == nic.CNI }

// hold keeps the network namespace of a guest that has interfaces of the host:
// with it they would go to the first namespace of the kernel, or be gone.
func (c *container) hold(in *guestInit) {
	has := slices.ContainsFunc(c.specNow().NICs, ofHost)
	if !has {
		return
	}
	file, err := in.open("ns/net", os.O_RDONLY)
	if err != nil {
		return // It has ended, and liblxc has taken them back.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.netns != nil || c.ending || in.ended() {
		file.Close()
		return
	}
	c.netns = file
}

// letGo returns what hold keeps; nil for nothing.
func (c *container) letGo() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	file := c.netns
	c.netns = nil
	return file
}

// AddNIC gives a running container a network interface.
func (r *Runtime) AddNIC(ctx context.Context, name string, n NIC) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	if err := noLive(c.spec, n); err != nil {
		return err
	}
	if slices.ContainsFunc(c.spec.NICs, func(o NIC) bool { return o.Name == n.Name }) {
		return errs.Conflictf("instance %q has a network interface %q already", name, n.Name)
	}
	ns, err := r.openNetNS(in)
	if err != nil {
		return c.during(in, err)
	}
	defer ns.close()
	if _, err := ns.guest.Net.LinkByName(n.Name); err == nil {
		return errs.Conflictf("instance %q has a network interface %q already", name, n.Name)
	}
	if n.Pair() {
		if _, err := ns.Net.LinkByName(n.HostName); err == nil {
			return errs.Conflictf("the host has a network interface %q already", n.HostName)
		}
	}
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	// It is known before it is there: the end of the daemon leaves nothing then.
	u.Push("forget "+n.Name, func(context.Context) error { return r.respec(c, withoutNIC(n)) })
	if err := r.respec(c, func(s *Spec) { s.NICs = append(slices.Clone(s.NICs), n) }); err != nil {
		return err
	}
	u.Push("remove "+n.Name, func(ctx context.Context) error { return r.removeNIC(ctx, ns.Host, name, n, ns.guest) })
	if err := r.makeNIC(ctx, ns.Host, name, n, ns.guest); err != nil {
		return c.during(in, errs.Newf(errs.KindOf(err), "network interface %s: %w", n.Name, err))
	}
	c.hold(in)
	return nil
}

func withoutNIC(n NIC) func(*Spec) {
	return func(s *Spec) {
		s.NICs = slices.DeleteFunc(slices.Clone(s.NICs), func(o NIC) bool { return o.Name == n.Name })
	}
}

// RemoveNIC takes a network interface from a running container. That the guest
// has removed it itself is no error.
func (r *Runtime) RemoveNIC(ctx context.Context, name string, n NIC) error {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	if err := noLive(c.spec, n); err != nil {
		return err
	}
	i := c.indexNIC(n)
	if i < 0 {
		return errs.NotFoundf("instance %q has no network interface %q", name, n.Name)
	}
	ns, err := r.openNetNS(in)
	if err != nil {
		return c.during(in, err)
	}
	defer ns.close()
	if err := r.removeNIC(ctx, ns.Host, name, c.spec.NICs[i], ns.guest); err != nil {
		return c.during(in, fmt.Errorf("network interface %s: %w", n.Name, err))
	}
	return r.respec(c, withoutNIC(n))
}

func (c *container) indexNIC(n NIC) int {
	return slices.IndexFunc(c.spec.NICs, func(o NIC) bool { return o.Name == n.Name })
}

// ChangeNIC makes a network interface of a running container another, for
// which it is [nic.NIC.Live]. The guest keeps the interface.
func (r *Runtime) ChangeNIC(ctx context.Context, name string, n NIC) (err error) {
	c, in, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	i := c.indexNIC(n)
	if i < 0 {
		return errs.NotFoundf("instance %q has no network interface %q", name, n.Name)
	}
	old := c.spec.NICs[i]
	ns, err := r.openNetNS(in)
	if err != nil {
		return c.during(in, err)
	}
	defer ns.close()
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	u.Push("change "+n.Name+" back", func(ctx context.Context) error { return ns.Change(ctx, n, old, ns.guest) })
	if err := ns.Change(ctx, old, n, ns.guest); err != nil {
		return c.during(in, errs.Newf(errs.KindOf(err), "network interface %s: %w", n.Name, err))
	}
	return r.respec(c, func(s *Spec) {
		s.NICs = slices.Clone(s.NICs)
		s.NICs[i] = n
	})
}

// takeFilters has nftables look at what comes from the containers that run,
// after the daemon's start.
func (r *Runtime) takeFilters() error {
	var ports []nft.Port
	for _, c := range r.all() {
		for _, n := range c.specNow().NICs {
			if p, some := n.FilterPort(); some {
				ports = append(ports, p)
			}
		}
	}
	return errors.Join(r.ports().Take(ports), r.takeACLs())
}

// takeACLs does the same for ACLs. What one NIC cannot have any more it does
// without: that is no reason for others to have none.
func (r *Runtime) takeACLs() error {
	var ports []nft.ACLPort
	for _, c := range r.all() {
		for _, n := range c.specNow().NICs {
			if n.Kind == nic.Bridged && len(n.ACL.ACLs) > 0 {
				ports = append(ports, n.ACLPort())
			}
		}
	}
	return r.ports().ACLs().Take(ports)
}

// ACLs are those of the host's ends of NICs.
func (r *Runtime) ACLs() *nft.ACLPorts { return r.ports().ACLs() }

// Reconnect gives the ports of a bridge that was made anew what they had there:
// isolation, VLANs, routes.
func (r *Runtime) Reconnect(ctx context.Context, bridge string) {
	for _, c := range r.all() {
		for _, n := range prepared(c.specNow()) {
			if n.Kind != nic.Bridged || bridge != "" && n.Parent != bridge {
				continue
			}
			if err := r.reconnect(n); err != nil {
				r.Log.ErrorContext(ctx, "cannot connect a network interface again", "instance", c.name, "interface", n.Name, "err", err)
			}
		}
	}
}

func (r *Runtime) reconnect(n NIC) error {
	host, err := r.openHost()
	if err != nil {
		return err
	}
	defer host.Net.Close()
	return host.Reconnect(n)
}

// KeepFilters brings back what somebody else takes away of the filters of NICs,
// until ctx ends.
func (r *Runtime) KeepFilters(ctx context.Context) error {
	err := nft.Watch(ctx, func() {
		missing, err := r.ports().Restore()
		again, failed := r.ACLs().Restore()
		err = errors.Join(err, failed)
		if missing || again {
			r.Log.WarnContext(ctx, "the filters of network interfaces were disturbed, making them again")
		}
		if err != nil {
			r.Log.ErrorContext(ctx, "cannot look after the filters of network interfaces", "err", err)
		}
	})
	if err != nil { // Without nftables nothing is filtered, and all else goes on.
		r.Log.ErrorContext(ctx, "cannot watch the filters of network interfaces", "err", err)
	}
	return nil
}

// unplug removes the host's ends of the interfaces of a container that is
// being killed, while its processes end. liblxc does that after their end, and
// does it still where this fails; but the kernel takes as long for the one as
// for the other.
func (c *container) unplug() {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return
	}
	defer host.Close()
	for _, n := range c.specNow().NICs {
		if !n.Pair() || n.HostName == "" {
			continue
		}
		if l, err := host.LinkByName(n.HostName); err == nil {
			_ = host.LinkDel(l)
		}
	}
}
