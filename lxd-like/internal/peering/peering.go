// Package peering keeps which networks of this host are peers: packets between
// two of them keep their addresses, and the names of each are known in the
// other.
//
// Each of the two says so by a record of its own. Only both together have an
// effect, which the networks get whenever they are applied.
package peering

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// A Service keeps peers. Its methods are safe for concurrent use.
type Service struct {
	DB     *db.DB
	Nets   networkKeeper
	Events *events.Hub

	change sync.Mutex // Held from the first look at the records to the end of a change.
}

// A networkKeeper is what peers need of networks.
type networkKeeper interface {
	Exists(ctx context.Context, name string) error
	Remake(ctx context.Context, network string) error
}

const kind db.PartKind[api.NetworkPeersPost] = "network peer"

type part = db.NetworkPart[api.NetworkPeersPost]

var nameOK = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// Peers returns the peers of a network.
func (s *Service) Peers(ctx context.Context, network string) (all []api.NetworkPeer, err error) {
	if err := s.Nets.Exists(ctx, network); err != nil {
		return nil, err
	}
	all = []api.NetworkPeer{}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		parts, err := db.NetworkParts(ctx, tx, kind, network)
		if err != nil {
			return err
		}
		for _, p := range parts {
			peer, err := describe(ctx, tx, p)
			if err != nil {
				return err
			}
			all = append(all, peer)
		}
		return nil
	})
	return all, err
}

// Peer returns a peer of a network.
func (s *Service) Peer(ctx context.Context, network, name string) (peer api.NetworkPeer, err error) {
	if err := s.Nets.Exists(ctx, network); err != nil {
		return peer, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetNetworkPart(ctx, tx, kind, network, name)
		if err != nil {
			return err
		}
		peer, err = describe(ctx, tx, p)
		return err
	})
	return peer, err
}

func describe(ctx context.Context, tx *db.Tx, p part) (api.NetworkPeer, error) {
	d := p.Document
	peer := api.NetworkPeer{
		NetworkPeerPut: d.NetworkPeerPut, Name: p.Name, TargetProject: project.Of(d.TargetNetwork), TargetNetwork: d.TargetNetwork,
		Status: api.PeerPending, Type: "local", UsedBy: []string{},
	}
	mutual, err := isMutual(ctx, tx, p)
	if mutual {
		peer.Status = api.PeerCreated
	}
	return peer, err
}

// isMutual reports whether the other network says the same.
func isMutual(ctx context.Context, tx *db.Tx, p part) (bool, error) {
	others, err := db.NetworkParts(ctx, tx, kind, p.Document.TargetNetwork)
	return slices.ContainsFunc(others, func(o part) bool {
		return o.Network == p.Document.TargetNetwork && o.Document.TargetNetwork == p.Network
	}), err
}

// Create makes another network a peer of a network: that which has the key
// TargetNetwork, of whichever project.
func (s *Service) Create(ctx context.Context, network string, req api.NetworkPeersPost) error {
	s.change.Lock()
	defer s.change.Unlock()

	if err := s.check(ctx, network, req); err != nil {
		return err
	}
	req.TargetProject, req.Type, req.Config = project.Of(req.TargetNetwork), "local", known(req.Config)
	p := part{Network: network, Name: req.Name, Document: req}
	return s.put(ctx, p, peerChange{
		event: "network-peer-created",
		write: func(ctx context.Context, tx *db.Tx) error { return db.AddNetworkPart(ctx, tx, kind, p) },
		unwrite: func(ctx context.Context, tx *db.Tx) error {
			return db.DeleteNetworkPart(ctx, tx, kind, network, p.Name)
		},
	})
}

