package rest

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// warningService keeps what administrators ought to know.
type warningService interface {
	List(ctx context.Context) ([]api.Warning, error)
	Get(ctx context.Context, id string) (api.Warning, error)
	Update(ctx context.Context, id string, put api.WarningPut) error
	Delete(ctx context.Context, id string) error
}

func (s *Server) warningRoutes() []route {
	const one = "/1.0/warnings/{name}"
	return []route{
		{get, "/1.0/warnings", s.listWarnings},
		{get, one, s.getWarning},
		{put, one, s.putWarning},
		{patch, one, s.patchWarning},
		{remove, one, s.deleteWarning},
	}
}

func (s *Server) listWarnings(r *http.Request) (response, error) {
	all, err := s.Warnings.List(r.Context())
	return list(r, all, err, func(w api.Warning) string { return "/1.0/warnings/" + w.UUID })
}

func (s *Server) warning(r *http.Request) (whole, writable any, err error) {
	w, err := s.Warnings.Get(r.Context(), objectName(r))
	return w, w.WarningPut, err
}

func (s *Server) getWarning(r *http.Request) (response, error) { return read(r, s.warning) }

func (s *Server) putWarning(r *http.Request) (response, error) {
	return replace(r, s.warning, s.Warnings.Update)
}

func (s *Server) patchWarning(r *http.Request) (response, error) {
	return change(r, s.warning, s.Warnings.Update)
}

func (s *Server) deleteWarning(r *http.Request) (response, error) {
	return done(s.Warnings.Delete(r.Context(), objectName(r)))
}
