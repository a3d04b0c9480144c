package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

// Profiles returns all profiles.
func (c *Client) Profiles(ctx context.Context) ([]api.Profile, error) {
	return list[[]api.Profile](ctx, c, path("profiles")+"?recursion=1")
}

// ProfileNames returns the names of all profiles.
func (c *Client) ProfileNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path("profiles"))
}

// Profile returns a profile and its ETag.
func (c *Client) Profile(ctx context.Context, name string) (api.Profile, string, error) {
	return get[api.Profile](ctx, c, path("profiles", name))
}

// CreateProfile creates a profile.
func (c *Client) CreateProfile(ctx context.Context, req api.ProfilesPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("profiles"), body: req})
}

// UpdateProfile replaces the writable part of a profile.
func (c *Client) UpdateProfile(ctx context.Context, name string, put api.ProfilePut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("profiles", name), body: put, etag: etag})
}

// RenameProfile renames a profile.
func (c *Client) RenameProfile(ctx context.Context, name, to string) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("profiles", name), body: api.RenamePost{Name: to}})
}

// DeleteProfile deletes a profile.
func (c *Client) DeleteProfile(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("profiles", name)})
}

// lastElement returns the name in an object's URL, which is below the path
// of its list. A name can hold slashes.
func lastElement(listPath, objectURL string) string {
	name := strings.TrimPrefix(objectURL, listPath+"/")
	name, _, _ = strings.Cut(name, "?")
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}
