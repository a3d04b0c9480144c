package devices

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// linkOf says what the NIC is connected to.
func linkOf(ctx context.Context, dev profiles.Device, env Env) (networks.Link, error) {
	if dev["network"] == "" {
		return networks.Link{Kind: dev["nictype"], Parent: dev["parent"]}, nil
	}
	return env.Link(ctx, dev["network"])
}

// checkLink reports what a NIC has that it cannot have on its network.
func checkLink(dev profiles.Device, l networks.Link) error {
	if dev["network"] == "" {
		return nil
	}
	if l.VLAN != 0 && l.Kind != nic.Bridged && !nic.Supported("vlan") {
		return errs.Newf(errs.Unsupported, "network %q is on a VLAN (802.1q), and the kernel has none", dev["network"])
	}
	if err := profiles.CheckNIC(dev, l.Kind); err != nil {
		return errs.Invalidf("network %q makes it a nic of nictype %s: %w", dev["network"], l.Kind, err)
	}
	return nil
}

// checkACLs reports ACLs of a NIC that are not there.
func checkACLs(ctx context.Context, dev profiles.Device, env Env) error {
	all := profiles.SplitList(dev["security.acls"])
	switch {
	case len(all) == 0:
		return nil
	case env.CheckACLs == nil:
		return errs.Newf(errs.Unsupported, "security.acls: there are no network ACLs")
	}
	return env.CheckACLs(ctx, all)
}

// holds reports whether the instance runs and has an interface of the host,
// which the host lacks meanwhile.
func holds(name string, env Env) bool {
	return env.Running && env.Volatile[volatile(name, "last_state.hwaddr")] != ""
}

// Lent returns a NIC as if it named the interface of the host itself that its
// network lends it, and other devices as they are. env is of an instance that
// runs.
func Lent(ctx context.Context, name string, dev profiles.Device, env Env) profiles.Device {
	if dev["type"] != "nic" || dev["network"] == "" || env.Volatile[volatile(name, "last_state.created")] == "" {
		return dev
	}
	l, err := env.Link(ctx, dev["network"])
	if err != nil || l.Kind != nic.Physical {
		return dev
	}
	dev = maps.Clone(dev)
	dev["nictype"], dev["parent"] = l.Kind, l.Parent
	return dev
}

// Returns reports whether a device is an interface of the host, which an
// instance is to have again when it goes and comes back.
func Returns(dev profiles.Device) bool {
	return dev["type"] == "nic" && dev["nictype"] == nic.Physical && attached(dev)
}

// OnHost reports whether the parent of a NIC is an interface of the host now.
func OnHost(dev profiles.Device) bool {
	_, err := netlink.LinkByName(dev["parent"])
	return err == nil
}

// checkParent reports why a NIC cannot be connected to an interface of the
// host that no managed network has made.
func checkParent(name string, n *runtime.NIC, dev profiles.Device, env Env) error {
	if err := checkKernel(n, dev); err != nil {
		return err
	}
	if dev["network"] != "" || n.Parent == "" || n.Kind == nic.Physical && holds(name, env) {
		return nil
	}
	parent, err := netlink.LinkByName(n.Parent)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return errs.Invalidf("parent: the host has no interface %q", n.Parent)
	}
	if err != nil {
		return fmt.Errorf("parent: look at interface %q: %w", n.Parent, err)
	}
	return checkFits(n, parent)
}

// checkFits reports why an interface of the host cannot be the parent of a NIC.
func checkFits(n *runtime.NIC, parent netlink.Link) error {
	kind, mtu := parent.Type(), parent.Attrs().MTU
	switch {
	case n.Kind == nic.Bridged && kind != "bridge":
		return errs.Invalidf("parent: the host's interface %q is no bridge", n.Parent)
	case n.Kind != nic.Bridged && parent.Attrs().RawFlags&unix.IFF_LOOPBACK != 0:
		return errs.Invalidf("parent: a nic of nictype %s cannot be on the loopback interface", n.Kind)
	case n.Kind == nic.Physical && kind == "bridge":
		return errs.Invalidf("parent: the host's interface %q is a bridge, want nictype bridged for a port of it", n.Parent)
	case n.Kind == nic.Physical && n.VLAN.ID == 0 && parent.Attrs().MasterIndex != 0:
		return errs.Conflictf("parent: the host's interface %q is a part of another interface, such as a bridge", n.Parent)
	case (n.Kind == nic.Macvlan || n.Kind == nic.IPVlan) && n.MTU > mtu:
		return errs.Invalidf("mtu: got %d, want at most %d, as the parent %s has", n.MTU, mtu, n.Parent)
	}
	return nil
}

