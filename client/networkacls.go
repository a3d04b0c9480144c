package client

import (
	"context"
	"io"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

const (
	acls        = "network-acls"
	addressSets = "network-address-sets"
)

// NetworkACLs returns all network ACLs.
func (c *Client) NetworkACLs(ctx context.Context) ([]api.NetworkACL, error) {
	return list[[]api.NetworkACL](ctx, c, path(acls)+"?recursion=1")
}

// NetworkACLNames returns the names of all network ACLs.
func (c *Client) NetworkACLNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path(acls))
}

// NetworkACL returns a network ACL and its ETag.
func (c *Client) NetworkACL(ctx context.Context, name string) (api.NetworkACL, string, error) {
	return get[api.NetworkACL](ctx, c, path(acls, name))
}

// NetworkACLState returns what was counted of a network ACL.
func (c *Client) NetworkACLState(ctx context.Context, name string) (api.NetworkACLState, error) {
	return list[api.NetworkACLState](ctx, c, path(acls, name, "state"))
}

// NetworkACLLog returns the log of a network ACL.
func (c *Client) NetworkACLLog(ctx context.Context, name string) (io.ReadCloser, error) {
	return c.download(ctx, path(acls, name, "log"))
}

// CreateNetworkACL creates a network ACL.
func (c *Client) CreateNetworkACL(ctx context.Context, req api.NetworkACLsPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path(acls), body: req})
}

// UpdateNetworkACL replaces the writable part of a network ACL.
func (c *Client) UpdateNetworkACL(ctx context.Context, name string, put api.NetworkACLPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path(acls, name), body: put, etag: etag})
}

// RenameNetworkACL renames a network ACL.
func (c *Client) RenameNetworkACL(ctx context.Context, name, to string) error {
	return c.send(ctx, call{method: http.MethodPost, path: path(acls, name), body: api.RenamePost{Name: to}})
}

// DeleteNetworkACL deletes a network ACL.
func (c *Client) DeleteNetworkACL(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path(acls, name)})
}

// NetworkAddressSets returns all address sets.
func (c *Client) NetworkAddressSets(ctx context.Context) ([]api.NetworkAddressSet, error) {
	return list[[]api.NetworkAddressSet](ctx, c, path(addressSets)+"?recursion=1")
}

// NetworkAddressSetNames returns the names of all address sets.
func (c *Client) NetworkAddressSetNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path(addressSets))
}

// NetworkAddressSet returns an address set and its ETag.
func (c *Client) NetworkAddressSet(ctx context.Context, name string) (api.NetworkAddressSet, string, error) {
	return get[api.NetworkAddressSet](ctx, c, path(addressSets, name))
}

// CreateNetworkAddressSet creates an address set.
func (c *Client) CreateNetworkAddressSet(ctx context.Context, req api.NetworkAddressSetsPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path(addressSets), body: req})
}

// UpdateNetworkAddressSet replaces the writable part of an address set.
func (c *Client) UpdateNetworkAddressSet(ctx context.Context, name string, put api.NetworkAddressSetPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path(addressSets, name), body: put, etag: etag})
}

// RenameNetworkAddressSet renames an address set.
func (c *Client) RenameNetworkAddressSet(ctx context.Context, name, to string) error {
	return c.send(ctx, call{method: http.MethodPost, path: path(addressSets, name), body: api.RenamePost{Name: to}})
}

// DeleteNetworkAddressSet deletes an address set.
func (c *Client) DeleteNetworkAddressSet(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path(addressSets, name)})
}