// check reports what is wrong with a new peer.
func (s *Service) check(ctx context.Context, network string, req api.NetworkPeersPost) error {
	switch {
	case !nameOK.MatchString(req.Name):
		return errs.Invalidf("name of the peer: got %q, want 1 to 63 letters, digits, '-', '_' and '.', the first a letter or digit", req.Name)
	case req.Type != "" && req.Type != "local":
		return errs.Invalidf("type: got %q, want local: there are no network integrations, which other types need", req.Type)
	case req.TargetIntegration != "":
		return errs.Invalidf("target_integration: got %q, but there are no network integrations", req.TargetIntegration)
	case req.TargetNetwork == network:
		return errs.Invalidf("target_network: network %q cannot be a peer of itself", network)
	}
	if err := checkConfig(req.Config); err != nil {
		return err
	}
	return s.checkNetworks(ctx, network, req)
}

// checkNetworks reports what is wrong with two networks as peers.
func (s *Service) checkNetworks(ctx context.Context, network string, req api.NetworkPeersPost) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, name := range []string{network, req.TargetNetwork} {
			n, err := db.GetNetwork(ctx, tx, name)
			if err != nil {
				return err
			}
			if !netkeys.HasBridge(n.Type) {
				return errs.Invalidf("network %s is of type %s: only networks with a bridge have peers", project.Quote(name), n.Type)
			}
		}
		all, err := db.NetworkParts(ctx, tx, kind, network)
		if err != nil {
			return err
		}
		for _, p := range all {
			if p.Name != req.Name && p.Document.TargetNetwork == req.TargetNetwork {
				return errs.Conflictf("network %s is a peer of network %s already: %s", project.Quote(req.TargetNetwork), project.Quote(network), p.Name)
			}
		}
		return nil
	})
}

// checkConfig reports what is wrong with the configuration of a peer.
func checkConfig(config api.ConfigMap) error {
	for name, value := range config {
		if !strings.HasPrefix(name, "user.") || name == "user." {
			return errs.Invalidf("configuration key %q: a peer of a network has only user.*", name)
		}
		if err := profiles.CheckText(name, value); err != nil {
			return err
		}
	}
	return nil
}

// known is a configuration without keys that have no value.
func known(config api.ConfigMap) api.ConfigMap {
	out := api.ConfigMap{}
	for k, v := range config {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

// Update replaces the writable part of a peer.
func (s *Service) Update(ctx context.Context, network, name string, put api.NetworkPeerPut) error {
	s.change.Lock()
	defer s.change.Unlock()

	if err := checkConfig(put.Config); err != nil {
		return err
	}
	old, err := s.get(ctx, network, name)
	if err != nil {
		return err
	}
	p := old
	p.Document.NetworkPeerPut = api.NetworkPeerPut{Description: put.Description, Config: known(put.Config)}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.SetNetworkPart(ctx, tx, kind, p) })
	if err == nil {
		s.Events.Lifecycle("network-peer-updated", peerURL(network, name), nil)
	}
	return err
}

// Delete has a network be no peer of another any more.
func (s *Service) Delete(ctx context.Context, network, name string) error {
	s.change.Lock()
	defer s.change.Unlock()

	p, err := s.get(ctx, network, name)
	if err != nil {
		return err
	}
	return s.put(ctx, p, peerChange{
		event:   "network-peer-deleted",
		write:   func(ctx context.Context, tx *db.Tx) error { return db.DeleteNetworkPart(ctx, tx, kind, network, name) },
		unwrite: func(ctx context.Context, tx *db.Tx) error { return db.AddNetworkPart(ctx, tx, kind, p) },
	})
}

func (s *Service) get(ctx context.Context, network, name string) (p part, err error) {
	if err := s.Nets.Exists(ctx, network); err != nil {
		return p, err
	}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = db.GetNetworkPart(ctx, tx, kind, network, name)
		return err
	})
	return p, err
}

// A peerChange is a change of a record, what takes it back, and how it is told.
type peerChange struct {
	event          string
	write, unwrite func(ctx context.Context, tx *db.Tx) error
}

