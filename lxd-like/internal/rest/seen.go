package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// What is in this file keeps from the clients of a project what its
// configuration hides from them: it is not there for them.

// rules are those of the request's project; nil for none.
func (s *Server) rules(r *http.Request) *projectkeys.Rules { return s.Projects.Rules(view(r).Project) }

// checkSeen reports that what a path names is hidden.
func (s *Server) checkSeen(r *http.Request) error {
	rules := s.rules(r)
	if rules == nil {
		return nil
	}
	name := func(below, value string) string {
		if r.Pattern != below && !strings.HasPrefix(r.Pattern, below+"/") {
			return ""
		}
		return r.PathValue(value)
	}
	if pool := name("/1.0/storage-pools/{name}", "name"); pool != "" && !rules.SeesPool(pool) {
		return errs.NotFoundf("storage pool %q not found", pool)
	}
	network := name("/1.0/networks/{name}", "name") + name("/1.0/networks/{network}", "network")
	if network == "" || rules.SeesNetwork(network, false) {
		return nil
	}
	missing := errs.NotFoundf("network %q not found", project.Name(network))
	if !rules.SeesNetwork(network, true) {
		return missing
	}
	n, err := s.Nets.Get(r.Context(), network)
	if err == nil && !n.Managed {
		return missing
	}
	return err
}

func (s *Server) seenPools(r *http.Request, all []api.StoragePool) []api.StoragePool {
	rules := s.rules(r)
	return slices.DeleteFunc(all, func(p api.StoragePool) bool { return !rules.SeesPool(p.Name) })
}

func (s *Server) seenNetworks(r *http.Request, all []api.Network) []api.Network {
	rules := s.rules(r)
	return slices.DeleteFunc(all, func(n api.Network) bool { return !rules.SeesNetwork(n.Name, n.Managed) })
}

// checkServer reports a server that images of the project cannot come from.
func (s *Server) checkServer(r *http.Request, server string) error {
	if server == "" {
		return nil
	}
	host := server
	if u, err := url.Parse(server); err == nil && u.Hostname() != "" {
		host = u.Hostname()
	}
	return s.rules(r).CheckServer(host)
}
