package rest

import (
	"maps"
	"net/http"

	"github.com/cuib/cuib/lxd-like/netkeys"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/lxd-like/serverkeys"
	"github.com/cuib/cuib/profiles"
)

// getConfiguration describes the configuration keys and options that there
// are.
func (s *Server) getConfiguration(*http.Request) (response, error) {
	configs := profiles.Metadata()
	maps.Copy(configs, s.Pools.Metadata())
	maps.Copy(configs, netkeys.Metadata())
	maps.Copy(configs, projectkeys.Metadata())
	maps.Copy(configs, serverkeys.Metadata())
	return synced(map[string]any{"configs": configs}), nil
}
