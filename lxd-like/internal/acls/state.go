package acls

import (
	"context"
	"net/url"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
)

// State returns what the kernel has counted of an ACL's rules: at each network
// that has it, and at the interfaces of instances on each network.
func (s *Service) State(ctx context.Context, name string) (api.NetworkACLState, error) {
	var w *world
	var policies []*acl.Policy
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if _, err := db.GetNetworkObject(ctx, tx, kind, name); err != nil {
			return err
		}
		if w, err = load(ctx, tx); err != nil {
			return err
		}
		for _, n := range w.networksWith(name) {
			in, err := w.place(n)
			if err != nil {
				return err
			}
			policies = append(policies, s.policy(w, in, profiles.SplitList(in.config[keyACLs])))
		}
		return nil
	})
	if err != nil {
		return api.NetworkACLState{}, err
	}
	out := api.NetworkACLState{Rules: []api.NetworkACLCount{}}
	for _, p := range policies {
		counts, err := nft.CountACL(networks.Config{Name: p.Network, ACL: p})
		if err != nil {
			return out, err
		}
		out.Rules = addCounts(out.Rules, name, "network "+w.shown(p.Network), p, counts)
	}
	ports, err := s.Ports.Counts()
	if err != nil {
		return out, err
	}
	for p, counts := range ports {
		out.Rules = addCounts(out.Rules, name, "interfaces on "+w.shown(p.Network), p, counts)
	}
	sortCounts(out.Rules)
	return out, nil
}

// shown is how the network that has a link is told of.
func (w *world) shown(link string) string {
	return strings.TrimPrefix(nets.UserOf("/1.0/networks/"+url.PathEscape(networkAt(w.networks, link))), "network ")
}

// addCounts adds what was counted of the rules of one ACL of a policy. Policies
// at one place count together.
func addCounts(all []api.NetworkACLCount, name, where string, p *acl.Policy, counts []nft.Count) []api.NetworkACLCount {
next:
	for _, c := range counts {
		rules := p.Ingress.Rules
		if c.Direction == acl.Egress {
			rules = p.Egress.Rules
		}
		if c.Rule < 0 || rules[c.Rule].ACL != name {
			continue
		}
		n := api.NetworkACLCount{Direction: c.Direction, Rule: rules[c.Rule].Index, Where: where, Packets: c.Packets, Bytes: c.Bytes}
		for i := range all {
			if have := &all[i]; have.Direction == n.Direction && have.Rule == n.Rule && have.Where == where {
				have.Packets += n.Packets
				have.Bytes += n.Bytes
				continue next
			}
		}
		all = append(all, n)
	}
	return all
}
