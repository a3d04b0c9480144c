package rest

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/lxd-like/internal/projects"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// projectService keeps projects.
type projectService interface {
	scope.Views

	List(ctx context.Context) ([]api.Project, error)
	Get(ctx context.Context, name string) (api.Project, error)
	State(ctx context.Context, name string) (api.ProjectState, error)
	Rules(name string) *projectkeys.Rules // Nil if it limits and restricts nothing.
	Create(ctx context.Context, req api.ProjectsPost) error
	Update(ctx context.Context, name string, put api.ProjectPut) error
	Rename(ctx context.Context, name, to string) error
	Delete(ctx context.Context, name string, force bool) error
}

func (s *Server) projectRoutes() []route {
	const one = "/1.0/projects/{name}"
	return []route{
		{get, "/1.0/projects", s.listProjects},
		{post, "/1.0/projects", s.createProject},
		{get, one, s.getProject},
		{put, one, s.putProject},
		{patch, one, s.patchProject},
		{post, one, s.renameProject},
		{remove, one, s.deleteProject},
		{get, one + "/state", s.getProjectState},
	}
}

func (s *Server) listProjects(r *http.Request) (response, error) {
	all, err := s.Projects.List(r.Context())
	return list(r, all, err, func(p api.Project) string { return projects.URL(p.Name) })
}

func (s *Server) createProject(r *http.Request) (response, error) {
	body, err := decode[api.ProjectsPost](r)
	if err != nil {
		return nil, err
	}
	return created(projects.URL(body.Name), s.Projects.Create(r.Context(), body))
}

func (s *Server) project(r *http.Request) (whole, writable any, err error) {
	p, err := s.Projects.Get(r.Context(), r.PathValue("name"))
	return p, p.ProjectPut, err
}

func (s *Server) getProject(r *http.Request) (response, error) { return read(r, s.project) }

func (s *Server) getProjectState(r *http.Request) (response, error) {
	return got(s.Projects.State(r.Context(), r.PathValue("name")))
}

func (s *Server) putProject(r *http.Request) (response, error) {
	return replace(r, s.project, s.Projects.Update)
}

func (s *Server) patchProject(r *http.Request) (response, error) {
	return change(r, s.project, s.Projects.Update)
}

func (s *Server) renameProject(r *http.Request) (response, error) {
	body, err := decode[api.ProjectPost](r)
	if err != nil {
		return nil, err
	}
	return created(projects.URL(body.Name), s.Projects.Rename(r.Context(), r.PathValue("name"), body.Name))
}

func (s *Server) deleteProject(r *http.Request) (response, error) {
	switch v := r.URL.Query().Get("force"); v {
	case "", "0", "1", "false", "true":
		return done(s.Projects.Delete(r.Context(), r.PathValue("name"), v == "1" || v == "true"))
	default:
		return nil, errs.Invalidf("force is %q: want true or false", v)
	}
}
