package netkeys

import (
	"strconv"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
)

// onParent are the types of network whose NICs are on an interface of the
// host, or are it.
var onParent = []string{Macvlan, Physical}

func parentKeys() []Key {
	return []Key{
		{Key: profiles.Key{Name: "gvrp", Type: profiles.Bool, Default: "false", Allowed: wantBool, Condition: "with vlan", Doc: "Register the VLAN at the switch."}, Types: onParent, Set: func(cfg *networks.Config, _, v string) (err error) {
			cfg.GVRP, err = parseBool(v)
			return err
		}},
		{Key: profiles.Key{Name: "mtu", Type: profiles.Integer, Default: "the parent's", Allowed: wantMTU, Doc: "The largest packet of the NICs."}, Types: onParent, Set: setMTU},
		{Key: profiles.Key{Name: "parent", Type: profiles.String, Allowed: "the name of an interface of the host", Doc: "Required. The interface of the host that the NICs are on, or that the one NIC is; of a physical network also a bridge of the host, whose ports the NICs are."}, Types: onParent, Set: func(cfg *networks.Config, _, v string) error {
			cfg.Parent = v
			return ifname(v)
		}},
		{Key: profiles.Key{Name: "vlan", Type: profiles.Integer, Allowed: "a number from 1 to 4094", Doc: "The VLAN of the parent that the NICs are on, without a tag inside."}, Types: onParent, Set: func(cfg *networks.Config, _, v string) (err error) {
			cfg.VLAN, err = strconv.Atoi(v)
			if err != nil || cfg.VLAN < 1 || cfg.VLAN > 4094 {
				return profiles.ErrValue
			}
			return nil
		}},
		{Key: profiles.Key{Name: "vlan.tagged", Type: profiles.String, Allowed: "numbers from 1 to 4094, and ranges, with commas between them", Condition: "a bridge as parent", Doc: "The VLANs that the NICs have with tags inside."}, Types: []string{Physical}, Set: func(cfg *networks.Config, _, v string) (err error) {
			if cfg.Tagged, err = profiles.ParseVLANs(v); err != nil || len(cfg.Tagged) == 0 {
				return profiles.ErrValue
			}
			return nil
		}},
	}
}

func ifname(v string) error {
	if profiles.CheckInterfaceName("interface", v) != nil {
		return profiles.ErrValue
	}
	return nil
}
