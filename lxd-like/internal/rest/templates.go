package rest

import (
	"bytes"
	"io"
	"net/http"

	"github.com/cuib/cuib/shared/errs"
)

// template names the template that a request is about.
func template(r *http.Request) (string, error) {
	name := r.URL.Query().Get("path")
	if name == "" {
		return "", errs.Invalidf("path is missing: it names a template")
	}
	return name, nil
}

// getTemplates lists an instance's templates, or answers with one.
func (s *Server) getTemplates(r *http.Request) (response, error) {
	name, err := template(r)
	if err != nil {
		return got(s.Instances.Templates(r.Context(), r.PathValue("name")))
	}
	data, err := s.Instances.Template(r.Context(), r.PathValue("name"), name)
	if err != nil {
		return nil, err
	}
	return raw{data: io.NopCloser(bytes.NewReader(data)), name: name, size: int64(len(data))}.response(), nil
}

func (s *Server) postTemplate(r *http.Request) (response, error) {
	name, err := template(r)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, bodyError(err)
	}
	return done(s.Instances.SetTemplate(r.Context(), r.PathValue("name"), name, string(data)))
}

func (s *Server) deleteTemplate(r *http.Request) (response, error) {
	name, err := template(r)
	if err != nil {
		return nil, err
	}
	return done(s.Instances.DeleteTemplate(r.Context(), r.PathValue("name"), name))
}
