package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/locks"
	"github.com/cuib/cuib/storage"
)

// A Service keeps images. Their files are in the directory images of Dir,
// each under its fingerprint; the rootfs of a split one has ".rootfs" after
// it. Their volumes are made where and when instances need them.
type Service struct {
	DB     *db.DB
	Dir    string // The daemon's state directory.
	Pools  poolKeeper
	Events *events.Hub
	Log    *slog.Logger

	// Instances are what images can be made of.
	Instances instanceKeeper

	// Algorithm is the compression of images that are made of instances and ask
	// for none; empty for the usual one, and nil for always that.
	Algorithm func(ctx context.Context) string

	// Apt is where the host's configuration of apt is, which says where the
	// builder gets packages: /etc/apt if empty.
	Apt string

	// locks order what unpacks or deletes an image, by its fingerprint, and
	// what builds one, by its source.
	locks locks.Keyed
}

// A poolKeeper is what images need of storage pools.
type poolKeeper interface {
	// Driver opens a pool by its name.
	Driver(ctx context.Context, pool string) (storage.Driver, error)
}

// rootfsSuffix is what the file of a split image's rootfs ends in.
const rootfsSuffix = ".rootfs"

func (s *Service) dir() string { return filepath.Join(s.Dir, "images") }

// file returns the path of a file of an image.
func (s *Service) file(fingerprint, suffix string) string {
	return filepath.Join(s.dir(), fingerprint+suffix)
}

func imageURL(fingerprint string) string { return "/1.0/images/" + fingerprint }

// List returns all images.
func (s *Service) List(ctx context.Context) ([]api.Image, error) {
	var all []db.Image
	var aliases []db.Alias
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if all, err = db.FindImages(ctx, tx, ""); err != nil {
			return err
		}
		aliases, err = db.Aliases(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]api.Image, 0, len(all))
	for _, i := range all {
		out = append(out, toAPI(i, aliases))
	}
	return out, nil
}

// Get finds an image by the beginning of its fingerprint.
func (s *Service) Get(ctx context.Context, fingerprint string) (api.Image, error) {
	var out api.Image
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		image, err := find(ctx, tx, fingerprint)
		if err != nil {
			return err
		}
		aliases, err := db.Aliases(ctx, tx)
		out = toAPI(image, aliases)
		return err
	})
	return out, err
}

func toAPI(i db.Image, aliases []db.Alias) api.Image {
	out := api.Image{
		ImagePut: api.ImagePut{
			AutoUpdate: i.AutoUpdate, Properties: i.Properties, Public: i.Public, ExpiresAt: i.Expires, Profiles: i.Profiles,
		},
		Aliases: []api.ImageAlias{}, Architecture: i.Architecture, Cached: i.Cached, Filename: i.Filename,
		Fingerprint: i.Fingerprint, Size: i.Size, Type: "container", Project: "default",
		CreatedAt: i.Created, LastUsedAt: i.LastUsed, UploadedAt: i.Uploaded,
	}
	for _, a := range aliases {
		if a.Fingerprint == i.Fingerprint {
			out.Aliases = append(out.Aliases, api.ImageAlias{Name: a.Name, Description: a.Description})
		}
	}
	return out
}

var fingerprintPart = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// find returns the one image whose fingerprint begins with prefix.
func find(ctx context.Context, tx *db.Tx, prefix string) (db.Image, error) {
	if !fingerprintPart.MatchString(prefix) {
		return db.Image{}, errs.NotFoundf("image %q not found", prefix)
	}
	found, err := db.FindImages(ctx, tx, prefix)
	switch {
	case err != nil:
		return db.Image{}, err
	case len(found) == 0:
		return db.Image{}, errs.NotFoundf("image %q not found", prefix)
	case len(found) > 1:
		return db.Image{}, errs.Invalidf("%q is the beginning of %d fingerprints, of %s and %s for two: give more of it",
			prefix, len(found), found[0].Fingerprint, found[1].Fingerprint)
	}
	return found[0], nil
}

