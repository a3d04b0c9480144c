package client

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

const peers = "peers"

// A Peer names a peer of a network.
type Peer struct{ Network, Name string }

func (p Peer) path() string { return path("networks", p.Network, peers, p.Name) }

// NetworkPeers returns the peers of a network.
func (c *Client) NetworkPeers(ctx context.Context, network string) ([]api.NetworkPeer, error) {
	return list[[]api.NetworkPeer](ctx, c, path("networks", network, peers)+"?recursion=1")
}

// NetworkPeer returns a peer of a network and its ETag.
func (c *Client) NetworkPeer(ctx context.Context, of Peer) (api.NetworkPeer, string, error) {
	return get[api.NetworkPeer](ctx, c, of.path())
}

// CreateNetworkPeer makes another network a peer of a network.
func (c *Client) CreateNetworkPeer(ctx context.Context, network string, req api.NetworkPeersPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("networks", network, peers), body: req})
}

// UpdateNetworkPeer replaces the writable part of a peer.
func (c *Client) UpdateNetworkPeer(ctx context.Context, of Peer, put api.NetworkPeerPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: of.path(), body: put, etag: etag})
}

// DeleteNetworkPeer has a network be no peer of another any more.
func (c *Client) DeleteNetworkPeer(ctx context.Context, of Peer) error {
	return c.send(ctx, call{method: http.MethodDelete, path: of.path()})
}
