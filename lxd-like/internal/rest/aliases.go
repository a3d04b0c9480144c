package rest

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// aliasURL keeps the slashes of a name, as the paths of aliases may have them.
func aliasURL(name string) string {
	return "/1.0/images/aliases/" + strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
}

func (s *Server) listAliases(r *http.Request) (response, error) {
	all, err := s.Images.Aliases(r.Context())
	all = ofImages(r, all, func(a api.ImageAliasesEntry) string { return a.Project })
	return list(r, all, err, func(a api.ImageAliasesEntry) string { return aliasURL(project.Key(a.Project, a.Name)) })
}

func (s *Server) createAlias(r *http.Request) (response, error) {
	body, err := decode[api.ImageAliasesEntry](r)
	if err != nil {
		return nil, err
	}
	if body.Name, err = view(r).Key(scope.Alias, body.Name); err != nil {
		return nil, err
	}
	return created(aliasURL(body.Name), s.Images.CreateAlias(r.Context(), body))
}

func (s *Server) alias(r *http.Request) (whole, writable any, err error) {
	a, err := s.Images.Alias(r.Context(), r.PathValue("name"))
	return a, a.ImageAliasesEntryPut, err
}

func (s *Server) getAlias(r *http.Request) (response, error) { return read(r, s.alias) }

func (s *Server) putAlias(r *http.Request) (response, error) {
	return replace(r, s.alias, s.Images.UpdateAlias)
}

func (s *Server) patchAlias(r *http.Request) (response, error) {
	return change(r, s.alias, s.Images.UpdateAlias)
}

func (s *Server) renameAlias(r *http.Request) (response, error) {
	to, err := renamed(r, scope.Alias)
	if err != nil {
		return nil, err
	}
	return created(aliasURL(to), s.Images.RenameAlias(r.Context(), r.PathValue("name"), to))
}

func (s *Server) deleteAlias(r *http.Request) (response, error) {
	return done(s.Images.DeleteAlias(r.Context(), r.PathValue("name")))
}
