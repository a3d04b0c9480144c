package images

import (
	"context"
	"net/url"
	"strings"
	"unicode"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Aliases returns the aliases of the images of all projects.
func (s *Service) Aliases(ctx context.Context) ([]api.ImageAliasesEntry, error) {
	out := []api.ImageAliasesEntry{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		out = out[:0]
		all, err := db.Aliases(ctx, tx)
		for _, a := range all {
			out = append(out, aliasToAPI(a))
		}
		return err
	})
	return out, err
}

// Alias returns an alias by its key.
func (s *Service) Alias(ctx context.Context, key string) (api.ImageAliasesEntry, error) {
	var a db.Alias
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		a, err = db.GetAlias(ctx, tx, key)
		return err
	})
	return aliasToAPI(a), err
}

func aliasToAPI(a db.Alias) api.ImageAliasesEntry {
	return api.ImageAliasesEntry{
		ImageAliasesEntryPut: api.ImageAliasesEntryPut{Description: a.Description, Target: a.Fingerprint},
		Name:                 a.Name, Type: "container", Project: a.Project,
	}
}

// aliasURL keeps the slashes of a name.
func aliasURL(key string) string {
	return "/1.0/images/aliases/" + strings.ReplaceAll(url.PathEscape(key), "%2F", "/")
}

// CreateAlias makes an alias, whose name in e is a key, of an image of the
// same project, which is named by the beginning of its fingerprint.
func (s *Service) CreateAlias(ctx context.Context, e api.ImageAliasesEntry) error {
	in, name := project.Split(e.Name)
	if err := checkAlias(name); err != nil {
		return err
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		image, err := aliasTarget(ctx, tx, in, e.Target)
		if err != nil {
			return err
		}
		return db.AddAlias(ctx, tx, db.Alias{Project: in, Name: name, Description: e.Description, Fingerprint: image.Fingerprint})
	})
	if err == nil {
		s.Events.Lifecycle("image-alias-created", aliasURL(e.Name), map[string]any{"target": e.Target})
	}
	return err
}

func aliasTarget(ctx context.Context, tx *db.Tx, in, fingerprint string) (db.Image, error) {
	if fingerprint == "" {
		return db.Image{}, errs.Invalidf("target is missing: it is the fingerprint of an image")
	}
	return findIn(ctx, tx, in, fingerprint)
}

// UpdateAlias changes an alias's description and image.
func (s *Service) UpdateAlias(ctx context.Context, key string, put api.ImageAliasesEntryPut) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		alias, err := db.GetAlias(ctx, tx, key)
		if err != nil {
			return err
		}
		image, err := aliasTarget(ctx, tx, alias.Project, put.Target)
		if err != nil {
			return err
		}
		alias.Description, alias.Fingerprint = put.Description, image.Fingerprint
		return db.UpdateAlias(ctx, tx, alias)
	})
	if err == nil {
		s.Events.Lifecycle("image-alias-updated", aliasURL(key), map[string]any{"target": put.Target})
	}
	return err
}

// RenameAlias gives an alias another key of the same project.
func (s *Service) RenameAlias(ctx context.Context, key, to string) error {
	if err := checkAlias(project.Name(to)); err != nil {
		return err
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.RenameAlias(ctx, tx, key, to) })
	if err == nil {
		s.Events.Lifecycle("image-alias-renamed", aliasURL(to), map[string]any{"old_name": key})
	}
	return err
}

// DeleteAlias deletes an alias; the image stays.
func (s *Service) DeleteAlias(ctx context.Context, key string) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteAlias(ctx, tx, key) })
	if err == nil {
		s.Events.Lifecycle("image-alias-deleted", aliasURL(key), nil)
	}
	return err
}

// maxAlias is how long the name of an alias can be.
const maxAlias = 255

// checkAlias checks the name of an alias. It can have slashes.
func checkAlias(name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("?#%", r) }
	switch {
	case name == "":
		return errs.Invalidf("name of the alias is missing")
	case len(name) > maxAlias:
		return errs.Invalidf("name of the alias has %d characters: %d are allowed", len(name), maxAlias)
	case strings.ContainsFunc(name, bad):
		return errs.Invalidf(`name %q of the alias has a space, "?", "#", "%%" or a control character in it`, name)
	case strings.HasPrefix(name, "/"), strings.HasSuffix(name, "/"), strings.Contains(name, "//"):
		return errs.Invalidf("name %q of the alias begins or ends with a slash, or has two in a row", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "." || part == ".." {
			return errs.Invalidf("name %q of the alias has %q between slashes", name, part)
		}
	}
	return nil
}

// checkNew refuses aliases that the project of image cannot have: not valid,
// named twice, or of another image. Those of images that were built from the
// same source as image may move.
func checkNew(ctx context.Context, tx *db.Tx, aliases []api.ImageAlias, image db.Image) error {
	seen := map[string]bool{}
	for _, a := range aliases {
		if err := checkAlias(a.Name); err != nil {
			return err
		}
		if seen[a.Name] {
			return errs.Invalidf("alias %q is given twice", a.Name)
		}
		seen[a.Name] = true
		have, err := db.GetAlias(ctx, tx, project.Key(image.Project, a.Name))
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		other, err := db.GetImage(ctx, tx, project.Key(have.Project, have.Fingerprint))
		if err != nil {
			return err
		}
		if image.Source == "" || other.Source != image.Source {
			return errs.Conflictf("image alias %q already exists", a.Name)
		}
	}
	return nil
}

// setAliases points aliases, which [checkNew] let pass, to an image.
func setAliases(ctx context.Context, tx *db.Tx, aliases []api.ImageAlias, image db.Image) error {
	for _, a := range aliases {
		alias := db.Alias{Project: image.Project, Name: a.Name, Description: a.Description, Fingerprint: image.Fingerprint}
		err := db.UpdateAlias(ctx, tx, alias)
		if errs.Is(err, errs.NotFound) {
			err = db.AddAlias(ctx, tx, alias)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
