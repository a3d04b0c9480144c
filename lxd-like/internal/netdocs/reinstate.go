package netdocs

import (
	"context"
	"slices"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A Reinstatement is networks that are made again.
type Reinstatement struct {
	Document api.NetworksDocument

	// Complete has networks that are there get what they have none of, too.
	// Otherwise only those do that are made: what the others lack was perhaps
	// taken from them after they were described.
	Complete bool

	// Note is told of all that is made, or cannot be made.
	Note func(what string, err error)
}

// Reinstate makes what is described and not there, in the order in which each
// needs what came before. What fails does not keep the rest from being made.
func (s *Service) Reinstate(ctx context.Context, r Reinstatement) {
	d := r.Document
	if d.NetworksVersion > api.NetworksVersion {
		r.Note("all of the networks", errs.Newf(
			errs.Unsupported, "their description is of version %d, made by a newer cuibd; this one knows up to %d", d.NetworksVersion, api.NetworksVersion,
		))
	}
	for _, a := range d.AddressSets {
		r.note("network address set "+a.Name, s.ACLs.Sets().Create(ctx, api.NetworkAddressSetsPost{Name: a.Name, NetworkAddressSetPut: a.NetworkAddressSetPut}))
	}
	s.reinstateACLs(ctx, r)
	s.reinstateZones(ctx, r)
	fill := s.reinstateNetworks(ctx, r)
	for _, p := range d.NetworkParts {
		if slices.Contains(fill, p.Network) {
			s.reinstateParts(ctx, r, p)
		}
	}
}

// note tells of what was made or cannot be. What is there is neither.
func (r Reinstatement) note(what string, err error) bool {
	if errs.Is(err, errs.Conflict) {
		return false
	}
	r.Note(what, err)
	return err == nil
}

// reinstateACLs makes ACLs. They can be about instances, networks and each
// other before those are there.
func (s *Service) reinstateACLs(ctx context.Context, r Reinstatement) {
	for _, a := range r.Document.ACLs {
		r.note("network ACL "+a.Name, s.ACLs.Adopt(ctx, api.NetworkACLsPost{Name: a.Name, NetworkACLPut: a.NetworkACLPut}))
	}
}

// reinstateZones makes zones. One that is there keeps the records that it has.
func (s *Service) reinstateZones(ctx context.Context, r Reinstatement) {
	for _, z := range r.Document.Zones {
		if !r.note("network zone "+z.Name, s.Zones.Create(ctx, api.NetworkZonesPost{Name: z.Name, NetworkZonePut: z.NetworkZonePut})) && !r.Complete {
			continue
		}
		for _, e := range z.Records {
			err := s.Zones.CreateRecord(ctx, z.Name, api.NetworkZoneRecordsPost(e))
			r.note("record "+e.Name+" of network zone "+z.Name, err)
		}
	}
}

// reinstateNetworks makes networks, and returns those that are to get what
// belongs to them.
func (s *Service) reinstateNetworks(ctx context.Context, r Reinstatement) (fill []string) {
	for _, n := range r.Document.Networks {
		err := s.Nets.Exists(ctx, n.Name)
		if err == nil {
			if r.Complete {
				fill = append(fill, n.Name)
			}
			continue
		}
		if errs.Is(err, errs.NotFound) {
			err = s.Nets.Create(ctx, api.NetworksPost{Name: n.Name, Type: n.Type, NetworkPut: n.NetworkPut})
		}
		r.Note("network "+n.Name, err) // A conflict is one with something else.
		if err == nil {
			fill = append(fill, n.Name)
		}
	}
	return fill
}

// reinstateParts makes what belongs to a network.
func (s *Service) reinstateParts(ctx context.Context, r Reinstatement, p api.NetworkParts) {
	have, err := s.parts(ctx, p.Network)
	if err != nil {
		r.Note("what belongs to network "+p.Network, err)
		return
	}
	for _, f := range p.Forwards {
		if !slices.ContainsFunc(have.Forwards, func(h api.NetworkForward) bool { return h.ListenAddress == f.ListenAddress }) {
			r.Note("forward "+f.ListenAddress+" of network "+p.Network, s.Publish.CreateForward(ctx, p.Network, api.NetworkForwardsPost{
				ListenAddress: f.ListenAddress, NetworkForwardPut: f.NetworkForwardPut,
			}))
		}
	}
	for _, b := range p.LoadBalancers {
		if !slices.ContainsFunc(have.LoadBalancers, func(h api.NetworkLoadBalancer) bool { return h.ListenAddress == b.ListenAddress }) {
			r.Note("load balancer "+b.ListenAddress+" of network "+p.Network, s.Publish.CreateLoadBalancer(ctx, p.Network, api.NetworkLoadBalancersPost{
				ListenAddress: b.ListenAddress, NetworkLoadBalancerPut: b.NetworkLoadBalancerPut,
			}))
		}
	}
	for _, e := range p.Peers {
		if !slices.ContainsFunc(have.Peers, func(h api.NetworkPeer) bool { return h.Name == e.Name }) {
			r.Note("peer "+e.Name+" of network "+p.Network, s.Peering.Create(ctx, p.Network, api.NetworkPeersPost{
				Name: e.Name, Type: e.Type, TargetNetwork: e.TargetNetwork, NetworkPeerPut: e.NetworkPeerPut,
			}))
		}
	}
}
