package client

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// StoragePools returns all storage pools.
func (c *Client) StoragePools(ctx context.Context) ([]api.StoragePool, error) {
	return list[[]api.StoragePool](ctx, c, path("storage-pools")+"?recursion=1")
}

// StoragePoolNames returns the names of all storage pools.
func (c *Client) StoragePoolNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path("storage-pools"))
}

// StoragePool returns a storage pool and its ETag.
func (c *Client) StoragePool(ctx context.Context, name string) (api.StoragePool, string, error) {
	return get[api.StoragePool](ctx, c, path("storage-pools", name))
}

// StoragePoolResources returns how much room a pool has.
func (c *Client) StoragePoolResources(ctx context.Context, name string) (api.ResourcesStoragePool, error) {
	return list[api.ResourcesStoragePool](ctx, c, path("storage-pools", name, "resources"))
}

// CreateStoragePool creates a storage pool.
func (c *Client) CreateStoragePool(ctx context.Context, req api.StoragePoolsPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("storage-pools"), body: req})
}

// UpdateStoragePool replaces the writable part of a storage pool.
func (c *Client) UpdateStoragePool(ctx context.Context, name string, put api.StoragePoolPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("storage-pools", name), body: put, etag: etag})
}

// DeleteStoragePool deletes an unused storage pool.
func (c *Client) DeleteStoragePool(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("storage-pools", name)})
}
