package guestapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// volumeService is what guests do with volumes of their own. It says who may.
type volumeService interface {
	Pool(ctx context.Context, instance, pool string) (api.GuestStoragePool, error)
	List(ctx context.Context, instance, pool string) ([]api.GuestStorageVolume, error)
	Get(ctx context.Context, instance string, ref db.VolumeRef) (api.GuestStorageVolume, error)
	Create(ctx context.Context, instance, pool string, req api.GuestStorageVolumesPost) error
	Update(ctx context.Context, instance string, ref db.VolumeRef, put api.GuestStorageVolumePut) error
	Delete(ctx context.Context, instance string, ref db.VolumeRef) error
	Devices(ctx context.Context, instance string) (api.GuestInstance, error)
	SetDevices(ctx context.Context, instance string, patch api.GuestInstancePatch) error
}

// volumeHandles is the part of the table that is about volumes.
func (s *Server) volumeHandles() map[string]handle {
	const pool = "/1.0/storage-pools/{pool}"
	return map[string]handle{
		"GET " + pool:                                s.pool,
		"GET " + pool + "/volumes":                   s.volumes,
		"GET " + pool + "/volumes/{type}":            s.volumes,
		"POST " + pool + "/volumes":                  s.changing(s.createVolume),
		"POST " + pool + "/volumes/{type}":           s.changing(s.createVolume),
		"GET " + pool + "/volumes/{type}/{volume}":   s.volume,
		"PUT " + pool + "/volumes/{type}/{volume}":   s.changing(s.updateVolume),
		"PATCH " + pool + "/volumes/{type}/{volume}": s.changing(s.updateVolume),
		"DELETE " + pool + "/volumes/{type}/{volume}": s.changing(func(_ http.ResponseWriter, r *http.Request, d *door) error {
			return s.Volumes.Delete(r.Context(), d.name, refOf(r))
		}),
		"GET /1.0/instances/{name}":   s.instance,
		"PATCH /1.0/instances/{name}": s.changing(s.setDevices),
	}
}

func refOf(r *http.Request) db.VolumeRef {
	return db.VolumeRef{Pool: r.PathValue("pool"), Name: r.PathValue("volume")}
}

// working calls fn as one of the requests that are worked on.
func (s *Server) working(r *http.Request, fn func() error) error {
	select {
	case s.active <- struct{}{}:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	defer func() { <-s.active }()
	if typ := r.PathValue("type"); typ != "" && typ != "custom" {
		return errs.Invalidf("type: got %q, want custom", typ)
	}
	return fn()
}

// changing makes a handle one that changes something, which a guest may do less
// often, and whose answer is empty. What the guest sends is read before the
// request is one of those that are worked on: it may take its time for that. Of
// one guest's there is one at a time, as they wait for each other in any case.
func (s *Server) changing(h handle) handle {
	return func(w http.ResponseWriter, r *http.Request, d *door) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return errs.Invalidf("read the request: %w", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if ok, err := s.mayChange(w, r, d); !ok {
			return err
		}
		select {
		case d.changing <- struct{}{}:
		case <-r.Context().Done():
			return r.Context().Err()
		}
		defer func() { <-d.changing }()
		if err := s.working(r, func() error { return h(w, r, d) }); err != nil {
			return err
		}
		return sendText(w, "")
	}
}

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return errs.Invalidf("the request is not JSON: %w", err)
	}
	return nil
}

// answer sends what fn returns.
func answer[T any](s *Server, w http.ResponseWriter, r *http.Request, fn func() (T, error)) error {
	var v T
	err := s.working(r, func() (err error) {
		v, err = fn()
		return err
	})
	if err != nil {
		return err
	}
	return sendJSON(w, v)
}

func (s *Server) pool(w http.ResponseWriter, r *http.Request, d *door) error {
	return answer(s, w, r, func() (api.GuestStoragePool, error) {
		return s.Volumes.Pool(r.Context(), d.name, r.PathValue("pool"))
	})
}

func (s *Server) volumes(w http.ResponseWriter, r *http.Request, d *door) error {
	if all, _ := strconv.Atoi(r.URL.Query().Get("recursion")); all == 0 {
		return errs.Newf(errs.Unsupported, "want ?recursion=1")
	}
	return answer(s, w, r, func() ([]api.GuestStorageVolume, error) {
		return s.Volumes.List(r.Context(), d.name, r.PathValue("pool"))
	})
}

func (s *Server) volume(w http.ResponseWriter, r *http.Request, d *door) error {
	return answer(s, w, r, func() (api.GuestStorageVolume, error) { return s.Volumes.Get(r.Context(), d.name, refOf(r)) })
}

func (s *Server) createVolume(_ http.ResponseWriter, r *http.Request, d *door) error {
	var req api.GuestStorageVolumesPost
	if err := decode(r, &req); err != nil {
		return err
	}
	if req.Type != "" && req.Type != "custom" {
		return errs.Invalidf("type: got %q, want custom", req.Type)
	}
	return s.Volumes.Create(r.Context(), d.name, r.PathValue("pool"), req)
}

// updateVolume replaces what a volume has, or with PATCH what is given.
func (s *Server) updateVolume(_ http.ResponseWriter, r *http.Request, d *door) error {
	var put api.GuestStorageVolumePut
	if r.Method == http.MethodPatch {
		v, err := s.Volumes.Get(r.Context(), d.name, refOf(r))
		if err != nil {
			return err
		}
		put = v.GuestStorageVolumePut
		put.Config = maps.Clone(put.Config)
	}
	if err := decode(r, &put); err != nil {
		return err
	}
	return s.Volumes.Update(r.Context(), d.name, refOf(r), put)
}

// own reports a request for another instance.
func own(r *http.Request, d *door) error {
	if r.PathValue("name") != project.InstanceName(d.name) {
		return errs.NotFoundf("not found")
	}
	return nil
}

func (s *Server) instance(w http.ResponseWriter, r *http.Request, d *door) error {
	if err := own(r, d); err != nil {
		return err
	}
	return answer(s, w, r, func() (api.GuestInstance, error) { return s.Volumes.Devices(r.Context(), d.name) })
}

func (s *Server) setDevices(_ http.ResponseWriter, r *http.Request, d *door) error {
	if err := own(r, d); err != nil {
		return err
	}
	var patch api.GuestInstancePatch
	if err := decode(r, &patch); err != nil {
		return err
	}
	return s.Volumes.SetDevices(r.Context(), d.name, patch)
}
