package netkeys

import (
	"net/netip"
	"slices"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/project"
)

// nameKeys are the keys about who else knows names: the zones that tell others
// those of instances, and the servers that are asked for those of domains.
func nameKeys() []Key {
	const zone = "the name of a network zone"
	return []Key{
		{Key: profiles.Key{Name: "dns.forward.*", Type: profiles.String, Allowed: "IP addresses, or IP:PORT, with commas between them", Doc: "The servers that know the names in the domain in place of the *, and all below it."}, Types: bridges, Set: setForward},
		{Key: profiles.Key{Name: "dns.zone.forward", Type: profiles.String, Allowed: "names of network zones with commas between them", Doc: "The zones that have the names of the network's instances.", Differs: "Several zones can be of one project."}, Types: bridges, Set: zones},
		{Key: profiles.Key{Name: "dns.zone.reverse.ipv4", Type: profiles.String, Allowed: zone, Doc: "The zone that has the names of the network's IPv4 addresses; its name ends with in-addr.arpa."}, Types: bridges, Set: zones},
		{Key: profiles.Key{Name: "dns.zone.reverse.ipv6", Type: profiles.String, Allowed: zone, Doc: "The zone that has the names of the network's IPv6 addresses; its name ends with ip6.arpa."}, Types: bridges, Set: zones},
	}
}

// zones checks how names of zones look. Who keeps zones checks whether they are
// there.
func zones(_ *networks.Config, _, v string) error {
	all, err := list(v)
	if err != nil {
		return err
	}
	for _, name := range all {
		if networks.CheckZone(project.Name(name)) != nil {
			return profiles.ErrValue
		}
	}
	return nil
}

func setForward(cfg *networks.Config, domain, v string) error {
	if err := networks.CheckDomain(domain); err != nil {
		return err // The name of the key is wrong, whatever the value.
	}
	f := networks.DNSForward{Domain: domain}
	all, err := list(v)
	if err != nil {
		return err
	}
	for _, s := range all {
		a, err := serverAddress(s)
		if err != nil {
			return err
		}
		if !slices.Contains(f.Servers, a) {
			f.Servers = append(f.Servers, a)
		}
	}
	cfg.DNS.Forward = append(cfg.DNS.Forward, f)
	return nil
}

// serverAddress reads the address of a name server.
func serverAddress(s string) (netip.AddrPort, error) {
	const dns = 53
	if a, err := address(s); err == nil {
		return netip.AddrPortFrom(a, dns), nil
	}
	p, err := netip.ParseAddrPort(s)
	if err != nil || p.Port() == 0 || p.Addr().Zone() != "" {
		return p, profiles.ErrValue
	}
	return p, nil
}
