package vxlan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
	"github.com/cuib/cuib/shared/errs"
)

// tableFile is the file of the table in a network's directory.
const tableFile = "members.json"

// maxGuests is how many guests a host is believed to have: more than fit, and
// few enough that nobody fills another host's memory.
const maxGuests = 16384

// A table is what is kept of an overlay: which other hosts have said what.
type table struct {
	Local   netip.Addr                     // Our own address below, as it was last.
	MTU     int                            // Of the network, as it was last.
	Members map[netip.Addr]networks.Member // The others.
	Kept    map[string][]netip.Addr        // By MAC: addresses that instances had on another host, and keep here.
	Own     [2]netip.Addr                  // Of IPv4 and IPv6, that are this host's alone; not valid for none.
}

func readTable(cfg networks.Config) (*table, error) {
	t := &table{Members: map[netip.Addr]networks.Member{}, Kept: map[string][]netip.Addr{}}
	data, err := os.ReadFile(filepath.Join(cfg.Dir, tableFile))
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, t); err != nil {
		// Who is where is told again; a table that is lost is no reason for
		// a network to be down.
		return &table{Members: map[netip.Addr]networks.Member{}, Kept: map[string][]netip.Addr{}}, nil //nolint:nilerr // as said
	}
	return t, nil
}

func (t *table) write(cfg networks.Config) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	path := filepath.Join(cfg.Dir, tableFile)
	if err := os.WriteFile(path+"~", data, 0o600); err != nil {
		_ = os.Remove(path + "~") // It may not be there.
		return fmt.Errorf("keep what other hosts say: %w", err)
	}
	return os.Rename(path+"~", path)
}

// renew keeps what depends on the configuration and on the way to the others.
func (t *table) renew(cfg networks.Config, u underlay) error {
	changed := t.Local != u.local || t.MTU != u.mtu
	t.Local, t.MTU = u.local, u.mtu
	changed = t.forget(cfg.Overlay.Peers) || changed
	chosen, err := t.choose(cfg, u)
	if err != nil || !changed && !chosen {
		return err
	}
	return t.write(cfg)
}

// forget drops what hosts said that are no members any more, and reports
// whether there was something.
func (t *table) forget(peers []netip.Addr) bool {
	n := len(t.Members)
	maps.DeleteFunc(t.Members, func(a netip.Addr, _ networks.Member) bool { return !slices.Contains(peers, a) })
	return len(t.Members) != n
}

// members returns who has said something, in order.
func (t *table) members() []netip.Addr {
	return slices.SortedFunc(maps.Keys(t.Members), netip.Addr.Compare)
}

// learn takes what a member says, and reports whether it is something new.
// What it says anew to have, another has no longer: who moves an instance
// tells last. local are the MAC addresses of our own instances.
func (t *table) learn(cfg networks.Config, m networks.Member, local map[string]bool) bool {
	m.Guests = believed(cfg, m.Guests)
	old := t.Members[m.Underlay]
	if reflect.DeepEqual(old, m) {
		return false
	}
	had := map[string]networks.Guest{}
	for _, g := range old.Guests {
		had[g.MAC] = g
		if local[g.MAC] && len(g.Addresses) > 0 && len(t.Kept[g.MAC]) == 0 {
			t.Kept[g.MAC] = g.Addresses
		}
	}
	fresh := map[string]bool{}
	for _, g := range m.Guests {
		if o, ok := had[g.MAC]; !ok || g.Here && !o.Here {
			fresh[g.MAC] = true
		}
	}
	for a, other := range t.Members {
		if a == m.Underlay {
			continue
		}
		stale := func(g networks.Guest) bool { return fresh[g.MAC] }
		if slices.ContainsFunc(other.Guests, stale) {
			other.Guests = slices.DeleteFunc(slices.Clone(other.Guests), stale)
			t.Members[a] = other
		}
	}
	t.Members[m.Underlay] = m
	return true
}

// believed returns those guests, and those of their addresses, that another
// host can have.
func believed(cfg networks.Config, all []networks.Guest) []networks.Guest {
	gateway, err := gatewayMAC(cfg)
	if err != nil {
		return nil
	}
	var out []networks.Guest
	for _, g := range all[:min(len(all), maxGuests)] {
		mac, err := networks.ParseMAC(g.MAC)
		if err != nil || mac.String() == gateway.String() || networks.CheckHost(networks.Host{Name: g.Name, MAC: g.MAC}) != nil {
			continue
		}
		g.MAC = mac.String()
		g.Addresses = slices.DeleteFunc(slices.Clone(g.Addresses), func(a netip.Addr) bool { return !within(cfg, a) })
		out = append(out, g)
	}
	return out
}

