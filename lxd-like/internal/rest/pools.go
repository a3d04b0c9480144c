package rest

import (
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
)

func poolURL(name string) string { return "/1.0/storage-pools/" + url.PathEscape(name) }

func (s *Server) listPools(r *http.Request) (response, error) {
	all, err := s.Pools.List(r.Context())
	return list(r, s.seenPools(r, all), err, func(p api.StoragePool) string { return poolURL(p.Name) })
}

func (s *Server) createPool(r *http.Request) (response, error) {
	body, err := decode[api.StoragePoolsPost](r)
	if err != nil {
		return nil, err
	}
	return created(poolURL(body.Name), s.Pools.Create(r.Context(), body))
}

func (s *Server) pool(r *http.Request) (whole, writable any, err error) {
	p, err := s.Pools.Get(r.Context(), r.PathValue("name"))
	return p, p.StoragePoolPut, err
}

func (s *Server) getPool(r *http.Request) (response, error) { return read(r, s.pool) }

func (s *Server) putPool(r *http.Request) (response, error) {
	return replace(r, s.pool, s.Pools.Update)
}

func (s *Server) patchPool(r *http.Request) (response, error) {
	return change(r, s.pool, s.Pools.Update)
}

func (s *Server) deletePool(r *http.Request) (response, error) {
	return done(s.Pools.Delete(r.Context(), r.PathValue("name")))
}

func (s *Server) getPoolResources(r *http.Request) (response, error) {
	return got(s.Pools.Resources(r.Context(), r.PathValue("name")))
}
