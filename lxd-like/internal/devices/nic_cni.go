package devices

import (
	"context"
	"net/netip"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/networks/nic"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// lastPlugins is what plugins have made, of last states.
const lastPlugins = "cni"

// LastPlugins is the option by which an instance keeps what plugins have made
// of a NIC.
func LastPlugins(device string) string { return volatile(device, "last_state."+lastPlugins) }

// arrangePlugins says what plugins are told of a NIC.
func arrangePlugins(n *runtime.NIC, dev profiles.Device) error {
	n.Plugins.Config = dev["cni.config"]
	ports, err := profiles.ParseCNIPorts(dev["cni.ports"])
	if err != nil {
		return errs.Invalidf("cni.ports: %w", err)
	}
	for _, p := range ports {
		n.Plugins.Ports = append(n.Plugins.Ports, nic.PortMapping{HostIP: p.HostIP, Host: p.Host, Port: p.Port, UDP: p.UDP})
	}
	for _, f := range []struct {
		option string
		to     *nic.Family
	}{{"ipv4.address", &n.IPv4}, {"ipv6.address", &n.IPv6}} {
		for _, v := range profiles.SplitList(dev[f.option]) {
			a, err := netip.ParseAddr(v)
			if err != nil {
				return errs.Invalidf("%s: %w", f.option, err)
			}
			f.to.Addresses = append(f.to.Addresses, single(a))
		}
	}
	return nil
}

// planPlugins looks whether plugins can make a NIC, if they have not yet, and
// keeps what they have made.
func planPlugins(ctx context.Context, name string, n *runtime.NIC, env Env, p *Plan) error {
	if made := env.Volatile[LastPlugins(name)]; env.Running && made != "" {
		p.LastState = map[string]string{LastPlugins(name): made}
		return nil
	}
	if env.Plugins == nil {
		return errs.Newf(errs.Unsupported, "nictype: this server runs no network plugins")
	}
	return env.Plugins(ctx, env.Instance, *n)
}
