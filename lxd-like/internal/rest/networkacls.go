package rest

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
)

// aclService keeps network ACLs.
type aclService interface {
	List(ctx context.Context) ([]api.NetworkACL, error)
	Get(ctx context.Context, name string) (api.NetworkACL, error)
	Create(ctx context.Context, req api.NetworkACLsPost) error
	Update(ctx context.Context, name string, put api.NetworkACLPut) error
	Rename(ctx context.Context, name, to string) error
	Delete(ctx context.Context, name string) error
	Log(ctx context.Context, name string) (io.ReadCloser, error)
	State(ctx context.Context, name string) (api.NetworkACLState, error)
}

// addressSetService keeps address sets.
type addressSetService interface {
	List(ctx context.Context) ([]api.NetworkAddressSet, error)
	Get(ctx context.Context, name string) (api.NetworkAddressSet, error)
	Create(ctx context.Context, req api.NetworkAddressSetsPost) error
	Update(ctx context.Context, name string, put api.NetworkAddressSetPut) error
	Rename(ctx context.Context, name, to string) error
	Delete(ctx context.Context, name string) error
}

func (s *Server) aclRoutes() []route {
	const (
		acl = "/1.0/network-acls/{name}"
		set = "/1.0/network-address-sets/{name}"
	)
	return []route{
		{get, "/1.0/network-acls", s.listACLs},
		{post, "/1.0/network-acls", s.createACL},
		{get, acl, s.getACL},
		{put, acl, s.putACL},
		{patch, acl, s.patchACL},
		{post, acl, s.renameACL},
		{remove, acl, s.deleteACL},
		{get, acl + "/log", s.getACLLog},
		{get, acl + "/state", s.getACLState},
		{get, "/1.0/network-address-sets", s.listAddressSets},
		{post, "/1.0/network-address-sets", s.createAddressSet},
		{get, set, s.getAddressSet},
		{put, set, s.putAddressSet},
		{patch, set, s.patchAddressSet},
		{post, set, s.renameAddressSet},
		{remove, set, s.deleteAddressSet},
	}
}

func aclURL(name string) string { return "/1.0/network-acls/" + url.PathEscape(name) }

func addressSetURL(name string) string { return "/1.0/network-address-sets/" + url.PathEscape(name) }

func (s *Server) listACLs(r *http.Request) (response, error) {
	all, err := s.ACLs.List(r.Context())
	return list(r, all, err, func(a api.NetworkACL) string { return aclURL(a.Name) })
}

func (s *Server) createACL(r *http.Request) (response, error) {
	body, err := decode[api.NetworkACLsPost](r)
	if err != nil {
		return nil, err
	}
	return created(aclURL(body.Name), s.ACLs.Create(r.Context(), body))
}

func (s *Server) acl(r *http.Request) (whole, writable any, err error) {
	a, err := s.ACLs.Get(r.Context(), r.PathValue("name"))
	return a, a.NetworkACLPut, err
}

func (s *Server) getACL(r *http.Request) (response, error) { return read(r, s.acl) }

func (s *Server) putACL(r *http.Request) (response, error) { return replace(r, s.acl, s.ACLs.Update) }

func (s *Server) patchACL(r *http.Request) (response, error) { return change(r, s.acl, s.ACLs.Update) }

func (s *Server) renameACL(r *http.Request) (response, error) {
	to, err := renamed(r, scope.Network)
	if err != nil {
		return nil, err
	}
	return created(aclURL(to), s.ACLs.Rename(r.Context(), r.PathValue("name"), to))
}

func (s *Server) deleteACL(r *http.Request) (response, error) {
	return done(s.ACLs.Delete(r.Context(), r.PathValue("name")))
}

func (s *Server) getACLLog(r *http.Request) (response, error) {
	f, err := s.ACLs.Log(r.Context(), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return raw{data: f, size: -1, typ: "application/octet-stream"}.response(), nil
}

// getACLState is the extension cuib_network_acl_state.
func (s *Server) getACLState(r *http.Request) (response, error) {
	return got(s.ACLs.State(r.Context(), r.PathValue("name")))
}

func (s *Server) listAddressSets(r *http.Request) (response, error) {
	all, err := s.AddressSets.List(r.Context())
	return list(r, all, err, func(a api.NetworkAddressSet) string { return addressSetURL(a.Name) })
}

func (s *Server) createAddressSet(r *http.Request) (response, error) {
	body, err := decode[api.NetworkAddressSetsPost](r)
	if err != nil {
		return nil, err
	}
	return created(addressSetURL(body.Name), s.AddressSets.Create(r.Context(), body))
}

func (s *Server) addressSet(r *http.Request) (whole, writable any, err error) {
	a, err := s.AddressSets.Get(r.Context(), r.PathValue("name"))
	return a, a.NetworkAddressSetPut, err
}

func (s *Server) getAddressSet(r *http.Request) (response, error) { return read(r, s.addressSet) }

func (s *Server) putAddressSet(r *http.Request) (response, error) {
	return replace(r, s.addressSet, s.AddressSets.Update)
}

func (s *Server) patchAddressSet(r *http.Request) (response, error) {
	return change(r, s.addressSet, s.AddressSets.Update)
}

func (s *Server) renameAddressSet(r *http.Request) (response, error) {
	to, err := renamed(r, scope.Network)
	if err != nil {
		return nil, err
	}
	return created(addressSetURL(to), s.AddressSets.Rename(r.Context(), r.PathValue("name"), to))
}

func (s *Server) deleteAddressSet(r *http.Request) (response, error) {
	return done(s.AddressSets.Delete(r.Context(), r.PathValue("name")))
}
