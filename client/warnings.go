package client

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// Warnings returns all warnings, the first that was seen first.
func (c *Client) Warnings(ctx context.Context) ([]api.Warning, error) {
	return list[[]api.Warning](ctx, c, path("warnings")+"?recursion=1")
}

// Warning returns a warning and its ETag.
func (c *Client) Warning(ctx context.Context, id string) (api.Warning, string, error) {
	return get[api.Warning](ctx, c, path("warnings", id))
}

// UpdateWarning sets the status of a warning: [api.WarningNew] or
// [api.WarningAcknowledged].
func (c *Client) UpdateWarning(ctx context.Context, id string, put api.WarningPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("warnings", id), body: put, etag: etag})
}

// DeleteWarning forgets a warning. What is still wrong comes again.
func (c *Client) DeleteWarning(ctx context.Context, id string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("warnings", id)})
}