// within reports whether guests of the network can have the address.
func within(cfg networks.Config, a netip.Addr) bool {
	for _, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() && f.Address.Masked().Contains(a) && a != f.Address.Addr() && a != f.Gateway {
			return true
		}
	}
	return false
}

// keep notes the addresses that other hosts know of a MAC address, which has
// come to this one, and reports whether there was anything to note.
func (t *table) keep(mac string) bool {
	if len(t.Kept[lower(mac)]) > 0 {
		return false
	}
	for _, m := range t.Members {
		for _, g := range m.Guests {
			if g.MAC == lower(mac) && len(g.Addresses) > 0 {
				t.Kept[g.MAC] = g.Addresses
				return true
			}
		}
	}
	return false
}

// kept returns one of our instances with the addresses that it had elsewhere,
// unless it was given others.
func (t *table) kept(cfg networks.Config, h networks.Host) networks.Host {
	for _, a := range t.Kept[lower(h.MAC)] {
		switch {
		case a.Is4() && !h.IPv4.IsValid():
			h.IPv4 = a
		case a.Is6() && !h.IPv6.IsValid() && cfg.IPv6.Stateful:
			h.IPv6 = a
		}
	}
	return h
}

// remote returns the instances of other hosts that have names or addresses,
// but for those whose MAC address local has.
func (t *table) remote(cfg networks.Config, local map[string]bool) []networks.Host {
	var all []networks.Host
	seen := map[string]bool{}
	for _, member := range t.members() {
		for _, g := range t.Members[member].Guests {
			if local[g.MAC] || seen[g.MAC] || len(g.Addresses) == 0 {
				continue
			}
			seen[g.MAC] = true
			h := networks.Host{Name: g.Name, MAC: g.MAC}
			for _, a := range g.Addresses {
				switch {
				case !within(cfg, a):
				case a.Is4() && !h.IPv4.IsValid():
					h.IPv4 = a
				case a.Is6() && !h.IPv6.IsValid():
					h.IPv6 = a
				}
			}
			all = append(all, h)
		}
	}
	return all
}

// complete returns the configuration of the bridge: with the hosts of all
// members, our own part of the ranges, and what must be the same everywhere.
func (t *table) complete(cfg networks.Config, u underlay) (networks.Config, error) {
	mac, err := gatewayMAC(cfg)
	if err != nil {
		return cfg, err
	}
	if cfg.MTU > u.mtu {
		return cfg, errs.Invalidf(`configuration key "bridge.mtu": %d does not fit: what goes to other hosts has %d bytes at most`, cfg.MTU, u.mtu)
	}
	if cfg.MTU == 0 {
		cfg.MTU = u.mtu
	}
	cfg.HWAddr = mac.String()
	views := [][]netip.Addr{view(cfg.Overlay, u)}
	for _, m := range t.members() {
		if v := t.Members[m].View; len(v) > 0 {
			views = append(views, v)
		}
	}
	cfg.IPv4 = shared(cfg.IPv4, u.local, views)
	if cfg.IPv6.Stateful {
		cfg.IPv6 = shared(cfg.IPv6, u.local, views)
	}
	local := map[string]bool{}
	hosts := make([]networks.Host, 0, len(cfg.Hosts))
	given, err := dnsmasq.Leases(networks.Config{Dir: cfg.Dir})
	if err != nil {
		return cfg, err
	}
	for _, h := range cfg.Hosts {
		local[lower(h.MAC)] = true
		hosts = append(hosts, outside(cfg, t.kept(cfg, h), given))
	}
	cfg.Hosts = append(hosts, t.remote(cfg, local)...)
	if self, ok := t.self(cfg, u); ok {
		cfg.Hosts = append(cfg.Hosts, self)
	}
	return cfg, nil
}

// outside returns a host that has got an address here which is not in our part
// of the ranges any more, with that address for good: it is not taken away.
func outside(cfg networks.Config, h networks.Host, given []networks.Lease) networks.Host {
	for _, l := range given {
		switch {
		case !strings.EqualFold(l.Host.MAC, h.MAC):
		case l.Address.Is4() && !h.IPv4.IsValid() && !inRanges(cfg.IPv4, l.Address):
			h.IPv4 = l.Address
		case l.Address.Is6() && !h.IPv6.IsValid() && cfg.IPv6.Stateful && !inRanges(cfg.IPv6, l.Address):
			h.IPv6 = l.Address
		}
	}
	return h
}

func inRanges(f networks.Family, a netip.Addr) bool {
	return slices.ContainsFunc(f.Ranges, func(r networks.Range) bool {
		return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
	})
}

func sameRanges(a, b networks.Config) bool {
	return slices.Equal(a.IPv4.Ranges, b.IPv4.Ranges) && slices.Equal(a.IPv6.Ranges, b.IPv6.Ranges)
}

func lower(mac string) string { return strings.ToLower(mac) }
