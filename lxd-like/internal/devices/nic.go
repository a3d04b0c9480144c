package devices

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// macPattern is the form of the addresses that are made for NICs, with x for
// digits that are chosen.
const macPattern = "10:66:6a:xx:xx:xx"

// planNIC plans a network interface.
func planNIC(ctx context.Context, name string, dev profiles.Device, env Env) (Plan, error) {
	if !attached(dev) {
		return Plan{}, nil
	}
	if profiles.IsHostNIC(dev) {
		return sharedNIC(name), nil
	}
	link, err := linkOf(ctx, dev, env)
	if err != nil {
		return Plan{}, err
	}
	if err := checkLink(dev, link); err != nil {
		return Plan{}, err
	}
	if err := checkACLs(ctx, dev, env); err != nil {
		return Plan{}, err
	}
	p := identify(name, dev, env, link)
	n := &p.NICs[0]
	if err := checkParent(name, n, dev, env); err != nil {
		return Plan{}, err
	}
	if dev["network"] != "" {
		if env, err = pin(ctx, dev, env, &p, link); err != nil {
			return Plan{}, err
		}
	}
	if err := arrange(name, n, dev, env, link); err != nil {
		return Plan{}, err
	}
	if n.Kind == nic.CNI {
		if err := planPlugins(ctx, name, n, env, &p); err != nil {
			return Plan{}, err
		}
	}
	if n.Kind == nic.Physical || n.Lower() != n.Parent {
		if err := lastState(name, n, env, &p); err != nil {
			return Plan{}, err
		}
	}
	return finish(name, dev, env, p)
}

// sharedNIC plans what is no interface, and of which nobody must know.
func sharedNIC(name string) Plan {
	return Plan{NICs: []runtime.NIC{{Device: name, Kind: nic.Shared}}}
}

// recallNIC is planNIC for what the host has lost, as the configuration alone
// says it.
func recallNIC(name string, dev profiles.Device, env Env) Plan {
	if !attached(dev) {
		return Plan{}
	}
	if profiles.IsHostNIC(dev) {
		return sharedNIC(name)
	}
	link := networks.Link{Kind: dev["nictype"], Parent: dev["parent"]}
	p := identify(name, dev, env, link)
	p.Volatile = nil
	if err := arrange(name, &p.NICs[0], dev, env, link); err != nil {
		return p
	}
	recallLastState(name, &p.NICs[0], env)
	if all, err := finish(name, dev, env, p); err == nil {
		return all
	}
	return p
}

// identify gives a NIC the names and the address by which it is known. What is
// chosen for it the instance keeps.
func identify(name string, dev profiles.Device, env Env, link networks.Link) Plan {
	keep := map[string]string{}
	chosen := func(option string, choose func() string) string {
		v := given(name, dev, env, option)
		if v == "" {
			v = choose()
			keep[volatile(name, option)] = v
		}
		return v
	}
	n := runtime.NIC{
		Device: name, Kind: link.Kind, Parent: link.Parent, MTU: link.MTU, Mode: dev["mode"], VRF: dev["vrf"],
		Name: chosen("name", func() string { return freeName(env) }),
	}
	switch n.Kind {
	case nic.Physical, nic.CNI:
		n.MAC = strings.ToLower(dev["hwaddr"])
	case nic.IPVlan: // It has its parent's.
	default:
		n.MAC = strings.ToLower(chosen("hwaddr", func() string { return newMAC(env.MACPattern) }))
	}
	switch {
	case n.Pair():
		n.HostName = chosen("host_name", newHostName)
	case n.Kind == "": // Nobody knows any more what it was.
		n.HostName = given(name, dev, env, "host_name")
	}
	n.Inner = nic.InnerName(env.Instance, name, n.HostName, n.MAC)
	if dev["mtu"] != "" {
		n.MTU, _ = strconv.Atoi(dev["mtu"]) // It is valid.
	}
	return Plan{NICs: []runtime.NIC{n}, Volatile: keep}
}

// finish says who must know of the NIC.
func finish(name string, dev profiles.Device, env Env, p Plan) (Plan, error) {
	n := p.NICs[0]
	if dev["network"] != "" && n.Kind == nic.Physical {
		return p, nil // Nobody else is on its network, which gives out no address.
	}
	if dev["network"] != "" {
		h, err := host(name, dev, env, n.MAC)
		if err != nil {
			return Plan{}, err
		}
		p.Hosts = []NetHost{{dev["network"], h}}
		return p, nil
	}
	c := networks.Claim{Instance: env.Instance, Parent: n.Parent}
	if v := dev["hwaddr"]; v != "" && n.Kind != nic.Physical {
		c.MAC = strings.ToLower(v)
	}
	for _, f := range []string{"ipv4", "ipv6"} {
		for _, v := range profiles.SplitList(dev[f+".address"]) {
			if a, _, err := address(v); err == nil {
				c.Addresses = append(c.Addresses, a)
			}
		}
	}
	if c.MAC != "" || len(c.Addresses) > 0 {
		p.Claims = []networks.Claim{c}
	}
	return p, nil
}

// address reads an address with the length of its network or without, which is
// -1 then.
func address(v string) (netip.Addr, int, error) {
	if !strings.Contains(v, "/") {
		a, err := netip.ParseAddr(v)
		return a, -1, err
	}
	p, err := netip.ParsePrefix(v)
	return p.Addr(), p.Bits(), err
}

// host is the instance as a managed network is to know it: with the addresses
// that somebody has chosen, or that it is held to.
func host(name string, dev profiles.Device, env Env, mac string) (h networks.Host, err error) {
	h = networks.Host{Instance: env.Instance, MAC: strings.ToLower(mac)}
	four, six := pinned(name, env)
	if yes(dev, "security.ipv4_filtering") {
		h.IPv4 = four
	}
	if yes(dev, "security.ipv6_filtering") {
		h.IPv6 = six
	}
	for _, f := range []struct {
		option string
		to     *netip.Addr
	}{{"ipv4.address", &h.IPv4}, {"ipv6.address", &h.IPv6}} {
		switch v := dev[f.option]; v {
		case "":
		case "none":
			*f.to = netip.Addr{}
		default:
			if *f.to, err = netip.ParseAddr(v); err != nil {
				return h, errs.Invalidf("%s: %w", f.option, err)
			}
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

// newMAC chooses digits for the x of a pattern.
func newMAC(pattern string) string {
	digits := hex.EncodeToString(random(len(macPattern)))
	out := []byte(cmp.Or(strings.ToLower(pattern), macPattern))
	for i, c := range out {
		if c == 'x' {
			out[i] = digits[i]
		}
	}
	return string(out)
}

func newHostName() string { return "veth" + hex.EncodeToString(random(4)) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // It never fails.
	return b
}
