package rest

import (
	"context"
	"net/http"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// A ShutdownRequest says how the daemon and its instances end.
type ShutdownRequest struct {
	Force bool // At once, without waiting for guests and operations.
}

// getReady says that the daemon serves: it answers nobody before.
func (s *Server) getReady(*http.Request) (response, error) { return synced(struct{}{}), nil }

// putShutdown answers when all instances have ended. That goes on if the
// client does not wait for it; the daemon ends in any case.
func (s *Server) putShutdown(r *http.Request) (response, error) {
	var req ShutdownRequest
	if v := r.URL.Query().Get("force"); v != "" {
		var err error
		if req.Force, err = profiles.ParseBool(v); err != nil {
			return nil, errs.Invalidf("force: got %q, want true or false", v)
		}
	}
	resp, err := done(s.Shutdown(context.WithoutCancel(r.Context()), req))
	if err != nil {
		s.Log.ErrorContext(r.Context(), "cannot end all instances", "err", err)
		resp = errorResponse(err)
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		defer s.Exit()
		return resp(w, r)
	}, nil
}
