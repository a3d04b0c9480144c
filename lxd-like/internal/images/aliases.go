package images

import (
	"context"
	"strings"
	"unicode"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Aliases returns the aliases of all images.
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

// Alias returns an alias.
func (s *Service) Alias(ctx context.Context, name string) (api.ImageAliasesEntry, error) {
	var a db.Alias
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		a, err = db.GetAlias(ctx, tx, name)
		return err
	})
	return aliasToAPI(a), err
}

func aliasToAPI(a db.Alias) api.ImageAliasesEntry {
	return api.ImageAliasesEntry{
		ImageAliasesEntryPut: api.ImageAliasesEntryPut{Description: a.Description, Target: a.Fingerprint},
		Name:                 a.Name, Type: "container",
	}
}

func aliasURL(name string) string { return "/1.0/images/aliases/" + name }

// CreateAlias makes an alias of an image, which is named by the beginning of
// its fingerprint.
func (s *Service) CreateAlias(ctx context.Context, e api.ImageAliasesEntry) error {
	if err := checkAlias(e.Name); err != nil {
		return err
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		image, err := aliasTarget(ctx, tx, e.Target)
		if err != nil {
			return err
		}
		return db.AddAlias(ctx, tx, db.Alias{Name: e.Name, Description: e.Description, Fingerprint: image.Fingerprint})
	})
	if err == nil {
		s.Events.Lifecycle("image-alias-created", aliasURL(e.Name), map[string]any{"target": e.Target})
	}
	return err
}

func aliasTarget(ctx context.Context, tx *db.Tx, fingerprint string) (db.Image, error) {
	if fingerprint == "" {
		return db.Image{}, errs.Invalidf("target is missing: it is the fingerprint of an image")
	}
	return find(ctx, tx, fingerprint)
}

// UpdateAlias changes an alias's description and image.
func (s *Service) UpdateAlias(ctx context.Context, name string, put api.ImageAliasesEntryPut) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetAlias(ctx, tx, name); err != nil {
			return err
		}
		image, err := aliasTarget(ctx, tx, put.Target)
		if err != nil {
			return err
		}
		return db.UpdateAlias(ctx, tx, db.Alias{Name: name, Description: put.Description, Fingerprint: image.Fingerprint})
	})
	if err == nil {
		s.Events.Lifecycle("image-alias-updated", aliasURL(name), map[string]any{"target": put.Target})
	}
	return err
}

// RenameAlias gives an alias another name.
func (s *Service) RenameAlias(ctx context.Context, name, to string) error {
	if err := checkAlias(to); err != nil {
		return err
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.RenameAlias(ctx, tx, name, to) })
	if err == nil {
		s.Events.Lifecycle("image-alias-renamed", aliasURL(to), map[string]any{"old_name": name})
	}
	return err
}

// DeleteAlias deletes an alias; the image stays.
func (s *Service) DeleteAlias(ctx context.Context, name string) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteAlias(ctx, tx, name) })
	if err == nil {
		s.Events.Lifecycle("image-alias-deleted", aliasURL(name), nil)
	}
	return err
}

// maxAlias is how long the name of an alias can be.
const maxAlias = 255

// checkAlias checks the name of an alias. It can have slashes.
func checkAlias(name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '?' || r == '#' }
	switch {
	case name == "":
		return errs.Invalidf("name of the alias is missing")
	case len(name) > maxAlias:
		return errs.Invalidf("name of the alias has %d characters: %d are allowed", len(name), maxAlias)
	case strings.ContainsFunc(name, bad):
		return errs.Invalidf(`name %q of the alias has a space, "?", "#" or a control character in it`, name)
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

// checkNew refuses aliases that cannot be made: not valid, named twice, or of
// another image. Those of images that were built from source may move.
func checkNew(ctx context.Context, tx *db.Tx, aliases []api.ImageAlias, source string) error {
	seen := map[string]bool{}
	for _, a := range aliases {
		if err := checkAlias(a.Name); err != nil {
			return err
		}
		if seen[a.Name] {
			return errs.Invalidf("alias %q is given twice", a.Name)
		}
		seen[a.Name] = true
		have, err := db.GetAlias(ctx, tx, a.Name)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		image, err := db.GetImage(ctx, tx, have.Fingerprint)
		if err != nil {
			return err
		}
		if source == "" || image.Source != source {
			return errs.Conflictf("image alias %q already exists", a.Name)
		}
	}
	return nil
}

// setAliases points aliases, which [checkNew] let pass, to an image.
func setAliases(ctx context.Context, tx *db.Tx, aliases []api.ImageAlias, fingerprint string) error {
	for _, a := range aliases {
		alias := db.Alias{Name: a.Name, Description: a.Description, Fingerprint: fingerprint}
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
