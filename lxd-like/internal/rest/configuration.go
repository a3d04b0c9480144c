package rest

import (
	"net/http"

	"github.com/cuib/cuib/profiles"
)

// getConfiguration describes the configuration keys and options that there
// are.
func (s *Server) getConfiguration(*http.Request) (response, error) {
	return synced(map[string]any{"configs": profiles.Metadata()}), nil
}
