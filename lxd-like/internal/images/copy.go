package images

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// copy makes an image of one that another project has. They share the files.
func (s *Service) copy(ctx context.Context, to string, req api.ImagesPost) (ops.Job, error) {
	src := req.Source
	switch {
	case src.Server != "":
		return ops.Job{}, errs.Newf(errs.Unsupported, "source.server is %q: images of other servers are not supported, import the image instead", src.Server)
	case src.Mode != "" && src.Mode != "pull":
		return ops.Job{}, errs.Invalidf("source.mode is %q: want pull, or upload the image", src.Mode)
	case cmp.Or(src.Fingerprint, src.Alias) == "":
		return ops.Job{}, errs.Invalidf("source names no image: want fingerprint or alias")
	}
	of, err := s.Resolve(ctx, api.InstanceSource{Project: src.Project, Fingerprint: src.Fingerprint, Alias: src.Alias})
	if err != nil {
		return ops.Job{}, err
	}
	in := s.copied(of, to, &req)
	if err := in.mustBeNew(ctx); err != nil {
		return ops.Job{}, err
	}
	if err := in.check(ctx, &req.ImagePut); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Copying image",
		Resources:   map[string][]string{"images": {imageURL(in.image.Key())}},
		Metadata:    result(in.image),
		Run: func(ctx context.Context, _ *ops.Op) error {
			if err := in.keep(ctx); err != nil {
				return fmt.Errorf("copy image %s: %w", short(of.Fingerprint), err)
			}
			return nil
		},
	}, nil
}

// copied begins a copy, which has what the request does not say from what it
// is of.
func (s *Service) copied(of db.Image, to string, req *api.ImagesPost) *incoming {
	in := s.incoming(to, req.Aliases)
	in.share(of)
	in.image.Architecture, in.image.Created = of.Architecture, of.Created
	properties := maps.Clone(of.Properties)
	maps.Copy(properties, req.Properties)
	req.Properties = properties
	if req.ExpiresAt.IsZero() {
		req.ExpiresAt = of.Expires
	}
	return in
}