// put changes a record and has both networks follow.
func (s *Service) put(ctx context.Context, p part, c peerChange) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.DB.Do(ctx, c.write); err != nil {
		return err
	}
	u.Push("have the old record again", func(ctx context.Context) error {
		if err := s.DB.Do(ctx, c.unwrite); err != nil {
			return err
		}
		return s.follow(ctx, p)
	})
	if err := s.follow(ctx, p); err != nil {
		return err
	}
	s.Events.Lifecycle(c.event, peerURL(p.Network, p.Name), nil)
	return nil
}

func (s *Service) follow(ctx context.Context, p part) error {
	err := s.Nets.Remake(ctx, p.Network)
	other := s.Nets.Remake(ctx, p.Document.TargetNetwork)
	if errs.Is(other, errs.NotFound) {
		other = nil // It is gone.
	}
	return errors.Join(err, other)
}

// Part adds the peers of a network to its configuration: those networks that
// say the same.
func (*Service) Part(ctx context.Context, tx *db.Tx, n db.Network, cfg *networks.Config) error {
	all, err := db.NetworkParts(ctx, tx, kind, n.Name)
	if err != nil {
		return err
	}
	cfg.Peers, err = peersOf(ctx, tx, *cfg, all)
	return err
}

// peersOf are the networks that parts of a network name, and that say the same.
func peersOf(ctx context.Context, tx *db.Tx, cfg networks.Config, parts []part) (peers []networks.Peer, err error) {
	for _, p := range parts {
		mutual, err := isMutual(ctx, tx, p)
		if err != nil {
			return nil, err
		}
		if !mutual {
			continue
		}
		target, err := db.GetNetwork(ctx, tx, p.Document.TargetNetwork)
		if err != nil {
			return nil, err
		}
		other, err := netkeys.Parse(target.Type, target.Config)
		if err != nil {
			continue // It is not there, which it says itself.
		}
		peers = append(peers, peerOf(cfg, target.Name, other))
	}
	return peers, nil
}

// All returns the peers of all networks that have some, for the service of
// networks.
func (*Service) All(ctx context.Context, tx *db.Tx) (map[string][]networks.Peer, error) {
	all, err := db.NetworkParts(ctx, tx, kind, "")
	if err != nil {
		return nil, err
	}
	parts := map[string][]part{}
	for _, p := range all {
		parts[p.Network] = append(parts[p.Network], p)
	}
	out := map[string][]networks.Peer{}
	for name, some := range parts {
		n, err := db.GetNetwork(ctx, tx, name)
		if err != nil {
			return nil, err
		}
		cfg, err := netkeys.Parse(n.Type, n.Config)
		if err != nil {
			continue // It is not there, which it says itself.
		}
		if out[name], err = peersOf(ctx, tx, cfg, some); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Renamed has the peers of a network know its new name, for the service of networks.
func (*Service) Renamed(ctx context.Context, tx *db.Tx, from, to string) error {
	all, err := db.NetworkParts(ctx, tx, kind, "")
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Document.TargetNetwork != from {
			continue
		}
		p.Document.TargetNetwork = to
		if err := db.SetNetworkPart(ctx, tx, kind, p); err != nil {
			return err
		}
	}
	return nil
}

// peerOf is what a network is to know of another one.
func peerOf(cfg networks.Config, name string, other networks.Config) networks.Peer {
	p := networks.Peer{Network: name, IPv4: other.IPv4.Address, IPv6: other.IPv6.Address}
	for _, a := range []netip.Prefix{p.IPv4, p.IPv6} {
		if a.IsValid() && !p.Server.IsValid() {
			p.Server = a.Addr()
		}
	}
	switch {
	case other.DNS.Mode == networks.DNSNone:
	case other.DNS.Domain != cfg.DNS.Domain:
		p.Domain = other.DNS.Domain
	default:
		p.Shared = other.DNS.Domain != "" // Else names are those of nobody.
	}
	return p
}

func peerURL(network, name string) string {
	return "/1.0/networks/" + url.PathEscape(network) + "/peers/" + url.PathEscape(name)
}
