package netkeys

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func bridgeKeys() []Key {
	return []Key{
		{Key: profiles.Key{Name: "bridge.driver", Type: profiles.String, Default: "native", Allowed: "native", Doc: "What makes the bridge: the kernel."}, Types: bridges, Set: oneOf("native")},
		{Key: profiles.Key{Name: "bridge.external_interfaces", Type: profiles.String, Allowed: "names of interfaces of the host, or NAME/PARENT/VLAN for a VLAN of one, with commas between them", Doc: "Interfaces of the host without an address that become ports of the bridge; a VLAN that is not there is made."}, Types: bridges, Set: setExternal},
		{Key: profiles.Key{Name: "bridge.hwaddr", Type: profiles.String, Default: "one made of the name", Allowed: wantMAC, Doc: "The bridge's MAC address, which instances know their gateway by."}, Types: bridges, Set: setHWAddr},
		{Key: profiles.Key{Name: "bridge.mtu", Type: profiles.Integer, Default: "1500", Allowed: wantMTU, Doc: "The largest packet; IPv6 needs 1280."}, Types: bridges, Set: setMTU},
		{Key: profiles.Key{Name: "bridge.multicast_snooping", Type: profiles.Bool, Default: "true", Allowed: wantBool, Doc: "Send multicast only where somebody wants it."}, Types: bridges, Set: func(cfg *networks.Config, _, v string) error {
			on, err := parseBool(v)
			cfg.NoSnooping = !on
			return err
		}},
	}
}

const (
	wantMAC = `an address such as "10:66:6a:01:02:03"`
	wantMTU = "a number of bytes from 576 to 65535"
)

func setMTU(cfg *networks.Config, _, v string) (err error) {
	cfg.MTU, err = strconv.Atoi(v)
	if err != nil || cfg.MTU < 576 || cfg.MTU > 65535 {
		return profiles.ErrValue
	}
	return nil
}

func setExternal(cfg *networks.Config, _, v string) error {
	all, err := list(v)
	if err != nil {
		return err
	}
	for _, s := range all {
		e, err := external(s)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(cfg.External, func(o networks.External) bool { return o.Name == e.Name }) {
			return errs.Invalidf("got %q, but %s is in it twice", v, e.Name)
		}
		cfg.External = append(cfg.External, e)
	}
	return nil
}

// external reads NAME, or NAME/PARENT/VLAN.
func external(v string) (networks.External, error) {
	parts := strings.Split(v, "/")
	e := networks.External{Name: parts[0]}
	switch len(parts) {
	case 1:
	case 3:
		id, err := strconv.Atoi(parts[2])
		if err != nil || id < 1 || id > 4094 || ifname(parts[1]) != nil {
			return e, profiles.ErrValue
		}
		e.Parent, e.VLAN = parts[1], id
	default:
		return e, profiles.ErrValue
	}
	return e, ifname(e.Name)
}

func setHWAddr(cfg *networks.Config, _, v string) error {
	mac, err := networks.ParseMAC(v)
	if err != nil {
		return profiles.ErrValue
	}
	cfg.HWAddr = mac.String()
	return nil
}
