package netkeys

import (
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
)

func firewallKeys() []Key {
	return []Key{{
		Key: profiles.Key{
			Name: "firewall.integrate", Type: profiles.Bool, Default: "where no more is let pass than the network needs", Allowed: wantBool,
			Doc: "Let what the host's firewall drops of the network pass at the place that its owner has for that: the chain DOCKER-USER, rules of ufw, a zone of firewalld.",
		},
		Types: bridges,
		Set: func(cfg *networks.Config, _, v string) error {
			on, err := parseBool(v)
			cfg.Integration = networks.IntegrateNever
			if on {
				cfg.Integration = networks.IntegrateAlways
			}
			return err
		},
	}}
}
