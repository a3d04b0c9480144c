package nets

import (
	"context"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
)

// Peers that have the same domain cannot ask each other for all of it: each
// would ask the other for what neither knows. So a network is told which names
// its peers have, and asks for those alone.

// A Peering returns the peers of all networks that have some, in order. Those
// that have a network's domain are shared.
type Peering func(ctx context.Context, tx *db.Tx) (map[string][]networks.Peer, error)

// share gives the peers of a network that have its domain the names that they
// have: all but those of the network itself, and of peers before. of returns the
// hosts of a network.
func share(network string, peers []networks.Peer, of func(network string) []record) []networks.Peer {
	if !slices.ContainsFunc(peers, func(p networks.Peer) bool { return p.Shared }) {
		return peers
	}
	taken := map[string]bool{}
	for _, name := range namesOf(network, of(network)) {
		taken[strings.ToLower(name)] = true
	}
	out := slices.Clone(peers)
	for i, p := range out {
		if !p.Shared {
			continue
		}
		out[i].Names = nil
		for _, name := range namesOf(p.Network, of(p.Network)) {
			if key := strings.ToLower(name); !taken[key] {
				taken[key] = true
				out[i].Names = append(out[i].Names, name)
			}
		}
	}
	return out
}

// peersOf are the peers of a network with their names.
func (s *Service) peersOf(ctx context.Context, cfg networks.Config) ([]networks.Peer, error) {
	if len(cfg.Peers) == 0 {
		return nil, nil
	}
	all, err := s.guests(ctx)
	return share(cfg.Key, cfg.Peers, all.recorded), err
}

// namesOf returns the names that hosts have on a network, and their aliases, in
// order.
func namesOf(network string, hosts []record) []string {
	var all []string
	for _, h := range hosts {
		if h.status == db.Ready && h.Name != "" {
			all = append(all, h.Name)
		}
	}
	for _, a := range aliasesOf(network, hosts) {
		all = append(all, a.Name)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
