package netkeys

import (
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
)

func dnsKeys() []Key {
	return []Key{
		{Key: profiles.Key{Name: "dns.domain", Type: profiles.String, Default: "cuib", Allowed: "a domain of letters, digits and '-', with dots between its parts", Doc: "The domain that the names of instances are in."}, Types: bridges, Set: func(cfg *networks.Config, _, v string) error {
			cfg.DNS.Domain = v
			return domain(v)
		}},
		{Key: profiles.Key{Name: "dns.mode", Type: profiles.String, Default: networks.DNSManaged, Allowed: "managed, dynamic or none", Doc: "Which names there are: those of the instances, those that guests call themselves by, or none."}, Types: bridges, Set: func(cfg *networks.Config, _, v string) error {
			cfg.DNS.Mode = v
			return oneOf(networks.DNSManaged, networks.DNSDynamic, networks.DNSNone)(cfg, "", v)
		}},
		{Key: profiles.Key{Name: "dns.nameservers", Type: profiles.String, Default: "the network's own", Allowed: "IP addresses with commas between them", Doc: "The name servers that instances are told of."}, Types: bridges, Set: setNameservers},
		{Key: profiles.Key{Name: "dns.search", Type: profiles.String, Default: "dns.domain", Allowed: "domains with commas between them", Doc: "The domains that instances look for names in."}, Types: bridges, Set: setSearch},
	}
}

func domain(v string) error {
	if networks.CheckDomain(v) != nil {
		return profiles.ErrValue
	}
	return nil
}

func setSearch(cfg *networks.Config, _, v string) (err error) {
	if cfg.DNS.Search, err = list(v); err != nil {
		return err
	}
	for _, d := range cfg.DNS.Search {
		if err := domain(d); err != nil {
			return err
		}
	}
	return nil
}

func setNameservers(cfg *networks.Config, _, v string) error {
	all, err := list(v)
	if err != nil {
		return err
	}
	for _, s := range all {
		a, err := address(s)
		if err != nil {
			return err
		}
		cfg.DNS.Nameservers = append(cfg.DNS.Nameservers, a)
	}
	return nil
}
