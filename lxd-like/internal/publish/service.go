// Package publish keeps what leads from addresses and ports of the host into
// networks: forwards and load balancers.
//
// A record is all that there is of one. The rules of the kernel follow the
// records whenever the network is applied, so that a crash leaves nothing half
// done.
package publish

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/undo"
)

// A Service keeps forwards and load balancers. Its methods are safe for
// concurrent use.
type Service struct {
	DB     *db.DB
	Nets   networkKeeper
	Events *events.Hub
	Log    *slog.Logger

	// Taken returns who else has ports of the host that e would have; an empty
	// string for nobody. Nil if nobody can.
	Taken func(e networks.Published) string

	// Listener returns which process of the host waits for clients at ports
	// that e would take from it; an empty string for none. Nil if none does.
	Listener func(e networks.Published) (string, error)

	// Admit puts what is published behind gates that let in what the host's
	// firewall lets in. Nil if all is let in.
	Admit func(ctx context.Context, list []networks.Published) []networks.Published

	change sync.Mutex // Held from the first look at the records to the end of a change.

	mu     sync.Mutex             // Guards what follows.
	health map[endpoint]condition // Of what is checked.
	dirty  chan struct{}          // Has one element when there may be others to check.
}

// A networkKeeper is what forwards and load balancers need of networks.
type networkKeeper interface {
	Exists(ctx context.Context, name string) error
	Reapply(ctx context.Context, network string) error
}

// location is where all is, as there is no cluster.
const location = "none"

// Forwards returns the forwards of a network.
func (s *Service) Forwards(ctx context.Context, network string) ([]api.NetworkForward, error) {
	all, err := list(ctx, s, forwards, network)
	out := make([]api.NetworkForward, len(all))
	for i, p := range all {
		out[i] = api.NetworkForward{NetworkForwardPut: p.Document, ListenAddress: p.Name, Location: location}
	}
	return out, err
}

// Forward returns a forward of a network.
func (s *Service) Forward(ctx context.Context, network, address string) (api.NetworkForward, error) {
	p, err := get(ctx, s, forwards, network, address)
	return api.NetworkForward{NetworkForwardPut: p.Document, ListenAddress: p.Name, Location: location}, err
}

// CreateForward creates a forward.
func (s *Service) CreateForward(ctx context.Context, network string, req api.NetworkForwardsPost) error {
	return create(ctx, s, forwards, db.NetworkPart[api.NetworkForwardPut]{Network: network, Name: req.ListenAddress, Document: req.NetworkForwardPut})
}

// UpdateForward replaces the writable part of a forward.
func (s *Service) UpdateForward(ctx context.Context, network, address string, put api.NetworkForwardPut) error {
	return update(ctx, s, forwards, db.NetworkPart[api.NetworkForwardPut]{Network: network, Name: address, Document: put})
}

// DeleteForward deletes a forward. Connections that are open go on,
// flows of UDP end.
func (s *Service) DeleteForward(ctx context.Context, network, address string) error {
	return remove(ctx, s, forwards, network, address)
}

// LoadBalancers returns the load balancers of a network.
func (s *Service) LoadBalancers(ctx context.Context, network string) ([]api.NetworkLoadBalancer, error) {
	all, err := list(ctx, s, balancers, network)
	out := make([]api.NetworkLoadBalancer, len(all))
	for i, p := range all {
		out[i] = api.NetworkLoadBalancer{NetworkLoadBalancerPut: p.Document, ListenAddress: p.Name, Location: location}
	}
	return out, err
}

// LoadBalancer returns a load balancer of a network.
func (s *Service) LoadBalancer(ctx context.Context, network, address string) (api.NetworkLoadBalancer, error) {
	p, err := get(ctx, s, balancers, network, address)
	return api.NetworkLoadBalancer{NetworkLoadBalancerPut: p.Document, ListenAddress: p.Name, Location: location}, err
}

// CreateLoadBalancer creates a load balancer.
func (s *Service) CreateLoadBalancer(ctx context.Context, network string, req api.NetworkLoadBalancersPost) error {
	return create(ctx, s, balancers, db.NetworkPart[api.NetworkLoadBalancerPut]{Network: network, Name: req.ListenAddress, Document: req.NetworkLoadBalancerPut})
}

