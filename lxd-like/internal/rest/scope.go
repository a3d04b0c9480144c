package rest

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// What is in this file is all that the API's handlers have to do with
// projects: clients' names become the daemon's keys before a handler sees
// them, and its keys become names on their way to the client.

type scopeKey struct{}

// scoped is where a request finds what it names.
type scoped struct {
	scope.View

	views scope.Views
}

// viewed gives a request its project, and the keys of what its path names.
func (s *Server) viewed(r *http.Request) (*http.Request, error) {
	name := orDefault(r.URL.Query().Get("project"), orDefault(header(r, "Project"), project.Default))
	view, err := s.Projects.View(r.Context(), name)
	if err != nil {
		return nil, err
	}
	ctx := context.WithValue(project.With(r.Context(), name), scopeKey{}, scoped{view, s.Projects})
	r = r.WithContext(ctx)
	return r, pathKeys(r, view)
}

// view is where the names of a request are.
func view(r *http.Request) scoped {
	v, _ := r.Context().Value(scopeKey{}).(scoped) // Each request of a route has one.
	return v
}

// collections are the paths below which there are objects of projects, with
// the name of the path's value and the kind of name that it is.
var collections = []struct{ path, value, kind string }{
	{"/1.0/instances/{name}", "name", scope.Instance},
	{"/1.0/profiles/{name}", "name", scope.Profile},
	{"/1.0/networks/{name}", "name", scope.Network},
	{"/1.0/networks/{network}", "network", scope.Network},
	{"/1.0/network-acls/{name}", "name", scope.Network},
	{"/1.0/network-address-sets/{name}", "name", scope.Network},
	{"/1.0/network-zones/{name}", "name", scope.Zone},
	{"/1.0/network-zones/{zone}", "zone", scope.Zone},
	{"/1.0/images/aliases/{name...}", "name", scope.Alias},
	{"/1.0/images/{fingerprint}", "fingerprint", scope.Alias},
	{"/1.0/storage-pools/{name}/volumes/{type}/{volume}", "volume", scope.Volume},
}

func pathKeys(r *http.Request, v scope.View) error {
	for _, c := range collections {
		if r.Pattern != c.path && !strings.HasPrefix(r.Pattern, c.path+"/") {
			continue
		}
		kind := c.kind
		if kind == scope.Volume {
			kind = scope.VolumeKind(r.PathValue("type"))
		}
		name := r.PathValue(c.value)
		key, err := v.Key(kind, name)
		if err != nil {
			return errs.NotFoundf("%s %q not found", c.kind, name) // There cannot be one.
		}
		r.SetPathValue(c.value, key)
		return nil
	}
	return nil
}

// headerKey is the key of what the header X-Incus-name of an upload names, or
// empty.
func headerKey(r *http.Request, kind string) (string, error) {
	return view(r).Key(kind, header(r, "Name"))
}

// keyIn is the key of what another project, or that of the request if it is
// empty, finds by a name.
func keyIn(r *http.Request, in, kind, name string) (string, error) {
	v := view(r)
	if in == "" || v.views == nil {
		return v.Key(kind, name)
	}
	return scope.KeyIn(r.Context(), v.views, in, kind, name)
}

// keys translates what a client has sent, to which v points.
func keys(r *http.Request, v any) error {
	in := view(r)
	if in.views == nil {
		return nil
	}
	return scope.In(r.Context(), in.views, in.Project, v)
}

// named is v with names in the place of keys.
func named[T any](v T) T {
	scope.Out(&v)
	return v
}

// translated is what has names already.
type translated struct{ v any }

// wire is [named] for what is of any type.
func wire(v any) any {
	if t, ok := v.(translated); ok {
		return t.v
	}
	if v == nil {
		return nil
	}
	at := reflect.New(reflect.TypeOf(v))
	at.Elem().Set(reflect.ValueOf(v))
	scope.Out(at.Interface())
	return at.Elem().Interface()
}

// ofImages are those of all that a request for a list of images, or of what
// they have, is for.
func ofImages[T any](r *http.Request, all []T, in func(T) string) []T {
	return slices.DeleteFunc(all, func(v T) bool { return !allProjects(r) && in(v) != view(r).Images })
}

func allProjects(r *http.Request) bool { return r.URL.Query().Get("all-projects") == "true" }

// visible reports whether a request for a list is for an object as well.
func visible[T any](r *http.Request, v T) bool {
	in, kind := scope.Of(&v)
	return kind == "" || kind == scope.Image || allProjects(r) || in == view(r).Where(kind)
}

// listed is the project whose instances a request for a list is for, or empty
// for those of all.
func listed(r *http.Request) string {
	if allProjects(r) {
		return ""
	}
	return view(r).Project
}

// renamed is the key that an object of a kind, which a request renames, is to have.
func renamed(r *http.Request, kind string) (string, error) {
	body, err := decode[api.RenamePost](r)
	if err != nil {
		return "", err
	}
	return view(r).Key(kind, body.Name)
}
