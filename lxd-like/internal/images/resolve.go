package images

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Resolve finds the image of the source's project that a source names by alias,
// the beginning of a fingerprint, or properties. An alias that no image has can be a fingerprint
// too, and something to build, such as "debian:bookworm": of that it returns
// the image that was built before.
func (s *Service) Resolve(ctx context.Context, source api.InstanceSource) (db.Image, error) {
	var image db.Image
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		switch {
		case source.Fingerprint != "":
			image, err = findIn(ctx, tx, source.Project, source.Fingerprint)
		case source.Alias != "":
			image, err = byAlias(ctx, tx, source.Project, source.Alias)
		case len(source.Properties) > 0:
			image, err = byProperties(ctx, tx, source.Project, source.Properties)
		default:
			err = errs.Invalidf("source names no image: want alias, fingerprint or properties")
		}
		return err
	})
	return image, err
}

// findIn is [find] for an image of a project.
func findIn(ctx context.Context, tx *db.Tx, in, prefix string) (db.Image, error) {
	if !project.IsName(prefix) { // It would be one of another project.
		return db.Image{}, errs.NotFoundf("image %q not found", prefix)
	}
	return find(ctx, tx, project.Key(in, prefix))
}

func byAlias(ctx context.Context, tx *db.Tx, in, name string) (db.Image, error) {
	if !project.IsName(name) { // Likewise.
		return db.Image{}, noImage(name)
	}
	alias, err := db.GetAlias(ctx, tx, project.Key(in, name))
	if err == nil {
		return findIn(ctx, tx, in, alias.Fingerprint)
	}
	if !errs.Is(err, errs.NotFound) {
		return db.Image{}, err
	}
	missing := noImage(name)
	if src, ok := parseSource(name); ok {
		image, err := db.ImageBySource(ctx, tx, project.Key(in, src.String()))
		if errs.Is(err, errs.NotFound) {
			return db.Image{}, missing
		}
		return image, err
	}
	image, err := findIn(ctx, tx, in, name)
	if errs.Is(err, errs.NotFound) {
		return db.Image{}, missing
	}
	return image, err
}

func noImage(alias string) error {
	return errs.NotFoundf("image alias %q not found: want that of an image there is, or debian:SUITE, such as debian:bookworm, which is built", alias)
}

// byProperties finds the newest image that has all of the given properties.
func byProperties(ctx context.Context, tx *db.Tx, in string, want map[string]string) (db.Image, error) {
	all, err := db.FindImages(ctx, tx, project.Key(in, ""))
	if err != nil {
		return db.Image{}, err
	}
	all = slices.DeleteFunc(all, func(i db.Image) bool {
		for k, v := range want {
			if i.Properties[k] != v {
				return true
			}
		}
		return false
	})
	if len(all) == 0 {
		var pairs []string
		for k, v := range want {
			pairs = append(pairs, fmt.Sprintf("%s=%s", k, v))
		}
		slices.Sort(pairs)
		return db.Image{}, errs.NotFoundf("no image with the properties %s found", strings.Join(pairs, ", "))
	}
	return slices.MaxFunc(all, func(a, b db.Image) int { return a.Created.Compare(b.Created) }), nil
}
