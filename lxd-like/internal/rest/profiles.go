package rest

import (
	"net/http"
	"net/url"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
)

func profileURL(name string) string { return "/1.0/profiles/" + url.PathEscape(name) }

func (s *Server) listProfiles(r *http.Request) (response, error) {
	all, err := s.Instances.Profiles(r.Context())
	return list(r, all, err, func(p api.Profile) string { return profileURL(p.Name) })
}

func (s *Server) createProfile(r *http.Request) (response, error) {
	body, err := decode[api.ProfilesPost](r)
	if err != nil {
		return nil, err
	}
	return created(profileURL(body.Name), s.Instances.CreateProfile(r.Context(), body))
}

// profile is the profile that a request is about.
func (s *Server) profile(r *http.Request) (whole, writable any, err error) {
	p, err := s.Instances.Profile(r.Context(), r.PathValue("name"))
	return p, p.ProfilePut, err
}

func (s *Server) getProfile(r *http.Request) (response, error) { return read(r, s.profile) }

func (s *Server) putProfile(r *http.Request) (response, error) {
	return previewed(r, s.Instances.UpdateProfile, s.Instances.PreviewProfile, func(u updater[api.ProfilePut]) (response, error) {
		return replace(r, s.profile, u)
	})
}

func (s *Server) patchProfile(r *http.Request) (response, error) {
	return previewed(r, s.Instances.UpdateProfile, s.Instances.PreviewProfile, func(u updater[api.ProfilePut]) (response, error) {
		return change(r, s.profile, u)
	})
}

func (s *Server) renameProfile(r *http.Request) (response, error) {
	to, err := renamed(r, scope.Profile)
	if err != nil {
		return nil, err
	}
	return created(profileURL(to), s.Instances.RenameProfile(r.Context(), r.PathValue("name"), to))
}

func (s *Server) deleteProfile(r *http.Request) (response, error) {
	return done(s.Instances.DeleteProfile(r.Context(), r.PathValue("name")))
}
