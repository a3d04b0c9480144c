package acls

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/networks/acl"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
)

// State returns what the kernel has counted of an ACL's rules: at each network
// that has it, and at the interfaces of instances on each network.
func (s *Service) State(ctx context.Context, name string) (api.NetworkACLState, error) {
	var policies []*acl.Policy
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetNetworkObject(ctx, tx, kind, name); err != nil {
			return err
		}
		w, err := load(ctx, tx)
		if err != nil {
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
		out.Rules = addCounts(out.Rules, name, "network "+p.Network, p, counts)
	}
	ports, err := s.Ports.Counts()
	if err != nil {
		return out, err
	}
	for p, counts := range ports {
		out.Rules = addCounts(out.Rules, name, "interfaces on "+p.Network, p, counts)
	}
	sortCounts(out.Rules)
	return out, nil
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
