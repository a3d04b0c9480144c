package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// Networks returns the managed networks and the interfaces of the host.
func (c *Client) Networks(ctx context.Context) ([]api.Network, error) {
	return list[[]api.Network](ctx, c, path("networks")+"?recursion=1")
}

// NetworkNames returns the names of all networks.
func (c *Client) NetworkNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path("networks"))
}

// Network returns a network and its ETag.
func (c *Client) Network(ctx context.Context, name string) (api.Network, string, error) {
	return get[api.Network](ctx, c, path("networks", name))
}

// NetworkState returns the state of a network's interface on the host.
func (c *Client) NetworkState(ctx context.Context, name string) (api.NetworkState, error) {
	return list[api.NetworkState](ctx, c, path("networks", name, "state"))
}

// ExamineNetwork tries a network out, as an instance would, and returns what
// was tried.
func (c *Client) ExamineNetwork(ctx context.Context, name string) ([]api.NetworkCheck, error) {
	env, err := c.call(ctx, call{method: http.MethodPost, path: path("networks", name, "doctor")})
	if err != nil {
		return nil, err
	}
	var checks []api.NetworkCheck
	if err := json.Unmarshal(env.Metadata, &checks); err != nil {
		return nil, fmt.Errorf("decode the answer: %w", err)
	}
	return checks, nil
}

// NetworkLeases returns the addresses that a network has given out.
func (c *Client) NetworkLeases(ctx context.Context, name string) ([]api.NetworkLease, error) {
	return list[[]api.NetworkLease](ctx, c, path("networks", name, "leases"))
}

// NetworkAllocations returns the addresses that managed networks and those on
// them have.
func (c *Client) NetworkAllocations(ctx context.Context) ([]api.NetworkAllocation, error) {
	return list[[]api.NetworkAllocation](ctx, c, path("network-allocations"))
}

// CreateNetwork creates a network.
func (c *Client) CreateNetwork(ctx context.Context, req api.NetworksPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("networks"), body: req})
}

// UpdateNetwork replaces the writable part of a network.
func (c *Client) UpdateNetwork(ctx context.Context, name string, put api.NetworkPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("networks", name), body: put, etag: etag})
}

// RenameNetwork renames a network.
func (c *Client) RenameNetwork(ctx context.Context, name, to string) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("networks", name), body: api.RenamePost{Name: to}})
}

// DeleteNetwork deletes a network.
func (c *Client) DeleteNetwork(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("networks", name)})
}
