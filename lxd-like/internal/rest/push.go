package rest

import (
	"crypto/rand"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// ownHost is what clients call this server, if they reach it by its socket.
const ownHost = "unix.socket"

// An awaited is an image that a project waits for. Whoever has its secret can
// push it.
type awaited struct {
	Project string         `json:"project"`
	Image   api.ImagesPost `json:"image"`
}

// awaitImage answers a client that will have an image pushed with a secret for
// who pushes it: an operation of class token. It is good until that is deleted.
func (s *Server) awaitImage(r *http.Request, body api.ImagesPost) (response, error) {
	if body.Source.Fingerprint == "" {
		return nil, errs.Invalidf("field \"source.fingerprint\" is missing in the request body")
	}
	return s.start(r, ops.Job{
		Class: ops.Token, Description: "Image upload token",
		Metadata: map[string]any{"secret": rand.Text(), "awaited": awaited{view(r).Images, body}},
	}, nil)
}

// pushImage copies an image to a project of this server that awaits it.
func (s *Server) pushImage(r *http.Request) (response, error) {
	body, err := decode[api.ImageExportPost](r)
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(body.Target); err != nil || u.Hostname() != ownHost {
		return nil, errs.Newf(errs.Unsupported, "target is %q: images are pushed only within this server, http://%s", body.Target, ownHost)
	}
	image, err := s.Images.Get(r.Context(), r.PathValue("fingerprint"))
	if err != nil {
		return nil, err
	}
	to, err := s.spendAwaited(body.Secret, image)
	if err != nil {
		return nil, err
	}
	post := to.Image
	post.Source = &api.ImagesPostSource{Type: "image", Fingerprint: image.Fingerprint, Project: image.Project}
	if post.Profiles == nil {
		post.Profiles = body.Profiles
	}
	job, err := s.Images.Make(project.With(r.Context(), to.Project), to.Project, post)
	return s.start(r, job, err)
}

// spendAwaited finds what awaits an image with a secret, which is used up then.
func (s *Server) spendAwaited(secret string, image api.Image) (awaited, error) {
	var found awaited
	err := s.spend(secret, image, func(desc api.Operation) bool {
		to, ok := desc.Metadata["awaited"].(awaited)
		if ok && to.Image.Source.Fingerprint == image.Fingerprint {
			found = to
			return true
		}
		return false
	})
	return found, err
}
