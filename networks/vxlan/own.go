package vxlan

import (
	"crypto/sha256"
	"math/big"
	"net/netip"
	"slices"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/dnsmasq"
)

// The gateway's address is every host's: the answer to it stays on the host
// that the guest is on. So each host has an address of its own besides, which
// what it leads to guests elsewhere comes from. It is told to other hosts as a
// guest's is, with the address of the port that leads to them.

// own returns the addresses that are this host's alone.
func (t *table) own() []netip.Addr {
	return slices.DeleteFunc(slices.Clone(t.Own[:]), func(a netip.Addr) bool { return !a.IsValid() })
}

// self returns this host as others have it to know, if it has an address of its
// own.
func (t *table) self(cfg networks.Config, u underlay) (networks.Host, bool) {
	return networks.Host{MAC: portMAC(cfg, u).String(), IPv4: t.Own[0], IPv6: t.Own[1]}, len(t.own()) > 0
}

// choose finds addresses of our own that nobody else has, and reports whether
// they are others than before.
func (t *table) choose(cfg networks.Config, u underlay) (changed bool, err error) {
	before := t.Own
	t.Own = [2]netip.Addr{}
	if len(cfg.Overlay.Peers) == 0 {
		return t.Own != before, nil
	}
	taken, err := t.taken(cfg, u)
	if err != nil {
		return false, err
	}
	for i, f := range []networks.Family{cfg.IPv4, cfg.IPv6} {
		if f.Address.IsValid() {
			t.Own[i] = pickOwn(f, u, len(cfg.Overlay.Peers)+1, taken)
		}
	}
	if a := autoconf(cfg, portMAC(cfg, u).String()); a.IsValid() {
		t.Own[1] = a
	}
	return t.Own != before, nil
}

// taken are the addresses of others, as far as they are known.
func (t *table) taken(cfg networks.Config, u underlay) (map[netip.Addr]bool, error) {
	out := map[netip.Addr]bool{cfg.IPv4.Gateway: true, cfg.IPv6.Gateway: true, cfg.IPv4.Address.Addr(): true, cfg.IPv6.Address.Addr(): true}
	here, err := addresses(cfg, t)
	if err != nil {
		return nil, err
	}
	for _, all := range here {
		for _, a := range all {
			out[a] = true
		}
	}
	for _, h := range cfg.Hosts {
		out[h.IPv4], out[h.IPv6] = true, true
	}
	for a, m := range t.Members {
		for _, g := range m.Guests {
			if g.Host && u.local.Less(a) {
				continue // It takes another if it is the same: only one of us is to move.
			}
			for _, a := range g.Addresses {
				out[a] = true
			}
		}
	}
	return out, nil
}

// maxOwnTries is how many addresses are looked at, and minShare is how many a
// network has for each host at least, or it is left to guests.
const (
	maxOwnTries = 4096
	minShare    = 4
)

// pickOwn returns a free address of a family's last range. Which one comes from
// our address below, so that hosts seldom want the same, and a host the same
// again. Others hear of it before anything comes from it, and give it to nobody.
func pickOwn(f networks.Family, u underlay, members int, taken map[netip.Addr]bool) netip.Addr {
	ranges := dnsmasq.Ranges(f)
	last := ranges[len(ranges)-1]
	room := size(last)
	if room.Cmp(big.NewInt(int64(minShare*members))) < 0 {
		return netip.Addr{}
	}
	sum := sha256.Sum256(u.local.AsSlice())
	at := plus(last.First, room.Mod(new(big.Int).SetBytes(sum[:]), room))
	for range maxOwnTries {
		if !taken[at] {
			return at
		}
		if at = at.Prev(); !at.IsValid() || at.Compare(last.First) < 0 {
			at = last.Last
		}
	}
	return netip.Addr{}
}

// elsewhere are the addresses of neighbors that other hosts have told of, but for
// those of hosts themselves.
func (t *table) elsewhere(neighbors []neighbor) []netip.Addr {
	hosts := map[string]bool{}
	for _, m := range t.Members {
		for _, g := range m.Guests {
			if g.Host {
				hosts[g.MAC] = true
			}
		}
	}
	var out []netip.Addr
	for _, n := range neighbors {
		if !hosts[n.mac] {
			out = append(out, n.addr)
		}
	}
	return out
}
