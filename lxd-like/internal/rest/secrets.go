package rest

import (
	"crypto/rand"
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// postImagePart makes a secret for an image: an operation of class token,
// whose metadata has it. It is good for one export, and until the operation
// is deleted.
func (s *Server) postImagePart(r *http.Request) (response, error) {
	switch r.PathValue("what") {
	case "secret":
	case "export":
		return s.pushImage(r)
	default:
		return nil, errs.NotFoundf("there is no %s", r.URL.Path)
	}
	image, err := s.Images.Get(r.Context(), r.PathValue("fingerprint"))
	return s.start(r, ops.Job{
		Class: ops.Token, Description: "Image download token",
		Resources: map[string][]string{"images": {imageURL(image)}},
		Metadata:  map[string]any{"secret": rand.Text()},
	}, err)
}

func imageURL(i api.Image) string {
	return "/1.0/images/" + url.PathEscape(project.Key(i.Project, i.Fingerprint))
}

// spendSecret checks the secret that a request gives for an image, if it
// gives one, and ends its operation: it is used up.
func (s *Server) spendSecret(r *http.Request, image api.Image) error {
	secret := r.URL.Query().Get("secret")
	if secret == "" {
		return nil
	}
	return s.spend(secret, image, func(desc api.Operation) bool {
		return slices.Contains(desc.Resources["images"], project.URL(imageURL(image)))
	})
}

// spend ends the operation that has a secret for an image, if it is of what
// suits.
func (s *Server) spend(secret string, image api.Image, suits func(api.Operation) bool) error {
	for _, desc := range s.Ops.List() {
		own, _ := desc.Metadata["secret"].(string)
		if desc.Class != ops.Token || desc.StatusCode != api.Running || subtle.ConstantTimeCompare([]byte(own), []byte(secret)) != 1 || !suits(desc) {
			continue
		}
		if op, err := s.Ops.Get(desc.ID); err == nil && op.Spend() {
			return nil
		}
	}
	return errs.NotFoundf("the secret is not one of image %q, or was used already", image.Fingerprint)
}
