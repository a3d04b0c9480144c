package rest

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/cuib/cuib/shared/api"
)

func poolURL(name string) string { return "/1.0/storage-pools/" + url.PathEscape(name) }

func (s *Server) listPools(r *http.Request) (response, error) {
	all, err := s.Pools.List(r.Context())
	return list(r, all, err, func(p api.StoragePool) string { return poolURL(p.Name) })
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

// listVolumes lists the volumes of a pool, or those of one type.
func (s *Server) listVolumes(r *http.Request) (response, error) {
	pool, typ := r.PathValue("name"), r.PathValue("type")
	all, err := s.Pools.Volumes(r.Context(), pool)
	if typ != "" {
		all = slices.DeleteFunc(all, func(v api.StorageVolume) bool { return v.Type != typ })
	}
	return list(r, all, err, func(v api.StorageVolume) string {
		return poolURL(pool) + "/volumes/" + v.Type + "/" + url.PathEscape(v.Name)
	})
}

func (s *Server) getVolume(r *http.Request) (response, error) {
	return read(r, func(r *http.Request) (whole, writable any, err error) {
		v, err := s.Pools.Volume(r.Context(), r.PathValue("name"), r.PathValue("type"), r.PathValue("volume"))
		return v, map[string]any{"config": v.Config, "description": v.Description}, err
	})
}
