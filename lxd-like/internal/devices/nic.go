package devices

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// macPrefix starts the addresses that are made for NICs.
const macPrefix = "10:66:6a"

// nic plans a network interface.
func nic(ctx context.Context, name string, dev profiles.Device, env Env) (Plan, error) {
	link, err := linkOf(ctx, dev, env)
	if err != nil {
		return Plan{}, err
	}
	keep := map[string]string{}
	// chosen is given with a value for where there is none, which the
	// instance then keeps.
	chosen := func(option string, choose func() string) string {
		v := given(name, dev, env, option)
		if v == "" {
			v = choose()
			keep[volatile(name, option)] = v
		}
		return v
	}
	n := runtime.NIC{
		Device: name, Kind: link.Kind, Parent: link.Parent, MTU: link.MTU, Mode: dev["mode"],
		Name: chosen("name", func() string { return freeName(env) }),
		MAC:  strings.ToLower(chosen("hwaddr", newMAC)),
	}
	if link.Kind == "bridged" {
		n.HostName = chosen("host_name", newHostName)
	}
	if dev["mtu"] != "" {
		if n.MTU, err = strconv.Atoi(dev["mtu"]); err != nil {
			return Plan{}, errs.Invalidf("mtu: %w", err)
		}
	}
	p := Plan{NICs: []runtime.NIC{n}, Volatile: keep}
	if dev["network"] != "" {
		h, err := host(env.Instance, n.MAC, dev)
		if err != nil {
			return Plan{}, err
		}
		p.Hosts = []NetHost{{dev["network"], h}}
	}
	return p, nil
}

// linkOf says what the NIC is connected to.
func linkOf(ctx context.Context, dev profiles.Device, env Env) (networks.Link, error) {
	if dev["network"] == "" {
		l := networks.Link{Kind: dev["nictype"], Parent: dev["parent"]}
		return l, checkParent(l)
	}
	l, err := env.Link(ctx, dev["network"])
	if err != nil {
		return l, err
	}
	if dev["mode"] != "" && l.Kind != "macvlan" {
		return l, errs.Invalidf("mode: a nic on network %q is %s, which does not have it", dev["network"], l.Kind)
	}
	if dev["host_name"] != "" && l.Kind != "bridged" {
		return l, errs.Invalidf("host_name: a nic on network %q is %s, which does not have it", dev["network"], l.Kind)
	}
	return l, nil
}

// checkParent reports why a NIC cannot be connected to an interface of the
// host that no managed network has made.
func checkParent(l networks.Link) error {
	parent, err := netlink.LinkByName(l.Parent)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return errs.Invalidf("parent: the host has no interface %q", l.Parent)
	}
	if err != nil {
		return fmt.Errorf("parent: look at interface %q: %w", l.Parent, err)
	}
	switch kind := parent.Type(); {
	case l.Kind == "bridged" && kind != "bridge":
		return errs.Invalidf("parent: the host's interface %q is no bridge", l.Parent)
	case l.Kind == "macvlan" && l.Parent == "lo":
		return errs.Invalidf("parent: a macvlan cannot be on the loopback interface")
	}
	return nil
}

// host is the instance as a managed network is to know it.
func host(instance, mac string, dev profiles.Device) (h networks.Host, err error) {
	h = networks.Host{Name: instance, MAC: strings.ToLower(mac)}
	if v := dev["ipv4.address"]; v != "" {
		if h.IPv4, err = netip.ParseAddr(v); err != nil {
			return h, errs.Invalidf("ipv4.address: %w", err)
		}
	}
	if v := dev["ipv6.address"]; v != "" {
		if h.IPv6, err = netip.ParseAddr(v); err != nil {
			return h, errs.Invalidf("ipv6.address: %w", err)
		}
	}
	return h, nil
}

// freeName returns the first of eth0, eth1 ... that no NIC of the instance
// has.
func freeName(env Env) string {
	taken := map[string]bool{}
	for name, dev := range env.Devices {
		if dev["type"] == "nic" {
			taken[given(name, dev, env, "name")] = true
		}
	}
	for i := 0; ; i++ {
		if name := "eth" + strconv.Itoa(i); !taken[name] {
			return name
		}
	}
}

func newMAC() string {
	b := random(3)
	return fmt.Sprintf("%s:%02x:%02x:%02x", macPrefix, b[0], b[1], b[2])
}

func newHostName() string { return "veth" + hex.EncodeToString(random(4)) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // It never fails.
	return b
}
