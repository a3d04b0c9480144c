package devices

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/proxies"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// proxy plans what passes connections on between host and instance.
func proxy(ctx context.Context, dev profiles.Device, env Env) (Plan, error) {
	r := ProxyRule(dev)
	if !r.NAT {
		return Plan{Proxy: r}, checkLoop(dev, env)
	}
	err := natTargets(ctx, dev, env, &r)
	return Plan{Proxy: r}, err
}

// checkLoop refuses a proxy that would be its own client: in the host's network
// host and instance are one side.
func checkLoop(dev profiles.Device, env Env) error {
	name := profiles.HostNICOf(env.Devices)
	if name == "" {
		return nil
	}
	listen, connect, err := ends(dev)
	if err != nil {
		return err
	}
	if _, same := listen.Overlaps(connect); same && !strings.HasPrefix(listen.Path, "/") {
		return errs.Invalidf("connect: got %q, which the proxy itself would listen on (%s), as the instance is in the host's own network (device %q)", dev["connect"], dev["listen"], name)
	}
	return nil
}

// ends are the addresses of a proxy device.
func ends(dev profiles.Device) (listen, connect profiles.ProxyAddress, err error) {
	if listen, err = profiles.ParseProxyAddress(dev["listen"]); err == nil {
		connect, err = profiles.ParseProxyAddress(dev["connect"])
	}
	return listen, connect, err
}

// ProxyRule is what a proxy device alone says.
func ProxyRule(dev profiles.Device) proxies.Rule {
	return proxies.Rule{
		Inside: profiles.ListensInside(dev), Listen: dev["listen"], Connect: dev["connect"],
		Header: yes(dev, "proxy_protocol"), NAT: yes(dev, "nat"), Public: dev["expose"] == "public",
		Mode: dev["mode"], UID: dev["uid"], GID: dev["gid"], AsUID: dev["security.uid"], AsGID: dev["security.gid"],
	}
}

// natTargets finds where packets are forwarded to: a static address of a
// bridged NIC, or the addresses that the first one on a network of ours has at
// the time.
func natTargets(ctx context.Context, dev profiles.Device, env Env, r *proxies.Rule) error {
	if name := profiles.HostNICOf(env.Devices); name != "" {
		return errs.Invalidf("nat: the instance is in the host's own network (device %q): its ports are the host's, which clients reach without being forwarded", name)
	}
	listen, connect, err := ends(dev)
	if err != nil {
		return err
	}
	four, six := profiles.NATFamilies(listen, connect)
	if connect.Host.IsValid() {
		return natTarget(ctx, connect.Host, env, r)
	}
	return natFollows(ctx, env, r, map[string]bool{"ipv4.address": four, "ipv6.address": six})
}

// natTarget finds the static address that packets are forwarded to, and the
// bridge of the NIC that has it. An unspecified address is the first one of
// its family, or if there is none the one that the instance has at the time.
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
		return natFollows(ctx, env, r, map[string]bool{option: true})
	}
	return errs.Invalidf("nat: connect is to %s, want the static address of a bridged nic of the instance: its option %s", want, option)
}

// natFollows has packets go to the addresses that the first NIC on a managed
// bridge has at the time. Static ones are known beforehand.
func natFollows(ctx context.Context, env Env, r *proxies.Rule, options map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(env.Devices)) {
		dev := env.Devices[name]
		if dev["type"] != "nic" || dev["network"] == "" {
			continue
		}
		link, err := linkOf(ctx, dev, env)
		if err != nil {
			return errs.Newf(errs.KindOf(err), "nat: device %q: %w", name, err)
		}
		if link.Kind != "bridged" {
			continue
		}
		r.Network, r.Bridge, r.Port = dev["network"], link.Parent, given(name, dev, env, "host_name")
		r.Four = options["ipv4.address"] && dev["ipv4.address"] != "none"
		r.Six = options["ipv6.address"] && dev["ipv6.address"] != "none"
		return nil
	}
	return errs.Invalidf("nat: the instance has no nic on a managed bridge whose address could be followed, and no bridged nic with a static one: want the option network of a nic, or %s", strings.Join(slices.Sorted(maps.Keys(options)), " or "))
}
