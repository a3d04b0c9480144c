package rest_test

import (
	"context"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
)

// fakeProjects has the default project, p, which has all of its own, and
// shared, which has only its instances.
type fakeProjects struct{ forced bool }

func (*fakeProjects) View(_ context.Context, name string) (scope.View, error) {
	switch name {
	case "default", "p":
		return scope.Whole(name), nil
	case "shared":
		v := scope.Whole("default")
		v.Project = name
		return v, nil
	}
	return scope.View{}, db.NoProject(name)
}

func (*fakeProjects) List(context.Context) ([]api.Project, error) {
	return []api.Project{{Name: "default", UsedBy: []string{}}, {Name: "p", UsedBy: []string{"/1.0/instances/p_c1", "/1.0/profiles/p%25web"}}}, nil
}

func (f *fakeProjects) Get(ctx context.Context, name string) (api.Project, error) {
	all, err := f.List(ctx)
	for _, p := range all {
		if p.Name == name {
			return p, err
		}
	}
	return api.Project{}, db.NoProject(name)
}

func (*fakeProjects) Create(context.Context, api.ProjectsPost) error       { return nil }
func (*fakeProjects) Update(context.Context, string, api.ProjectPut) error { return nil }
func (*fakeProjects) Rename(_ context.Context, _, _ string) error          { return nil }
func (f *fakeProjects) Delete(_ context.Context, _ string, force bool) error {
	f.forced = force
	return nil
}
