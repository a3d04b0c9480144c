package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// What is in this file is about files that several projects have. They are
// whole as long as any project has a ready image of them. Who makes the first
// such image or takes the last away holds the lock of the fingerprint.

// shared reports whether a project has a ready image with a fingerprint. An
// image that has the key except does not count.
func (s *Service) shared(ctx context.Context, fingerprint, except string) (bool, error) {
	var all []db.Image
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.ImagesSharing(ctx, tx, fingerprint)
		return err
	})
	return slices.ContainsFunc(all, func(i db.Image) bool { return i.Key() != except }), err
}

// share makes in an image that has the files of another project's.
func (in *incoming) share(of db.Image) {
	in.image.Fingerprint, in.image.Size, in.image.Source, in.image.Filename = of.Fingerprint, of.Size, of.Source, of.Filename
}

// metadata is what the files of an image say of it.
func (s *Service) metadata(ctx context.Context, fingerprint string) (api.ImageMetadata, error) {
	c := contents{rootfs: true} // There was one when the image came.
	err := walkFile(ctx, s.file(fingerprint, ""), c.entry)
	if errors.Is(err, fs.ErrNotExist) {
		return api.ImageMetadata{}, errs.NotFoundf("image %q not found", fingerprint)
	}
	if err != nil {
		return api.ImageMetadata{}, fmt.Errorf("image %s: %w", short(fingerprint), err)
	}
	return c.parse()
}

// remove takes an image away. One that cannot be taken out of all pools stays
// whole: the pools that it was taken out of get it again when they need it.
func (s *Service) remove(ctx context.Context, key string) error {
	ctx = db.Freeing(ctx)
	fingerprint := project.Name(key)
	unlock, err := s.locks.LockContext(ctx, fingerprint)
	if err != nil {
		return err
	}
	defer unlock()

	shared, err := s.shared(ctx, fingerprint, key)
	if err != nil {
		return err
	}
	if shared {
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteImage(ctx, tx, key) })
	}
	if err := s.dropVolumes(ctx, fingerprint); err != nil {
		return err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetImageStatus(ctx, tx, key, db.Pending)
	})
	if err != nil {
		return err
	}
	return s.removeRecord(ctx, key)
}

// removeRecord removes the files of a pending image, unless other projects
// have them, and then its record.
func (s *Service) removeRecord(ctx context.Context, key string) error {
	fingerprint := project.Name(key)
	shared, err := s.shared(ctx, fingerprint, key)
	if err != nil {
		return err
	}
	if !shared {
		for _, suffix := range []string{"", rootfsSuffix} {
			if err := os.Remove(s.file(fingerprint, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteImage(ctx, tx, key) })
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Recover removes what a crash left half made or half deleted. The daemon
// calls it at its start, before it serves requests.
func (s *Service) Recover(ctx context.Context) error {
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return err
	}
	var images []db.Image
	var volumes []db.ImageVolume
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if images, err = db.Images(ctx, tx); err != nil {
			return err
		}
		volumes, err = db.ImageVolumes(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	images = slices.DeleteFunc(images, func(i db.Image) bool { return i.Status != db.Pending })
	for _, i := range images {
		if err := s.removeRecord(ctx, i.Key()); err != nil {
			return fmt.Errorf("remove image %s: %w", short(i.Fingerprint), err)
		}
	}
	for _, v := range volumes {
		if v.Status != db.Pending {
			continue
		}
		// A pool that is not there now is no reason not to start: Volume
		// does the same when the image is needed again.
		if err := s.dropVolume(ctx, v); err != nil {
			s.Log.WarnContext(ctx, "cannot remove a half-made volume", "image", short(v.Fingerprint), "pool", v.Pool, "err", err)
		}
	}
	return s.removeTemp()
}

// tempPrefix begins the names of directories of images in the making.
const tempPrefix = ".new-"

func (s *Service) tempDir() (string, error) {
	if err := os.MkdirAll(s.dir(), 0o700); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(s.dir(), tempPrefix)
	return dir, diskFull(s.dir(), err)
}

func (s *Service) removeTemp() error {
	dirs, err := filepath.Glob(filepath.Join(s.dir(), tempPrefix+"*"))
	for _, dir := range dirs {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
