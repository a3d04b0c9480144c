package rest

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

func networkURL(name string) string { return "/1.0/networks/" + url.PathEscape(name) }

func (s *Server) listNetworks(r *http.Request) (response, error) {
	all, err := s.Nets.List(r.Context())
	return list(r, s.seenNetworks(r, all), err, func(n api.Network) string { return networkURL(n.Name) })
}

func (s *Server) createNetwork(r *http.Request) (response, error) {
	body, err := decode[api.NetworksPost](r)
	if err != nil {
		return nil, err
	}
	return created(networkURL(body.Name), s.Nets.Create(r.Context(), body))
}

func (s *Server) network(r *http.Request) (whole, writable any, err error) {
	n, err := s.Nets.Get(r.Context(), r.PathValue("name"))
	return n, n.NetworkPut, err
}

func (s *Server) getNetwork(r *http.Request) (response, error) { return read(r, s.network) }

func (s *Server) putNetwork(r *http.Request) (response, error) {
	return replace(r, s.network, s.Nets.Update)
}

func (s *Server) patchNetwork(r *http.Request) (response, error) {
	return change(r, s.network, s.Nets.Update)
}

func (s *Server) renameNetwork(r *http.Request) (response, error) {
	to, err := renamed(r, scope.Network)
	if err != nil {
		return nil, err
	}
	return created(networkURL(to), s.Nets.Rename(r.Context(), r.PathValue("name"), to))
}

func (s *Server) deleteNetwork(r *http.Request) (response, error) {
	return done(s.Nets.Delete(r.Context(), r.PathValue("name")))
}

// examineNetwork tries a network out: extension cuib_network_doctor.
func (s *Server) examineNetwork(r *http.Request) (response, error) {
	return got(s.Nets.Examine(r.Context(), r.PathValue("name")))
}

func (s *Server) listLeases(r *http.Request) (response, error) {
	leases, err := s.Nets.Leases(r.Context(), r.PathValue("name"))
	if leases == nil {
		leases = []api.NetworkLease{}
	}
	return got(leases, err)
}

func (s *Server) listAllocations(r *http.Request) (response, error) {
	all, err := s.Nets.Allocations(r.Context())
	return got(slices.DeleteFunc(all, func(a api.NetworkAllocation) bool { return !allProjects(r) && !usedIn(r, a) }), err)
}

// usedIn reports whether an address is had by something that the request's
// project finds.
func usedIn(r *http.Request, a api.NetworkAllocation) bool {
	_, in := project.Path(a.UsedBy)
	if a.Type == "instance" {
		return in == view(r).Project
	}
	return in == view(r).Networks
}

func (s *Server) getNetworkState(r *http.Request) (response, error) {
	return got(s.Nets.State(r.Context(), r.PathValue("name")))
}
