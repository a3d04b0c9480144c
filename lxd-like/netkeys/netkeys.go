// Package netkeys has the table of configuration keys of networks. What checks
// a value, what makes a configuration of it, the descriptions that clients are
// given and docs/config-keys.md are all made from its rows.
package netkeys

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// The types of networks.
const (
	Bridge   = "bridge"
	Macvlan  = "macvlan"
	Physical = "physical"
	Vxlan    = "vxlan"
)

// A Key is a row of the table.
type Key struct {
	profiles.Key // A change of any key is live.

	Types []string // The types of network that have it.

	// Set puts a value, which is not empty, into a configuration, or reports
	// what is wrong with it: profiles.ErrValue where Allowed says all. part is
	// the text in place of the * of Name. Nil accepts any text, and does
	// nothing.
	Set func(cfg *networks.Config, part, value string) error
}

// Keys returns the whole table, by group. Each group has a file of its own.
func Keys() []Key {
	return slices.Concat(
		group("bridge", bridgeKeys()),
		group("dns", slices.Concat(dnsKeys(), nameKeys())),
		group("firewall", firewallKeys()),
		group("ipv4", familyKeys("ipv4", "IPv4", func(cfg *networks.Config) *networks.Family { return &cfg.IPv4 })),
		group("ipv6", familyKeys("ipv6", "IPv6", func(cfg *networks.Config) *networks.Family { return &cfg.IPv6 })),
		group("parent", parentKeys()),
		group("security", aclKeys()),
		group("tunnel", tunnelKeys()),
		group("vxlan", vxlanKeys()),
		group("miscellaneous", miscKeys()),
	)
}

func group(name string, keys []Key) []Key {
	for i := range keys {
		keys[i].Group = name
		keys[i].Live = true
	}
	return keys
}

func miscKeys() []Key {
	return []Key{
		{Key: profiles.Key{Name: "raw.dnsmasq", Type: profiles.Blob, Allowed: "lines of dnsmasq's configuration", Doc: "Lines for the configuration of dnsmasq, after those of the daemon."}, Types: bridges, Set: func(cfg *networks.Config, _, v string) error {
			cfg.Raw = v
			return nil
		}},
		{Key: profiles.Key{Name: "user.*", Type: profiles.Blob, Doc: "Anything that users want to keep with the network."}, Types: Types()},
	}
}

// bridges are the types of network that the daemon has a bridge for.
var bridges = []string{Bridge, Vxlan}

// HasBridge reports whether the daemon has a bridge for networks of a type,
// with addresses, DHCP and DNS.
func HasBridge(typ string) bool { return slices.Contains(bridges, typ) }

// Types returns the types of networks that have keys.
func Types() []string { return []string{Bridge, Macvlan, Physical, Vxlan} }

// tables has the rows of each type of network: those without a * by name, and
// the others in order.
var tables = sync.OnceValue(func() map[string]table {
	all := map[string]table{}
	for _, typ := range Types() {
		t := table{named: map[string]Key{}}
		for _, k := range Keys() {
			switch {
			case !slices.Contains(k.Types, typ):
			case strings.Contains(k.Name, "*"):
				t.patterns = append(t.patterns, k)
			default:
				t.named[k.Name] = k
			}
		}
		all[typ] = t
	}
	return all
})

type table struct {
	named    map[string]Key
	patterns []Key
}

// find returns the row for a key, and the text in place of its *.
func (t table) find(name string) (k Key, part string, ok bool) {
	if k, ok := t.named[name]; ok {
		return k, "", true
	}
	for _, k := range t.patterns {
		if profiles.Matches(k.Name, name) {
			prefix, suffix, _ := strings.Cut(k.Name, "*")
			return k, strings.TrimSuffix(strings.TrimPrefix(name, prefix), suffix), true
		}
	}
	return Key{}, "", false
}

// Parse returns what the configuration of a network of a type means. Its
// addresses are chosen already.
func Parse(typ string, config map[string]string) (networks.Config, error) {
	cfg := defaults(typ)
	t := tables()[typ]
	for _, name := range slices.Sorted(maps.Keys(config)) {
		value := config[name]
		if err := profiles.CheckText(name, value); err != nil {
			return cfg, err
		}
		k, part, ok := t.find(name)
		if !ok {
			return cfg, t.missing(typ, name, value)
		}
		if value == "" {
			continue
		}
		if err := k.put(&cfg, part, value); err != nil {
			return cfg, errs.Invalidf("configuration key %q: %w", name, err)
		}
	}
	return cfg, consistent(typ, cfg)
}

// put is Set with an error that says what was given and what is allowed.
func (k Key) put(cfg *networks.Config, part, value string) error {
	if why, no := refusedValue(k.Name, value); no {
		return k.RefuseValue(value, why)
	}
	if k.Type != profiles.Blob && strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }) {
		return k.WrongValue(profiles.ErrValue, value)
	}
	if k.Set == nil {
		return nil
	}
	return k.WrongValue(k.Set(cfg, part, value), value)
}

// missing is the error for a key that a type of network does not have.
func (t table) missing(typ, name, value string) error {
	if why, no := refused(typ, name); no {
		return errs.Invalidf("configuration key %q: %w", name, profiles.Key{}.RefuseValue(value, why))
	}
	for _, other := range Types() {
		if _, _, ok := tables()[other].find(name); ok {
			return errs.Invalidf("configuration key %q: a network of type %s does not have it, only one of type %s", name, typ, strings.Join(having(name), ", "))
		}
	}
	return profiles.Unknown("configuration key", name, slices.Collect(maps.Keys(t.named)))
}

// having returns the types of network that have a key.
func having(name string) []string {
	return slices.DeleteFunc(Types(), func(typ string) bool { _, _, ok := tables()[typ].find(name); return !ok })
}

// defaults is the configuration of a network that says nothing.
func defaults(typ string) networks.Config {
	var cfg networks.Config
	if slices.Contains(bridges, typ) {
		on := networks.Family{DHCP: true, Routing: true, Firewall: true}
		cfg.IPv4, cfg.IPv6 = on, on
		cfg.DNS = networks.DNS{Mode: networks.DNSManaged, Domain: "cuib"}
	}
	if typ == Vxlan {
		cfg.Overlay = overlayDefaults
	}
	return cfg
}

// Metadata returns the table as GET /1.0/metadata/configuration has it.
func Metadata() map[string]map[string]profiles.DocGroup {
	all := map[string]map[string]profiles.DocGroup{}
	for _, typ := range Types() {
		var g profiles.DocGroup
		for _, k := range Keys() {
			if slices.Contains(k.Types, typ) {
				g.Keys = append(g.Keys, map[string]profiles.Doc{k.Name: k.Describe()})
			}
		}
		all["network-"+typ] = map[string]profiles.DocGroup{"network-conf": g}
	}
	all["network-zone"] = zoneMetadata()
	return all
}
