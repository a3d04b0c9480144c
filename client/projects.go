package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// Use sets the project in which names are looked for and things are made, before
// the first request. An empty one is the one called "default".
func (c *Client) Use(project string) { c.project = project }

// In returns a client of the same daemon for another project.
func (c *Client) In(project string) *Client {
	out := *c
	out.project, out.all = project, false
	return &out
}

// Everywhere returns a client of the same daemon whose lists have what there is
// in all projects. It is for lists only.
func (c *Client) Everywhere() *Client {
	out := *c
	out.all = true
	return &out
}

// general are the first elements of the paths of what is in no project.
var general = []string{"certificates", "metadata", "projects", "resources"}

// target returns a path with the project that it is asked for in. One that says
// a project itself is left alone.
func (c *Client) target(p string) string {
	base, query, hasQuery := strings.Cut(p, "?")
	below, ok := strings.CutPrefix(base, "/1.0/")
	first, rest, _ := strings.Cut(below, "/")
	if !ok || slices.Contains(general, first) || first == "operations" && rest != "" {
		return p
	}
	given, err := url.ParseQuery(query)
	if err != nil || given.Has("project") || given.Has("all-projects") {
		return p
	}
	in := "all-projects=true"
	if !c.all {
		if c.project == "" || c.project == project.Default {
			return p
		}
		in = "project=" + url.QueryEscape(c.project)
	}
	if hasQuery {
		return p + "&" + in
	}
	return p + "?" + in
}

// Projects returns all projects.
func (c *Client) Projects(ctx context.Context) ([]api.Project, error) {
	return list[[]api.Project](ctx, c, path("projects")+"?recursion=1")
}

// ProjectNames returns the names of all projects.
func (c *Client) ProjectNames(ctx context.Context) ([]string, error) {
	return c.names(ctx, path("projects"))
}

// Project returns a project and its ETag.
func (c *Client) Project(ctx context.Context, name string) (api.Project, string, error) {
	return get[api.Project](ctx, c, path("projects", name))
}

// ProjectState returns how much a project uses of what it may use.
func (c *Client) ProjectState(ctx context.Context, name string) (api.ProjectState, error) {
	return list[api.ProjectState](ctx, c, path("projects", name, "state"))
}

// CreateProject creates a project.
func (c *Client) CreateProject(ctx context.Context, req api.ProjectsPost) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("projects"), body: req})
}

// UpdateProject replaces the writable part of a project if it still has the
// given ETag. An empty ETag fits always.
func (c *Client) UpdateProject(ctx context.Context, name string, put api.ProjectPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("projects", name), body: put, etag: etag})
}

// RenameProject renames an empty project.
func (c *Client) RenameProject(ctx context.Context, name, to string) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("projects", name), body: api.ProjectPost{Name: to}})
}

// DeleteProject deletes an empty project.
func (c *Client) DeleteProject(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("projects", name)})
}

// ForceDeleteProject deletes a project with all that is in it.
func (c *Client) ForceDeleteProject(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("projects", name) + "?force=true"})
}
