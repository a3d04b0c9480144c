package netkeys

import (
	"strconv"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
)

func bridgeKeys() []Key {
	return []Key{
		{Key: profiles.Key{Name: "bridge.driver", Type: profiles.String, Default: "native", Allowed: "native", Doc: "What makes the bridge: the kernel."}, Types: bridges, Set: oneOf("native")},
		{Key: profiles.Key{Name: "bridge.hwaddr", Type: profiles.String, Default: "one made of the name", Allowed: wantMAC, Doc: "The bridge's MAC address, which instances know their gateway by."}, Types: bridges, Set: setHWAddr},
		{Key: profiles.Key{Name: "bridge.mtu", Type: profiles.Integer, Default: "1500", Allowed: wantMTU, Doc: "The largest packet; IPv6 needs 1280."}, Types: bridges, Set: setMTU},
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

func setHWAddr(cfg *networks.Config, _, v string) error {
	mac, err := networks.ParseMAC(v)
	if err != nil {
		return profiles.ErrValue
	}
	cfg.HWAddr = mac.String()
	return nil
}
