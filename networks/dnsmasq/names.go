package dnsmasq

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
)

// names says who knows which names: the network alone, or other servers; and
// which instances have several.
func (l *lines) names(cfg networks.Config) {
	if cfg.DNS.Mode != networks.DNSNone {
		for _, d := range networks.ReverseDomains(cfg) {
			l.add("local=/%s/", d) // Or private addresses are asked for elsewhere.
		}
	}
	for _, f := range cfg.DNS.Forward {
		for _, s := range f.Servers {
			l.add("server=/%s/%s", f.Domain, server(s))
		}
	}
	if cfg.DNS.Mode != networks.DNSManaged && cfg.DNS.Mode != "" {
		return // Instances have no names, or others than ours.
	}
	for _, a := range cfg.Aliases {
		names := namesOf(cfg, networks.Host{Name: a.Name})
		l.add("cname=%s,%s", strings.Join(names, ","), namesOf(cfg, networks.Host{Name: a.Host})[0])
	}
}

// server writes the address of a server as dnsmasq reads it.
func server(a netip.AddrPort) string {
	const dns = 53
	if a.Port() == dns {
		return a.Addr().String()
	}
	return a.Addr().String() + "#" + strconv.Itoa(int(a.Port()))
}

// checkNames refuses what would become lines of its own in the configuration,
// and names that somebody has already: dnsmasq would not start.
func checkNames(cfg networks.Config) error {
	for _, f := range cfg.DNS.Forward {
		if err := networks.CheckDomain(f.Domain); err != nil {
			return err
		}
	}
	for _, p := range cfg.Peers {
		for _, name := range p.Names {
			if err := networks.CheckHost(networks.Host{Name: name, MAC: "02:00:00:00:00:01"}); err != nil || name == "" {
				return errs.Invalidf("name %q of the peer %q is not valid: use letters, digits and '-', at most 63", name, p.Network)
			}
		}
	}
	var taken []string
	for _, a := range cfg.Aliases {
		for _, name := range []string{a.Name, a.Host} {
			if err := networks.CheckHost(networks.Host{Name: name, MAC: "02:00:00:00:00:01"}); err != nil || name == "" {
				return errs.Invalidf("alias %q of %q is not valid: use letters, digits and '-', at most 63", a.Name, a.Host)
			}
		}
		name := strings.ToLower(a.Name)
		if slices.Contains(taken, name) || strings.EqualFold(name, a.Host) {
			return errs.Conflictf("alias %q of %q is taken", a.Name, a.Host)
		}
		taken = append(taken, name)
	}
	return nil
}
