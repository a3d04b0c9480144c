// Package netdocs describes all networks of the host with what belongs to them,
// and makes them again of such a description: forwards, load balancers, peers,
// ACLs, address sets, and zones with their records.
package netdocs

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/acls"
	"github.com/cuib/cuib/lxd-like/internal/nets"
	"github.com/cuib/cuib/lxd-like/internal/peering"
	"github.com/cuib/cuib/lxd-like/internal/publish"
	"github.com/cuib/cuib/lxd-like/internal/zones"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A Service reads and writes descriptions. Its methods are safe for concurrent
// use.
type Service struct {
	Nets    *nets.Service
	ACLs    *acls.Service
	Zones   *zones.Service
	Publish *publish.Service
	Peering *peering.Service
}

// Document describes the networks. Who uses what is not in it: those know it
// themselves.
func (s *Service) Document(ctx context.Context) (api.NetworksDocument, error) {
	d := api.NetworksDocument{NetworksVersion: api.NetworksVersion}
	all, err := s.Nets.List(ctx)
	if err != nil {
		return d, err
	}
	for _, n := range all {
		if !n.Managed {
			continue
		}
		n.UsedBy, n.Status, n.Obstacles = []string{}, "Created", nil
		d.Networks = append(d.Networks, n)
		p, err := s.parts(ctx, n.Name)
		if errs.Is(err, errs.NotFound) {
			continue // It has just gone.
		}
		if err != nil {
			return d, err
		}
		if len(p.Forwards)+len(p.LoadBalancers)+len(p.Peers) > 0 {
			d.NetworkParts = append(d.NetworkParts, p)
		}
	}
	if err := s.addACLs(ctx, &d); err != nil {
		return d, err
	}
	return d, s.addZones(ctx, &d)
}

// parts describes what belongs to a network.
func (s *Service) parts(ctx context.Context, network string) (p api.NetworkParts, err error) {
	p.Network = network
	if p.Forwards, err = s.Publish.Forwards(ctx, network); err != nil {
		return p, err
	}
	if p.LoadBalancers, err = s.Publish.LoadBalancers(ctx, network); err != nil {
		return p, err
	}
	p.Peers, err = s.Peering.Peers(ctx, network)
	for i := range p.Peers {
		p.Peers[i].UsedBy, p.Peers[i].Status = []string{}, "" // That is what the other one makes it.
	}
	return p, err
}

func (s *Service) addACLs(ctx context.Context, d *api.NetworksDocument) (err error) {
	if d.AddressSets, err = s.ACLs.Sets().List(ctx); err != nil {
		return err
	}
	for i := range d.AddressSets {
		d.AddressSets[i].UsedBy = []string{}
	}
	d.ACLs, err = s.ACLs.List(ctx)
	for i := range d.ACLs {
		d.ACLs[i].UsedBy = []string{}
	}
	return err
}

func (s *Service) addZones(ctx context.Context, d *api.NetworksDocument) error {
	all, err := s.Zones.List(ctx)
	if err != nil {
		return err
	}
	for _, z := range all {
		z.UsedBy = []string{}
		records, err := s.Zones.Records(ctx, z.Name)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		d.Zones = append(d.Zones, api.NetworkZoneDocument{NetworkZone: z, Records: records})
	}
	return nil
}
