package nets

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// A setter puts the value of a key, which is not empty, into a configuration.
type setter func(cfg *networks.Config, value string) error

// keys are the keys of each type of network, besides "user.*".
var keys = map[string]map[string]setter{
	"bridge":  bridgeKeys(),
	"macvlan": {"mtu": setMTU, "parent": func(cfg *networks.Config, v string) error { cfg.Parent = v; return nil }},
}

func bridgeKeys() map[string]setter {
	v4 := func(cfg *networks.Config) *networks.Family { return &cfg.IPv4 }
	v6 := func(cfg *networks.Config) *networks.Family { return &cfg.IPv6 }
	all := map[string]setter{
		"bridge.hwaddr": setHWAddr,
		"bridge.mtu":    setMTU,
		"dns.domain": func(cfg *networks.Config, v string) error {
			cfg.DNS.Domain = v
			return networks.CheckDomain(v)
		},
		"dns.mode":        setDNSMode,
		"dns.nameservers": setNameservers,
		"dns.search":      setSearch,
		"raw.dnsmasq":     func(cfg *networks.Config, v string) error { cfg.Raw = v; return nil },

		"ipv6.dhcp.stateful": boolean(func(cfg *networks.Config) *bool { return &cfg.IPv6.Stateful }),
		"ipv4.dhcp.gateway": func(cfg *networks.Config, v string) (err error) {
			cfg.IPv4.Gateway, err = address(v)
			return err
		},
	}
	for prefix, f := range map[string]func(*networks.Config) *networks.Family{"ipv4.": v4, "ipv6.": v6} {
		all[prefix+"address"] = familyAddress(f)
		all[prefix+"nat"] = boolean(func(cfg *networks.Config) *bool { return &f(cfg).NAT })
		all[prefix+"dhcp"] = boolean(func(cfg *networks.Config) *bool { return &f(cfg).DHCP })
		all[prefix+"routing"] = boolean(func(cfg *networks.Config) *bool { return &f(cfg).Routing })
		all[prefix+"firewall"] = boolean(func(cfg *networks.Config) *bool { return &f(cfg).Firewall })
		all[prefix+"dhcp.expiry"] = func(cfg *networks.Config, v string) (err error) {
			f(cfg).Expiry, err = expiry(v)
			return err
		}
		all[prefix+"dhcp.ranges"] = func(cfg *networks.Config, v string) (err error) {
			f(cfg).Ranges, err = ranges(v)
			return err
		}
	}
	return all
}

// parse returns what a network's configuration means. Its addresses are
// chosen already.
func parse(n db.Network) (networks.Config, error) {
	cfg := networks.Config{Name: n.Name}
	if n.Type == "bridge" {
		on := networks.Family{DHCP: true, Routing: true, Firewall: true}
		cfg.IPv4, cfg.IPv6 = on, on
		cfg.DNS = networks.DNS{Mode: networks.DNSManaged, Domain: "cuib"}
	}
	for _, key := range sortedKeys(n.Config) {
		value := n.Config[key]
		if strings.HasPrefix(key, "user.") {
			continue
		}
		set, ok := keys[n.Type][key]
		if !ok {
			return cfg, errs.Invalidf("configuration key %q is not known for networks of type %s: use %s or user.*", key, n.Type, strings.Join(sortedKeys(keys[n.Type]), ", "))
		}
		if value == "" {
			continue
		}
		if err := set(&cfg, value); err != nil {
			return cfg, errs.Invalidf("configuration key %q: %w", key, err)
		}
	}
	for key, value := range n.Config {
		if strings.ContainsRune(value, 0) || key != "raw.dnsmasq" && !strings.HasPrefix(key, "user.") && strings.ContainsRune(value, '\n') {
			return cfg, errs.Invalidf("configuration key %q: the value has a character that is not allowed", key)
		}
	}
	return cfg, consistent(n.Type, cfg)
}

// consistent checks what no key can tell alone.
func consistent(typ string, cfg networks.Config) error {
	if typ == "macvlan" {
		if cfg.Parent == "" {
			return errs.Invalidf(`configuration key "parent" is missing: a network of type macvlan needs the host interface below it`)
		}
		return nil
	}
	if err := consistentIPv4(cfg.IPv4); err != nil {
		return err
	}
	return consistentIPv6(cfg)
}

func consistentIPv4(f networks.Family) error {
	if f.Gateway.IsValid() && !within(f, f.Gateway) {
		return errs.Invalidf(`configuration key "ipv4.dhcp.gateway": %s is outside of the network %s`, f.Gateway, f.Address)
	}
	return rangesWithin("ipv4.dhcp.ranges", f)
}

