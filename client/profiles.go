package client

import (
	"context"
	"encoding/json"
	"fmt"
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

// PreviewProfile returns what UpdateProfile would change, by instance.
func (c *Client) PreviewProfile(ctx context.Context, name string, put api.ProfilePut, etag string) ([]api.InstanceChange, error) {
	return c.preview(ctx, call{method: http.MethodPut, path: path("profiles", name) + "?dry-run=true", body: put, etag: etag})
}

// PreviewInstance returns what UpdateInstance would change.
func (c *Client) PreviewInstance(ctx context.Context, name string, put api.InstancePut, etag string) ([]api.InstanceChange, error) {
	return c.preview(ctx, call{method: http.MethodPut, path: path("instances", name) + "?dry-run=true", body: put, etag: etag})
}

func (c *Client) preview(ctx context.Context, q call) ([]api.InstanceChange, error) {
	env, err := c.call(ctx, q)
	if err != nil {
		return nil, err
	}
	var all []api.InstanceChange
	if err := json.Unmarshal(env.Metadata, &all); err != nil {
		return nil, fmt.Errorf("decode the answer to %s %s: %w", q.method, q.path, err)
	}
	return all, nil
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
