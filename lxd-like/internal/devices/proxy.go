package devices

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// proxy plans what passes connections on between host and instance.
func proxy(ctx context.Context, dev profiles.Device, env Env) (Plan, error) {
	r := proxyRule(dev)
	if !r.NAT {
		return Plan{Proxy: r}, nil
	}
	connect, err := profiles.ParseProxyAddress(dev["connect"])
	if err != nil {
		return Plan{}, err
	}
	err = natTarget(ctx, connect.ConnectHost(), env, &r)
	return Plan{Proxy: r}, err
}

// proxyRule is what the device alone says.
func proxyRule(dev profiles.Device) proxies.Rule {
	return proxies.Rule{
		Inside: profiles.ListensInside(dev), Listen: dev["listen"], Connect: dev["connect"],
		Header: yes(dev, "proxy_protocol"), NAT: yes(dev, "nat"),
		Mode: dev["mode"], UID: dev["uid"], GID: dev["gid"], AsUID: dev["security.uid"], AsGID: dev["security.gid"],
	}
}

// natTarget finds the static address that packets are forwarded to, and the
// bridge of the NIC that has it. An unspecified address is the first one of
// its family.
func natTarget(ctx context.Context, want netip.Addr, env Env, r *proxies.Rule) error {
	option := "ipv4.address"
	if want.Is6() {
		option = "ipv6.address"
	}
	for _, name := range slices.Sorted(maps.Keys(env.Devices)) {
		dev := env.Devices[name]
		addr, err := netip.ParseAddr(dev[option])
		if dev["type"] != "nic" || err != nil || want != addr && !want.IsUnspecified() {
			continue
		}
		link, err := linkOf(ctx, dev, env)
		if err != nil {
			return errs.Newf(errs.KindOf(err), "nat: device %q: %w", name, err)
		}
		if link.Kind == "bridged" {
			r.Target, r.Bridge, r.Port = addr, link.Parent, given(name, dev, env, "host_name")
			return nil
		}
	}
	if want.IsUnspecified() {
		return errs.Invalidf("nat: the instance has no bridged nic with a static address, want one with the option %s", option)
	}
	return errs.Invalidf("nat: connect is to %s, want the static address of a bridged nic of the instance: its option %s", want, option)
}
