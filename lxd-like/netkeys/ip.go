package netkeys

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

const none = "none"

// familyKeys are the keys of one family; of says where it is.
func familyKeys(prefix, name string, of func(*networks.Config) *networks.Family) []Key {
	f := family{prefix, name, of}
	keys := []Key{
		f.row("address", profiles.Key{Type: profiles.String, Default: "auto", Allowed: "an address with the length of its network, such as " + f.example() + `, "auto" or "none"`, Doc: "The host's address in the network; auto is one in a private network that the host does not know."}, f.setAddress),
		f.boolean("dhcp", profiles.Key{Default: "true", Doc: "Give addresses to instances, or, for IPv6 without stateful, settings."}, func(f *networks.Family) *bool { return &f.DHCP }),
		f.row("dhcp.expiry", profiles.Key{Type: profiles.String, Default: "1h", Allowed: `a time of at least 2m, such as "1h" or "7d"`, Doc: "How long an address is given out for."}, f.setExpiry),
		f.row("dhcp.ranges", profiles.Key{Type: profiles.String, Default: "all of the network", Allowed: "ranges FIRST-LAST of addresses, with commas between them", Doc: "The addresses that are given out."}, f.setRanges),
		f.boolean("firewall", profiles.Key{Default: "true", Doc: "Accept what the network needs in the network's own table of nftables."}, func(f *networks.Family) *bool { return &f.Firewall }),
		f.boolean("nat", profiles.Key{Default: "true for an address that is auto, else false", Doc: "Give what instances send elsewhere an address of the host."}, func(f *networks.Family) *bool { return &f.NAT }),
		f.boolean("routing", profiles.Key{Default: "true", Doc: "Route between the network and others."}, func(f *networks.Family) *bool { return &f.Routing }),
	}
	keys = append(keys, f.routeKeys()...)
	if f.four() {
		keys = append(keys, f.row("dhcp.gateway", profiles.Key{Type: profiles.String, Default: "the network's own address", Allowed: "an IPv4 address in the network", Doc: "The gateway that instances are told of."}, f.setGateway))
		keys = append(keys, f.row("dhcp.routes", profiles.Key{Type: profiles.String, Allowed: `pairs of a network and a gateway, such as "10.0.0.0/8,10.1.2.3", with commas between them`, Doc: "The routes that instances are told of (option 121), besides that to everywhere by the gateway."}, f.setDHCPRoutes))
	} else {
		keys = append(keys, f.row("ra", profiles.Key{Type: profiles.Bool, Default: "true", Allowed: wantBool, Doc: "Send router advertisements, without which instances choose no addresses and have no route to elsewhere."}, func(to *networks.Family, v string) error {
			on, err := parseBool(v)
			to.NoRA = !on
			return err
		}))
		keys = append(keys, f.boolean("dhcp.stateful", profiles.Key{Default: "false", Doc: "Give out addresses, instead of letting instances choose theirs."}, func(f *networks.Family) *bool { return &f.Stateful }))
	}
	slices.SortFunc(keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

// routeKeys are about what goes to other networks, and how.
func (f family) routeKeys() []Key {
	const nat = "with nat"
	return []Key{
		f.row("nat.address", profiles.Key{Type: profiles.String, Default: "that of the interface it leaves by", Condition: nat, Allowed: "an " + f.name + " address", Doc: "The address that what instances send elsewhere has, to which its answers must find their way."}, func(to *networks.Family, v string) (err error) {
			to.NATAddress, err = f.address(v)
			return err
		}),
		f.row("nat.order", profiles.Key{Type: profiles.String, Condition: nat, Allowed: "before or after", Doc: "Whether the address is changed before or after what other tables of nftables and iptables change; who comes first has it.", Differs: "They look at it with iptables only."}, func(to *networks.Family, v string) error {
			to.NATOrder = v
			return oneOf(networks.NATBefore, networks.NATAfter)(nil, "", v)
		}),
		f.row("routes", profiles.Key{Type: profiles.String, Allowed: "networks such as " + f.exampleRoute() + ", with commas between them", Doc: "Networks that the host routes to the bridge, behind which an instance has them."}, f.setRoutes),
	}
}

// A family makes rows for IPv4 or IPv6.
type family struct {
	prefix, name string
	of           func(*networks.Config) *networks.Family
}

func (f family) four() bool { return f.prefix == "ipv4" }

func (f family) example() string {
	if f.four() {
		return `"10.1.2.1/24"`
	}
	return `"fd42:1:2:3::1/64"`
}

func (f family) exampleRoute() string {
	if f.four() {
		return `"10.9.0.0/16"`
	}
	return `"fd42:9::/48"`
}

// row is a row of bridges, whose value set puts into the family.
func (f family) row(name string, k profiles.Key, set func(to *networks.Family, value string) error) Key {
	k.Name = f.prefix + "." + name
	return Key{Key: k, Types: bridges, Set: func(cfg *networks.Config, _, v string) error { return set(f.of(cfg), v) }}
}

func (f family) boolean(name string, k profiles.Key, field func(*networks.Family) *bool) Key {
	k.Type, k.Allowed = profiles.Bool, wantBool
	return f.row(name, k, func(to *networks.Family, v string) (err error) {
		*field(to), err = parseBool(v)
		return err
	})
}

const wantBool = "true or false"

// fits reports whether an address is of the family.
func (f family) fits(a netip.Addr) bool { return a.Is4() == f.four() }

func (f family) setAddress(to *networks.Family, v string) error {
	if v == none {
		return nil
	}
	p, err := netip.ParsePrefix(v)
	if err != nil || !f.fits(p.Addr()) || p.Addr().Is4In6() {
		return profiles.ErrValue
	}
	if p.Bits() > p.Addr().BitLen()-2 || p.Bits() < 8 {
		return errs.Invalidf("got %q, want a network's length from 8 to %d", v, p.Addr().BitLen()-2)
	}
	a := p.Addr()
	if a == p.Masked().Addr() || f.four() && a == networks.Last(p) || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() && !f.four() {
		return errs.Invalidf("got %q, but %s cannot be the address of a host", v, a)
	}
	to.Address = p
	return nil
}

func (f family) setGateway(to *networks.Family, v string) (err error) {
	to.Gateway, err = f.address(v)
	return err
}

// address reads an address of the family.
func (f family) address(v string) (netip.Addr, error) {
	a, err := address(v)
	if err != nil || !f.fits(a) {
		return netip.Addr{}, profiles.ErrValue
	}
	return a, nil
}

func (f family) setRoutes(to *networks.Family, v string) error {
	all, err := list(v)
	if err != nil {
		return err
	}
	for _, s := range all {
		p, err := f.network(s)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(to.Routes, p.Overlaps) {
			return errs.Invalidf("got %q, but %s is in it twice", v, p)
		}
		to.Routes = append(to.Routes, p)
	}
	return nil
}

// network reads a network that is not the whole world.
func (f family) network(v string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v)
	a := p.Addr()
	if err != nil || !f.fits(a) || a.Is4In6() || p != p.Masked() || p.Bits() == 0 || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() {
		return netip.Prefix{}, profiles.ErrValue
	}
	return p, nil
}

func (f family) setDHCPRoutes(to *networks.Family, v string) error {
	all, err := list(v)
	if err != nil || len(all)%2 != 0 {
		return profiles.ErrValue
	}
	for i := 0; i < len(all); i += 2 {
		p, err := netip.ParsePrefix(all[i])
		via, verr := f.address(all[i+1])
		if err != nil || verr != nil || !f.fits(p.Addr()) || p != p.Masked() {
			return profiles.ErrValue
		}
		to.DHCPRoutes = append(to.DHCPRoutes, networks.Route{To: p, Via: via})
	}
	return nil
}

func (f family) setRanges(to *networks.Family, v string) (err error) {
	to.Ranges, err = f.ranges(v)
	return err
}

func (f family) ranges(v string) ([]networks.Range, error) {
	parts, err := list(v)
	if err != nil {
		return nil, err
	}
	all := make([]networks.Range, 0, len(parts))
	for _, s := range parts {
		first, last, ok := cut(s, "-")
		a, err1 := f.address(first)
		b, err2 := f.address(last)
		if !ok || err1 != nil || err2 != nil || b.Less(a) {
			return nil, profiles.ErrValue
		}
		all = append(all, networks.Range{First: a, Last: b})
	}
	return apart(all), nil
}

// apart returns ranges without those that overlap: no address is in two, which
// hosts of an overlay would take for two addresses.
func apart(all []networks.Range) []networks.Range {
	slices.SortFunc(all, func(a, b networks.Range) int { return a.First.Compare(b.First) })
	out := all[:1]
	for _, r := range all[1:] {
		last := &out[len(out)-1]
		if last.Last.Less(r.First) {
			out = append(out, r)
		} else if last.Last.Less(r.Last) {
			last.Last = r.Last
		}
	}
	return out
}

func (f family) setExpiry(to *networks.Family, v string) (err error) {
	to.Expiry, err = expiry(v)
	return err
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
		return 0, profiles.ErrValue
	}
	return d, nil
}
