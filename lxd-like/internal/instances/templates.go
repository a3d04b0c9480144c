package instances

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/errs"
)

// templatesDir is where an image's templates are, in the volume beside rootfs.
const templatesDir = "templates"

// Templates returns the names of an instance's templates.
func (s *Service) Templates(ctx context.Context, name string) (names []string, err error) {
	err = s.inTemplates(ctx, name, func(fs *guestfs.FS) error {
		names, err = fs.ReadDir("/")
		return err
	})
	return names, err
}

// Template reads one of an instance's templates.
func (s *Service) Template(ctx context.Context, name, template string) (data []byte, err error) {
	err = s.inTemplate(ctx, name, template, func(fs *guestfs.FS) error {
		r, err := fs.Open(template)
		if err != nil {
			return err
		}
		defer r.Close()
		data, err = io.ReadAll(r)
		return err
	})
	return data, err
}

// SetTemplate makes or replaces one of an instance's templates.
func (s *Service) SetTemplate(ctx context.Context, name, template, text string) error {
	return s.inTemplate(ctx, name, template, func(fs *guestfs.FS) error {
		return fs.Write(template, strings.NewReader(text), guestfs.File{UID: -1, GID: -1, Mode: -1})
	})
}

// DeleteTemplate removes one of an instance's templates.
func (s *Service) DeleteTemplate(ctx context.Context, name, template string) error {
	return s.inTemplate(ctx, name, template, func(fs *guestfs.FS) error { return fs.Remove(template) })
}

func (s *Service) inTemplate(ctx context.Context, name, template string, fn func(*guestfs.FS) error) error {
	if template == "" || strings.Contains(template, "/") || template == ".." {
		return errs.Invalidf("template name %q is not allowed: it is a file name without directories", template)
	}
	return s.inTemplates(ctx, name, func(fs *guestfs.FS) error {
		err := fn(fs)
		if errs.Is(err, errs.NotFound) {
			return errs.NotFoundf("instance %q has no template %q", name, template)
		}
		return err
	})
}

// inTemplates calls fn with the directory of an instance's templates. They
// come from an image, and links in them must lead nowhere.
func (s *Service) inTemplates(ctx context.Context, name string, fn func(*guestfs.FS) error) error {
	return s.inVolume(ctx, name, func(_ *instance, dir string) error {
		volume, err := os.Open(dir)
		if err != nil {
			return err
		}
		var fs *guestfs.FS
		if a := s.index.get(name); a != nil {
			fs = guestfs.New(volume, a.ids, nil)
		} else {
			fs = guestfs.New(volume, nil, nil)
		}
		defer fs.Close()
		if _, err := fs.Stat(templatesDir); errs.Is(err, errs.NotFound) { // The image has none.
			if err := fs.Mkdir(templatesDir, guestfs.File{UID: -1, GID: -1, Mode: -1}); err != nil {
				return err
			}
		}
		inner, err := fs.Sub(templatesDir)
		if err != nil {
			return err
		}
		defer inner.Close()
		return fn(inner)
	})
}
