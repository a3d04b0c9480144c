package rest

import (
	"context"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
)

// peeringService keeps which networks are peers.
type peeringService interface {
	Peers(ctx context.Context, network string) ([]api.NetworkPeer, error)
	Peer(ctx context.Context, network, name string) (api.NetworkPeer, error)
	Create(ctx context.Context, network string, req api.NetworkPeersPost) error
	Update(ctx context.Context, network, name string, put api.NetworkPeerPut) error
	Delete(ctx context.Context, network, name string) error
}

func (s *Server) peeringRoutes() []route {
	const (
		peers = "/1.0/networks/{network}/peers"
		peer  = peers + "/{name}"
	)
	return []route{
		{get, peers, s.listPeers},
		{post, peers, s.createPeer},
		{get, peer, s.getPeer},
		{put, peer, s.putPeer},
		{patch, peer, s.patchPeer},
		{remove, peer, s.deletePeer},
	}
}

func peerURL(r *http.Request, name string) string {
	return networkURL(parentNetwork(r)) + "/peers/" + url.PathEscape(name)
}

func (s *Server) listPeers(r *http.Request) (response, error) {
	all, err := s.Peering.Peers(r.Context(), parentNetwork(r))
	return list(r, all, err, func(p api.NetworkPeer) string { return peerURL(r, p.Name) })
}

func (s *Server) createPeer(r *http.Request) (response, error) {
	body, err := decode[api.NetworkPeersPost](r)
	if err != nil {
		return nil, err
	}
	return created(peerURL(r, body.Name), s.Peering.Create(r.Context(), parentNetwork(r), body))
}

func (s *Server) peer(r *http.Request) (whole, writable any, err error) {
	p, err := s.Peering.Peer(r.Context(), parentNetwork(r), objectName(r))
	return p, p.NetworkPeerPut, err
}

func (s *Server) getPeer(r *http.Request) (response, error) { return read(r, s.peer) }

// updatePeer changes a peer of the network that a request names.
func (s *Server) updatePeer(r *http.Request) updater[api.NetworkPeerPut] {
	return func(ctx context.Context, name string, put api.NetworkPeerPut) error {
		return s.Peering.Update(ctx, parentNetwork(r), name, put)
	}
}

func (s *Server) putPeer(r *http.Request) (response, error) {
	return replace(r, s.peer, s.updatePeer(r))
}

func (s *Server) patchPeer(r *http.Request) (response, error) {
	return change(r, s.peer, s.updatePeer(r))
}

func (s *Server) deletePeer(r *http.Request) (response, error) {
	return done(s.Peering.Delete(r.Context(), parentNetwork(r), objectName(r)))
}
