package netkeys

import (
	"slices"
	"strconv"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

const (
	protoVXLAN = "vxlan"
	protoGRE   = "gre"
)

func tunnelKeys() []Key {
	only := []string{Bridge}
	return []Key{
		{Key: profiles.Key{Name: "tunnel.*.group", Type: profiles.String, Default: "239.0.0.1 without remote", Allowed: "an IP address of multicast", Doc: "The group of hosts that a tunnel of VXLAN without local and remote leads to."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) (err error) {
			if t.Group, err = address(v); err == nil && !t.Group.IsMulticast() {
				err = profiles.ErrValue
			}
			return err
		})},
		{Key: profiles.Key{Name: "tunnel.*.id", Type: profiles.Integer, Default: "1", Allowed: "a number from 1 to 16777215", Doc: "The number of the network of VXLAN."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) (err error) {
			t.ID, err = vni(v)
			return err
		})},
		{Key: profiles.Key{Name: "tunnel.*.interface", Type: profiles.String, Default: "that of the route", Allowed: "the name of an interface of the host", Doc: "The interface that packets of a tunnel of VXLAN leave by; a group needs one."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) error {
			t.Interface = v
			return ifname(v)
		})},
		{Key: profiles.Key{Name: "tunnel.*.local", Type: profiles.String, Allowed: "an IP address", Doc: "The address of this host at its end of the tunnel."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) (err error) {
			t.Local, err = host(v)
			return err
		})},
		{Key: profiles.Key{Name: "tunnel.*.port", Type: profiles.Integer, Default: "0", Allowed: "a port from 0 to 65535; 0 is 8472", Doc: "The UDP port of VXLAN."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) error {
			n, err := strconv.ParseUint(v, 10, 16)
			if err != nil {
				return profiles.ErrValue
			}
			t.Port = uint16(n)
			return nil
		})},
		{Key: profiles.Key{Name: "tunnel.*.protocol", Type: profiles.String, Allowed: "vxlan or gre", Doc: "Required for a tunnel. How frames are carried to the other host."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) error {
			t.Protocol = v
			return oneOf(protoVXLAN, protoGRE)(nil, "", v)
		})},
		{Key: profiles.Key{Name: "tunnel.*.remote", Type: profiles.String, Allowed: "an IP address", Doc: "The address of the other host at its end of the tunnel."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) (err error) {
			t.Remote, err = host(v)
			return err
		})},
		{Key: profiles.Key{Name: "tunnel.*.ttl", Type: profiles.Integer, Default: "1 for a group", Allowed: "a number from 1 to 255", Doc: "How many routers packets pass at most."}, Types: only, Set: tunnel(func(t *networks.Tunnel, v string) error {
			n, err := strconv.ParseUint(v, 10, 8)
			if err != nil || n == 0 {
				return profiles.ErrValue
			}
			t.TTL = uint8(n)
			return nil
		})},
	}
}

// tunnel sets something of the tunnel that the key names.
func tunnel(set func(t *networks.Tunnel, v string) error) func(*networks.Config, string, string) error {
	return func(cfg *networks.Config, name, v string) error {
		i := slices.IndexFunc(cfg.Tunnels, func(t networks.Tunnel) bool { return t.Name == name })
		if i < 0 {
			i = len(cfg.Tunnels)
			cfg.Tunnels = append(cfg.Tunnels, networks.Tunnel{Name: name})
		}
		return set(&cfg.Tunnels[i], v)
	}
}

func consistentTunnels(all []networks.Tunnel) error {
	for _, t := range all {
		if err := consistentTunnel(t); err != nil {
			return errs.Invalidf("tunnel %q: %w", t.Name, err)
		}
	}
	return nil
}

func consistentTunnel(t networks.Tunnel) error {
	key := func(k string) string { return "tunnel." + t.Name + "." + k }
	switch {
	case t.Protocol == "":
		return errs.Invalidf("configuration key %q is missing: want vxlan or gre", key("protocol"))
	case t.Local.IsValid() != t.Remote.IsValid():
		return errs.Invalidf("%s and %s go together", key("local"), key("remote"))
	case t.Local.IsValid() && t.Local.Is4() != t.Remote.Is4():
		return errs.Invalidf("%s is %s and %s is %s: give both of one family", key("local"), t.Local, key("remote"), t.Remote)
	case t.Protocol == protoGRE && !t.Local.IsValid():
		return errs.Invalidf("a tunnel of GRE needs %s and %s", key("local"), key("remote"))
	case t.Protocol == protoGRE && t != (networks.Tunnel{Name: t.Name, Protocol: t.Protocol, Local: t.Local, Remote: t.Remote, TTL: t.TTL}):
		return errs.Invalidf("a tunnel of GRE has no group, id, port or interface: that is for vxlan")
	case t.Local.IsValid() && t.Group.IsValid():
		return errs.Invalidf("%s is for tunnels without local and remote", key("group"))
	case t.Protocol == protoVXLAN && !t.Local.IsValid() && t.Interface == "":
		return errs.Invalidf("%s is missing: without local and remote the tunnel leads to a group, by one interface", key("interface"))
	}
	return nil
}
