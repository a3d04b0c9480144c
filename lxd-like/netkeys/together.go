package netkeys

import (
	"net/netip"
	"slices"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// consistent checks what no key can tell alone.
func consistent(typ string, cfg networks.Config) error {
	if slices.Contains(onParent, typ) {
		if cfg.Parent == "" {
			return errs.Invalidf(`configuration key "parent" is missing: a network of type %s needs the host interface below it`, typ)
		}
		return consistentVLAN(cfg)
	}
	if typ == Vxlan {
		if err := consistentOverlay(cfg.Overlay); err != nil {
			return err
		}
	}
	if err := consistentTunnels(cfg.Tunnels); err != nil {
		return err
	}
	for _, e := range cfg.External {
		if e.Parent == e.Name {
			return errs.Invalidf(`configuration key "bridge.external_interfaces": the VLAN %d of %s needs a name of its own`, e.VLAN, e.Name)
		}
	}
	if err := consistentIPv4(cfg.IPv4); err != nil {
		return err
	}
	return consistentIPv6(cfg)
}

func consistentVLAN(cfg networks.Config) error {
	if cfg.GVRP && cfg.VLAN == 0 {
		return errs.Invalidf(`configuration key "gvrp" needs vlan`)
	}
	if cfg.VLAN != 0 && slices.Contains(cfg.Tagged, cfg.VLAN) {
		return errs.Invalidf(`configuration key "vlan.tagged": VLAN %d is the untagged one of vlan already`, cfg.VLAN)
	}
	return nil
}

func consistentIPv4(f networks.Family) error {
	if f.Gateway.IsValid() && !within(f, f.Gateway) {
		return errs.Invalidf(`configuration key "ipv4.dhcp.gateway": %s is outside of the network %s`, f.Gateway, f.Address)
	}
	for _, r := range f.DHCPRoutes {
		if !within(f, r.Via) {
			return errs.Invalidf(`configuration key "ipv4.dhcp.routes": the gateway %s is outside of the network %s`, r.Via, f.Address)
		}
	}
	return rangesWithin("ipv4.dhcp.ranges", f)
}

func consistentIPv6(cfg networks.Config) error {
	f := cfg.IPv6
	if len(f.Ranges) > 0 && !f.Stateful {
		return errs.Invalidf(`configuration key "ipv6.dhcp.ranges" needs ipv6.dhcp.stateful`)
	}
	if f.Address.IsValid() && f.DHCP && !f.Stateful && f.Address.Bits() != 64 {
		return errs.Invalidf(`configuration key "ipv6.address": guests can only choose their addresses in a /64, and this is a /%d: set ipv6.dhcp.stateful to true or ipv6.dhcp to false`, f.Address.Bits())
	}
	if f.Address.IsValid() && cfg.MTU != 0 && cfg.MTU < 1280 {
		return errs.Invalidf(`configuration key "bridge.mtu": IPv6 needs at least 1280, got %d`, cfg.MTU)
	}
	return rangesWithin("ipv6.dhcp.ranges", f)
}

func rangesWithin(key string, f networks.Family) error {
	for _, r := range f.Ranges {
		if !within(f, r.First) || !within(f, r.Last) {
			return errs.Invalidf("configuration key %q: range %s-%s is outside of the network %s", key, r.First, r.Last, f.Address)
		}
	}
	return nil
}

func within(f networks.Family, a netip.Addr) bool {
	return f.Address.IsValid() && f.Address.Masked().Contains(a)
}
