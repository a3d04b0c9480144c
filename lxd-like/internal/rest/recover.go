package rest

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/lxd-like/internal/recovery"
)

// A recoveryService finds what pools have and the database does not know.
type recoveryService interface {
	Validate(ctx context.Context, req recovery.Request) (recovery.Result, error)
	Import(ctx context.Context, req recovery.Request) error
}

func (s *Server) findLost(r *http.Request) (response, error) {
	body, err := decode[recovery.Request](r)
	if err != nil {
		return nil, err
	}
	return got(s.Recovery.Validate(r.Context(), body))
}

func (s *Server) importLost(r *http.Request) (response, error) {
	body, err := decode[recovery.Request](r)
	if err != nil {
		return nil, err
	}
	return done(s.Recovery.Import(r.Context(), body))
}
