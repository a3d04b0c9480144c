package netkeys

import (
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
)

// onParent are the types of network whose NICs are on an interface of the
// host.
var onParent = []string{Macvlan}

func parentKeys() []Key {
	return []Key{
		{Key: profiles.Key{Name: "mtu", Type: profiles.Integer, Default: "the parent's", Allowed: wantMTU, Doc: "The largest packet of the NICs."}, Types: onParent, Set: setMTU},
		{Key: profiles.Key{Name: "parent", Type: profiles.String, Allowed: "the name of an interface of the host", Doc: "Required. The interface of the host that the NICs are on."}, Types: onParent, Set: func(cfg *networks.Config, _, v string) error {
			cfg.Parent = v
			return ifname(v)
		}},
	}
}

func ifname(v string) error {
	if profiles.CheckInterfaceName("interface", v) != nil {
		return profiles.ErrValue
	}
	return nil
}