func consistentIPv6(cfg networks.Config) error {
	f := cfg.IPv6
	if len(f.Ranges) > 0 && !f.Stateful {
		return errs.Invalidf(`configuration key "ipv6.dhcp.ranges" needs ipv6.dhcp.stateful`)
	}
	if f.Address.IsValid() && f.DHCP && !f.Stateful && f.Address.Bits() != 64 {
		return errs.Invalidf(`configuration key "ipv6.address": guests can only choose their addresses in a /64, and this is a /%d: set ipv6.dhcp.stateful to true or ipv6.dhcp to false`, f.Address.Bits())
	}
	if f.Address.IsValid() && cfg.MTU != 0 && cfg.MTU < 1280 {
		return errs.Invalidf(`configuration key "bridge.mtu": IPv6 needs at least 1280, got %d`, cfg.MTU)
	}
	return rangesWithin("ipv6.dhcp.ranges", f)
}

func rangesWithin(key string, f networks.Family) error {
	for _, r := range f.Ranges {
		if !within(f, r.First) || !within(f, r.Last) {
			return errs.Invalidf("configuration key %q: range %s-%s is outside of the network %s", key, r.First, r.Last, f.Address)
		}
	}
	return nil
}

func within(f networks.Family, a netip.Addr) bool {
	return f.Address.IsValid() && f.Address.Masked().Contains(a)
}

func boolean(field func(*networks.Config) *bool) setter {
	return func(cfg *networks.Config, v string) (err error) {
		*field(cfg), err = profiles.ParseBool(v)
		return err
	}
}

func familyAddress(f func(*networks.Config) *networks.Family) setter {
	is4 := f(&networks.Config{IPv4: networks.Family{NAT: true}}).NAT
	return func(cfg *networks.Config, v string) error {
		if v == none {
			return nil
		}
		p, err := netip.ParsePrefix(v)
		if err != nil || p.Addr().Is4() != is4 || p.Addr().Is4In6() {
			return fmt.Errorf("%q is not valid: use an address with the length of its network, as %s, or \"auto\" or \"none\"", v, example(is4))
		}
		if p.Bits() > p.Addr().BitLen()-2 || p.Bits() < 8 {
			return fmt.Errorf("%q is not valid: a network's length is from 8 to %d", v, p.Addr().BitLen()-2)
		}
		a := p.Addr()
		if a == p.Masked().Addr() || is4 && a == networks.Last(p) || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() && !is4 {
			return fmt.Errorf("%q is not valid: %s cannot be the address of a host", v, a)
		}
		f(cfg).Address = p
		return nil
	}
}

func example(is4 bool) string { //nolint:revive // a value and not a switch
	if is4 {
		return "10.1.2.1/24"
	}
	return "fd42:1:2:3::1/64"
}

func setMTU(cfg *networks.Config, v string) (err error) {
	cfg.MTU, err = strconv.Atoi(v)
	if err != nil || cfg.MTU < 576 || cfg.MTU > 65535 {
		return fmt.Errorf("%q is not valid: use a number of bytes from 576 to 65535", v)
	}
	return nil
}

func setHWAddr(cfg *networks.Config, v string) error {
	mac, err := networks.ParseMAC(v)
	cfg.HWAddr = mac.String()
	return err
}

func setDNSMode(cfg *networks.Config, v string) error {
	modes := []string{networks.DNSManaged, networks.DNSDynamic, networks.DNSNone}
	if !slices.Contains(modes, v) {
		return fmt.Errorf("%q is not valid: use one of %s", v, strings.Join(modes, ", "))
	}
	cfg.DNS.Mode = v
	return nil
}

func setSearch(cfg *networks.Config, v string) error {
	cfg.DNS.Search = list(v)
	for _, d := range cfg.DNS.Search {
		if err := networks.CheckDomain(d); err != nil {
			return err
		}
	}
	return nil
}

func setNameservers(cfg *networks.Config, v string) error {
	for _, s := range list(v) {
		a, err := address(s)
		if err != nil {
			return err
		}
		cfg.DNS.Nameservers = append(cfg.DNS.Nameservers, a)
	}
	return nil
}

func address(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", v)
	}
	return a, nil
}

func ranges(v string) ([]networks.Range, error) {
	var all []networks.Range
	for _, s := range list(v) {
		first, last, ok := strings.Cut(s, "-")
		a, err1 := address(strings.TrimSpace(first))
		b, err2 := address(strings.TrimSpace(last))
		if !ok || err1 != nil || err2 != nil || a.BitLen() != b.BitLen() || b.Less(a) {
			return nil, fmt.Errorf("range %q is not valid: use FIRST-LAST, and commas between ranges", s)
		}
		all = append(all, networks.Range{First: a, Last: b})
	}
	return all, nil
}

// expiry parses a number of seconds, or one with a unit from s to w.
func expiry(v string) (time.Duration, error) {
	units := map[string]time.Duration{
		"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
	}
	text, unit := v, time.Second
	if u, ok := units[v[len(v)-1:]]; ok {
		text, unit = v[:len(v)-1], u
	}
	n, err := strconv.ParseUint(text, 10, 16)
	d := time.Duration(n) * unit
	if err != nil || d < 2*time.Minute {
		return 0, fmt.Errorf("%q is not valid: use a time of at least 2m, such as 1h, 7d", v)
	}
	return d, nil
}

// list splits a list at its commas.
func list(v string) []string {
	var all []string
	for s := range strings.SplitSeq(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}
