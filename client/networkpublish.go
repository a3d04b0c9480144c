package client

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

const (
	forwards  = "forwards"
	balancers = "load-balancers"
)

// A Published names a forward or a load balancer: a network's, and the address
// that it listens on.
type Published struct{ Network, Address string }

func (p Published) path(kind string) string { return path("networks", p.Network, kind, p.Address) }

// NetworkForwards returns the forwards of a network.
func (c *Client) NetworkForwards(ctx context.Context, network string) ([]api.NetworkForward, error) {
	return list[[]api.NetworkForward](ctx, c, path("networks", network, forwards)+"?recursion=1")
}

// NetworkForward returns a forward and its ETag.
func (c *Client) NetworkForward(ctx context.Context, of Published) (api.NetworkForward, string, error) {
	return get[api.NetworkForward](ctx, c, of.path(forwards))
}

// CreateNetworkForward creates a forward of a network.
func (c *Client) CreateNetworkForward(ctx context.Context, network string, req api.NetworkForwardsPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("networks", network, forwards), body: req})
}

// UpdateNetworkForward replaces the writable part of a forward.
func (c *Client) UpdateNetworkForward(ctx context.Context, of Published, put api.NetworkForwardPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: of.path(forwards), body: put, etag: etag})
}

// DeleteNetworkForward deletes a forward.
func (c *Client) DeleteNetworkForward(ctx context.Context, of Published) error {
	return c.send(ctx, call{method: http.MethodDelete, path: of.path(forwards)})
}

// NetworkLoadBalancers returns the load balancers of a network.
func (c *Client) NetworkLoadBalancers(ctx context.Context, network string) ([]api.NetworkLoadBalancer, error) {
	return list[[]api.NetworkLoadBalancer](ctx, c, path("networks", network, balancers)+"?recursion=1")
}

// NetworkLoadBalancer returns a load balancer and its ETag.
func (c *Client) NetworkLoadBalancer(ctx context.Context, of Published) (api.NetworkLoadBalancer, string, error) {
	return get[api.NetworkLoadBalancer](ctx, c, of.path(balancers))
}

// NetworkLoadBalancerState returns how the back ends of a load balancer are.
func (c *Client) NetworkLoadBalancerState(ctx context.Context, of Published) (api.NetworkLoadBalancerState, error) {
	return list[api.NetworkLoadBalancerState](ctx, c, of.path(balancers)+"/state")
}

// CreateNetworkLoadBalancer creates a load balancer of a network.
func (c *Client) CreateNetworkLoadBalancer(ctx context.Context, network string, req api.NetworkLoadBalancersPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("networks", network, balancers), body: req})
}

// UpdateNetworkLoadBalancer replaces the writable part of a load balancer.
func (c *Client) UpdateNetworkLoadBalancer(ctx context.Context, of Published, put api.NetworkLoadBalancerPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: of.path(balancers), body: put, etag: etag})
}

// DeleteNetworkLoadBalancer deletes a load balancer.
func (c *Client) DeleteNetworkLoadBalancer(ctx context.Context, of Published) error {
	return c.send(ctx, call{method: http.MethodDelete, path: of.path(balancers)})
}
