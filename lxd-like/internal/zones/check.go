package zones

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/axfr"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// The keys of networks that name zones.
const (
	keyForward  = "dns.zone.forward"
	keyReverse4 = "dns.zone.reverse.ipv4"
	keyReverse6 = "dns.zone.reverse.ipv6"
)

// zonesOf are the zones that a network names.
func zonesOf(config map[string]string) []string {
	return slices.Concat(split(config[keyForward]), split(config[keyReverse4]), split(config[keyReverse6]))
}

func split(v string) []string { return profiles.SplitList(v) }

var (
	recordName = regexp.MustCompile(`^(\*\.)?` + networks.ZoneLabel + `(\.` + networks.ZoneLabel + `)*$`)
	peerName   = regexp.MustCompile(`^` + networks.ZoneLabel + `$`)
	mailbox    = regexp.MustCompile(`^[A-Za-z0-9_.+-]{1,63}$`)
)

// longest is how many characters a name in DNS has at most.
const longest = 253

func checkRecordName(zone, name string) error {
	if name == apex || name == "*" {
		return nil
	}
	if len(name)+1+len(project.Name(zone)) > longest || !recordName.MatchString(name) {
		return errs.Invalidf("record name %q is not valid: use labels of letters, digits, '-' and '_', separated by dots, \"*\" as the first for all others, or %q for the zone itself", name, apex)
	}
	return nil
}

// settings are what a zone's keys mean.
type settings struct {
	nameservers []string // Absolute.
	contact     string   // As a name; empty for the usual one.
	nat         bool
	peers       []axfr.Peer
}

// parse returns what a zone's keys mean.
func parse(config map[string]string) (settings, error) {
	out := settings{nat: true}
	peers := map[string]*axfr.Peer{}
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if config[key] == "" || strings.HasPrefix(key, "user.") {
			continue
		}
		if err := out.set(peers, key, config[key]); err != nil {
			return out, errs.Invalidf("configuration key %q: %w", key, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		out.peers = append(out.peers, *peers[name])
	}
	return out, nil
}

func (s *settings) set(peers map[string]*axfr.Peer, key, v string) (err error) {
	switch key {
	case "dns.nameservers":
		for _, name := range split(v) {
			if name = strings.TrimSuffix(name, "."); networks.CheckZone(name) != nil {
				return fmt.Errorf("%q is not valid: use names of servers, with commas between them", name)
			}
			s.nameservers = append(s.nameservers, dns.Fqdn(name))
		}
	case "dns.contact":
		s.contact, err = contact(v)
	case "network.nat":
		s.nat, err = profiles.ParseBool(v)
	default:
		return setPeer(peers, key, v)
	}
	return err
}

// setPeer sets peers.NAME.address and peers.NAME.key.
func setPeer(peers map[string]*axfr.Peer, key, v string) error {
	rest, isPeer := strings.CutPrefix(key, "peers.")
	i := strings.LastIndexByte(rest, '.')
	if !isPeer || i < 0 || rest[i+1:] != "address" && rest[i+1:] != "key" {
		return fmt.Errorf("is not known: use dns.nameservers, dns.contact, network.nat, peers.NAME.address, peers.NAME.key or user.*")
	}
	name := rest[:i]
	if !peerName.MatchString(name) {
		return fmt.Errorf("%q is no name of a peer: use letters, digits, '-' and '_', at most 63", name)
	}
	if peers[name] == nil {
		peers[name] = &axfr.Peer{Name: name}
	}
	if rest[i+1:] == "key" {
		peers[name].Key = v
		return axfr.CheckSecret(v)
	}
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("%q is not valid: use the IP address of a server", v)
	}
	peers[name].Address = a
	return nil
}

// contact returns a mail address as a name in DNS: the part before the @ is
// the first label.
func contact(v string) (string, error) {
	local, domain, isMail := strings.Cut(v, "@")
	if !isMail {
		local, domain, isMail = strings.Cut(strings.TrimSuffix(v, "."), ".")
	}
	domain = strings.TrimSuffix(domain, ".")
	if !isMail || networks.CheckZone(domain) != nil || !mailbox.MatchString(local) {
		return "", fmt.Errorf("%q is not valid: use a mail address such as admin@example.org", v)
	}
	return strings.ReplaceAll(local, ".", `\.`) + "." + dns.Fqdn(domain), nil
}

// onlyUser refuses keys other than those of the user.
func onlyUser(config map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(config)) {
		if name, ok := strings.CutPrefix(key, "user."); !ok || name == "" {
			return errs.Invalidf("configuration key %q is not known for records of network zones: use user.*", key)
		}
	}
	return nil
}

// checkReverse refuses reverse zones of a network that have none of its
// addresses.
func checkReverse(config map[string]string) error {
	for _, f := range []struct{ key, address, suffix string }{
		{keyReverse4, "ipv4.address", ".in-addr.arpa"},
		{keyReverse6, "ipv6.address", ".ip6.arpa"},
	} {
		for _, name := range split(config[f.key]) {
			name = project.Name(name)
			if !strings.HasSuffix(strings.ToLower(name), f.suffix) {
				return errs.Invalidf("configuration key %q: network zone %q is no reverse zone: its name ends with %q", f.key, name, f.suffix)
			}
			p, err := netip.ParsePrefix(config[f.address])
			if err != nil {
				return errs.Invalidf("configuration key %q: the network has no addresses for it: %s is %q", f.key, f.address, config[f.address])
			}
			if !covers(name, p) {
				return errs.Invalidf("configuration key %q: network zone %q has no names for addresses in %s", f.key, name, p.Masked())
			}
		}
	}
	return nil
}

// covers reports whether a reverse zone has names for addresses of a network.
// One whose name is no usual one (RFC 2317) may have.
func covers(name string, p netip.Prefix) bool {
	labels := strings.Split(strings.ToLower(name), ".")
	labels = labels[:len(labels)-2]
	first := strings.Split(reverse(p.Masked().Addr()), ".")
	last := strings.Split(reverse(networks.Last(p)), ".")
	for i := 1; i <= len(labels) && i <= len(first); i++ {
		got, low, high := labels[len(labels)-i], first[len(first)-i], last[len(last)-i]
		if got == low && low == high {
			continue
		}
		// Here the network ends: what is below it is somewhere in it, or beside.
		return low != high || strings.ContainsAny(got, "-_")
	}
	return true
}

// reverse is an address as reverse zones have it, without their last labels.
func reverse(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		return "" // It is an address.
	}
	return strings.TrimSuffix(strings.TrimSuffix(name, ".in-addr.arpa."), ".ip6.arpa.")
}

// checkAlone refuses entries that cannot be together.
func checkAlone(name string, entries []api.NetworkZoneRecordEntry) error {
	if !slices.ContainsFunc(entries, func(e api.NetworkZoneRecordEntry) bool { return e.Type == "CNAME" }) {
		return nil
	}
	if name == apex {
		return errs.Invalidf("the zone itself cannot have a CNAME: it has other entries, always")
	}
	if len(entries) > 1 {
		return errs.Invalidf("record %q has a CNAME and other entries: it must be the only one", name)
	}
	return nil
}