// Update stores what can be changed of an image.
func (s *Service) Update(ctx context.Context, fingerprint string, put api.ImagePut) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		image, err := find(ctx, tx, fingerprint)
		if err != nil {
			return err
		}
		if err := checkPut(ctx, tx, &put); err != nil {
			return err
		}
		fingerprint = image.Fingerprint
		image.Public, image.AutoUpdate, image.Expires = put.Public, put.AutoUpdate, put.ExpiresAt
		image.Properties, image.Profiles = put.Properties, put.Profiles
		return db.UpdateImage(ctx, tx, image)
	})
	if err != nil {
		return err
	}
	s.Events.Lifecycle("image-updated", imageURL(fingerprint), nil)
	return nil
}

// checkPut checks the writable part of an image, and puts into it what is
// not given.
func checkPut(ctx context.Context, tx *db.Tx, put *api.ImagePut) error {
	if put.AutoUpdate {
		return errs.Newf(errs.Unsupported, "auto_update is not supported: this image has no server that it could be updated from")
	}
	properties := map[string]string{}
	for k, v := range put.Properties {
		if v != "" { // Clients unset one so.
			properties[k] = v
		}
	}
	put.Properties = properties
	if put.Profiles == nil {
		put.Profiles = []string{"default"}
	}
	if _, err := db.ProfilesByName(ctx, tx, put.Profiles); err != nil {
		return errs.Newf(errs.Invalid, "profiles: %w", err)
	}
	return nil
}

// Delete removes an image with its files and volumes. Instances that were
// made of it live on.
func (s *Service) Delete(ctx context.Context, fingerprint string) (ops.Job, error) {
	image, err := s.Get(ctx, fingerprint)
	if err != nil {
		return ops.Job{}, err
	}
	fingerprint = image.Fingerprint
	return ops.Job{
		Description: "Deleting image",
		Objects:     []string{"image/" + fingerprint},
		Resources:   map[string][]string{"images": {imageURL(fingerprint)}},
		Run: func(ctx context.Context, _ *ops.Op) error {
			if err := s.remove(ctx, fingerprint); err != nil {
				return fmt.Errorf("delete image %s: %w", short(fingerprint), err)
			}
			s.Events.Lifecycle("image-deleted", imageURL(fingerprint), nil)
			return nil
		},
	}, nil
}

// remove takes an image away. One that cannot be taken out of all pools stays
// whole: the pools that it was taken out of get it again when they need it.
func (s *Service) remove(ctx context.Context, fingerprint string) error {
	ctx = db.Freeing(ctx)
	unlock, err := s.locks.LockContext(ctx, fingerprint)
	if err != nil {
		return err
	}
	defer unlock()

	if err := s.dropVolumes(ctx, fingerprint); err != nil {
		return err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetImageStatus(ctx, tx, fingerprint, db.Pending)
	})
	if err != nil {
		return err
	}
	return s.removeRecord(ctx, fingerprint)
}

// removeRecord removes the files of a pending image, and then its record.
func (s *Service) removeRecord(ctx context.Context, fingerprint string) error {
	for _, suffix := range []string{"", rootfsSuffix} {
		if err := os.Remove(s.file(fingerprint, suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.DeleteImage(ctx, tx, fingerprint) })
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	return err
}

// Export opens the files of an image: one, or metadata and rootfs.
func (s *Service) Export(ctx context.Context, fingerprint string) (_ []File, err error) {
	image, err := s.Get(ctx, fingerprint)
	if err != nil {
		return nil, err
	}
	var files []File
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Data.Close()
			}
		}
	}()
	for _, suffix := range []string{"", rootfsSuffix} {
		f, err := openFile(s.file(image.Fingerprint, suffix))
		if suffix == rootfsSuffix && errors.Is(err, fs.ErrNotExist) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("export image %s: %w", short(image.Fingerprint), err)
		}
		f.Name = image.Fingerprint + f.Name
		files = append(files, f)
	}
	files[0].Part, files[1].Part = "metadata", "rootfs"
	files[0].Name = "meta-" + files[0].Name
	return files, nil
}

// openFile opens a file of an image; the name of what it returns is the
// extension that such a file has.
func openFile(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	format, err := detect(f)
	if err != nil {
		return File{}, errors.Join(err, f.Close())
	}
	return File{Name: string(format), Data: f}, nil
}

func short(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }

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
		if err := s.removeRecord(ctx, i.Fingerprint); err != nil {
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