// UpdateLoadBalancer replaces the writable part of a load balancer.
func (s *Service) UpdateLoadBalancer(ctx context.Context, network, address string, put api.NetworkLoadBalancerPut) error {
	return update(ctx, s, balancers, db.NetworkPart[api.NetworkLoadBalancerPut]{Network: network, Name: address, Document: put})
}

// DeleteLoadBalancer deletes a load balancer. Connections that are open go on,
// flows of UDP end.
func (s *Service) DeleteLoadBalancer(ctx context.Context, network, address string) error {
	return remove(ctx, s, balancers, network, address)
}

func list[T any](ctx context.Context, s *Service, k kind[T], network string) (all []db.NetworkPart[T], err error) {
	if err := s.Nets.Exists(ctx, network); err != nil {
		return nil, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.NetworkParts(ctx, tx, k.name, network)
		return err
	})
	return all, err
}

func get[T any](ctx context.Context, s *Service, k kind[T], network, address string) (p db.NetworkPart[T], err error) {
	if err := s.Nets.Exists(ctx, network); err != nil {
		return p, err
	}
	if a, err := netip.ParseAddr(address); err == nil {
		address = a.String()
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = db.GetNetworkPart(ctx, tx, k.name, network, address)
		return err
	})
	return p, err
}

func create[T any](ctx context.Context, s *Service, k kind[T], p db.NetworkPart[T]) error {
	s.change.Lock()
	defer s.change.Unlock()

	listen, err := parseListen(p.Name)
	if err != nil {
		return err
	}
	p.Name, p.Document = listen.String(), k.tidy(p.Document)
	if err := check(ctx, s, k, p); err != nil {
		return err
	}
	return s.put(ctx, partChange{
		network: p.Network, event: k.event + "-created", url: k.url(p.Network, p.Name),
		write: func(ctx context.Context, tx *db.Tx) error { return db.AddNetworkPart(ctx, tx, k.name, p) },
		unwrite: func(ctx context.Context, tx *db.Tx) error {
			return db.DeleteNetworkPart(ctx, tx, k.name, p.Network, p.Name)
		},
	})
}

func update[T any](ctx context.Context, s *Service, k kind[T], p db.NetworkPart[T]) error {
	s.change.Lock()
	defer s.change.Unlock()

	old, err := get(ctx, s, k, p.Network, p.Name)
	if err != nil {
		return err
	}
	p.Name, p.Document = old.Name, k.tidy(p.Document)
	if err := check(ctx, s, k, p); err != nil {
		return err
	}
	return s.put(ctx, partChange{
		network: p.Network, event: k.event + "-updated", url: k.url(p.Network, p.Name),
		write:   func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkPart(ctx, tx, k.name, p) },
		unwrite: func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkPart(ctx, tx, k.name, old) },
	})
}

func remove[T any](ctx context.Context, s *Service, k kind[T], network, address string) error {
	s.change.Lock()
	defer s.change.Unlock()

	old, err := get(ctx, s, k, network, address)
	if err != nil {
		return err
	}
	return s.put(ctx, partChange{
		network: network, event: k.event + "-deleted", url: k.url(network, old.Name),
		write: func(ctx context.Context, tx *db.Tx) error {
			return db.DeleteNetworkPart(ctx, tx, k.name, network, old.Name)
		},
		unwrite: func(ctx context.Context, tx *db.Tx) error { return db.AddNetworkPart(ctx, tx, k.name, old) },
	})
}

// A partChange is a change of a record, what takes it back, and how it is
// told.
type partChange struct {
	network        string
	write, unwrite func(ctx context.Context, tx *db.Tx) error
	event, url     string
}

// put changes a record and has the network follow.
func (s *Service) put(ctx context.Context, c partChange) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.DB.Do(ctx, c.write); err != nil {
		return err
	}
	u.Push("have the old record again", func(ctx context.Context) error {
		if err := s.DB.Do(ctx, c.unwrite); err != nil {
			return err
		}
		return s.Nets.Reapply(ctx, c.network)
	})
	if err := s.Nets.Reapply(ctx, c.network); err != nil {
		return err
	}
	s.Events.Lifecycle(c.event, c.url, nil)
	s.touch()
	return nil
}