// checkKernel reports what the kernel lacks for a NIC.
func checkKernel(n *runtime.NIC, dev profiles.Device) error {
	for _, k := range []struct {
		needed    bool
		typ, what string
	}{
		{n.Kind == nic.IPVlan, "ipvlan", "nictype: the kernel has no interfaces of type ipvlan"},
		{dev["vlan"] != "" && n.Kind != nic.Bridged, "vlan", "vlan: the kernel has no VLANs (802.1q)"},
		{n.VRF != "", "vrf", "vrf: the kernel has no VRFs"},
	} {
		if k.needed && !nic.Supported(k.typ) {
			return errs.Newf(errs.Unsupported, "%s", k.what)
		}
	}
	if n.VRF == "" {
		return nil
	}
	if l, err := netlink.LinkByName(n.VRF); err != nil || l.Type() != "vrf" {
		return errs.Invalidf("vrf: the host has no VRF %q", n.VRF)
	}
	return nil
}

// lastState remembers how an interface of the host was that a NIC is, or that
// was made for it.
func lastState(name string, n *runtime.NIC, env Env, p *Plan) error {
	p.LastState = map[string]string{}
	keep := func(what, v string) { p.LastState[volatile(name, "last_state."+what)] = v }
	if env.Running && env.Volatile[volatile(name, "last_state.created")] != "" {
		for _, what := range lastStates {
			if v, has := env.Volatile[volatile(name, "last_state."+what)]; has {
				keep(what, v)
			}
		}
		recallLastState(name, n, env)
		return nil
	}
	l, err := netlink.LinkByName(n.Lower())
	_, missing := errors.AsType[netlink.LinkNotFoundError](err)
	if err != nil && !missing {
		return fmt.Errorf("parent: look at interface %q: %w", n.Lower(), err)
	}
	keep("created", strconv.FormatBool(missing))
	if missing || n.Kind != nic.Physical {
		return nil
	}
	a := l.Attrs()
	n.Before = nic.Before{Index: a.Index, MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.RawFlags&unix.IFF_UP != 0}
	keep("hwaddr", n.Before.MAC)
	keep("mtu", strconv.Itoa(n.Before.MTU))
	return nil
}

// lastStates are what is remembered of an interface of the host.
var lastStates = []string{"created", "hwaddr", "mtu", lastPlugins}

// recallLastState is for a NIC that runs.
func recallLastState(name string, n *runtime.NIC, env Env) {
	if n.Kind == nic.Physical {
		n.Before.MAC = env.Volatile[volatile(name, "last_state.hwaddr")]
		n.Before.MTU, _ = strconv.Atoi(env.Volatile[volatile(name, "last_state.mtu")]) // 0 for what is not known.
	}
}

// ForgetLastState returns the options by which an instance that has ended, or
// has lost a device, forgets how the host's interfaces were. An empty device
// is for all.
func ForgetLastState(options map[string]string, device string) map[string]string {
	out := map[string]string{}
	for key := range options {
		for _, what := range lastStates {
			name, ok := strings.CutSuffix(strings.TrimPrefix(key, "volatile."), ".last_state."+what)
			if ok && strings.HasPrefix(key, "volatile.") && (device == "" || name == device) {
				out[key] = ""
			}
		}
	}
	return out
}

const ipAddresses = "last_state.ip_addresses"

// pinned are the addresses that the instance was held to before.
func pinned(name string, env Env) (four, six netip.Addr) {
	for _, v := range profiles.SplitList(env.Volatile[volatile(name, ipAddresses)]) {
		a, err := netip.ParseAddr(v)
		switch {
		case err != nil:
		case a.Is4():
			four = a
		default:
			six = a
		}
	}
	return four, six
}

// pin has the network choose the addresses that a NIC is held to, where nobody
// has chosen them. It returns what the devices are planned for from now on.
func pin(ctx context.Context, dev profiles.Device, env Env, p *Plan, link networks.Link) (Env, error) {
	name := p.NICs[0].Device
	var want networks.Pin
	want.Four = yes(dev, "security.ipv4_filtering") && dev["ipv4.address"] == ""
	want.Six = yes(dev, "security.ipv6_filtering") && dev["ipv6.address"] == "" && link.Stateful
	key := volatile(name, ipAddresses)
	had, now := env.Volatile[key], ""
	if want.Four || want.Six {
		four, six := pinned(name, env)
		h := networks.Host{Instance: env.Instance, MAC: p.NICs[0].MAC, IPv4: four, IPv6: six}
		got, err := env.Pin(ctx, dev["network"], h, want)
		if err != nil {
			return env, err
		}
		var all []string
		for _, a := range []netip.Addr{got.IPv4, got.IPv6} {
			if a.IsValid() {
				all = append(all, a.String())
			}
		}
		now = strings.Join(all, ",")
	}
	if now != had {
		p.Volatile[key] = now
		env.Volatile = maps.Clone(env.Volatile)
		env.Volatile[key] = now
	}
	return env, nil
}
