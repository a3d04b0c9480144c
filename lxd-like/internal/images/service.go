package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/locks"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/storage"
)

// A Service keeps images. Their files are in the directory images of Dir,
// each under its fingerprint; the rootfs of a split one has ".rootfs" after
// it. Their volumes are made where and when instances need them. Projects that
// have the same image share both.
//
// Its methods know an image by its key, or by the beginning of one, and an
// alias too. What they answer with has names, and says of which project.
type Service struct {
	DB       *db.DB
	Projects scope.Views
	Dir      string // The daemon's state directory.
	Pools    poolKeeper
	Events   *events.Hub
	Log      *slog.Logger

	// Instances are what images can be made of.
	Instances instanceKeeper

	// Algorithm is the compression of images that are made of instances and ask
	// for none; empty for the usual one, and nil for always that.
	Algorithm func(ctx context.Context) string

	// Apt is where the host's configuration of apt is, which says where the
	// builder gets packages: /etc/apt if empty.
	Apt string

	// locks order what keeps, unpacks or deletes an image, by its fingerprint,
	// and what builds one, by its source.
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

func imageURL(key string) string { return "/1.0/images/" + url.PathEscape(key) }

// List returns the images of all projects.
func (s *Service) List(ctx context.Context) ([]api.Image, error) {
	var all []db.Image
	var aliases []db.Alias
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if all, err = db.ReadyImages(ctx, tx); err != nil {
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

// Get finds an image by the beginning of its key.
func (s *Service) Get(ctx context.Context, key string) (api.Image, error) {
	var out api.Image
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		image, err := find(ctx, tx, key)
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
		Fingerprint: i.Fingerprint, Size: i.Size, Type: "container", Project: i.Project,
		CreatedAt: i.Created, LastUsedAt: i.LastUsed, UploadedAt: i.Uploaded,
	}
	for _, a := range aliases {
		if a.Fingerprint == i.Fingerprint && a.Project == i.Project {
			out.Aliases = append(out.Aliases, api.ImageAlias{Name: a.Name, Description: a.Description})
		}
	}
	return out
}

var fingerprintPart = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// find returns the one image whose key begins with prefix.
func find(ctx context.Context, tx *db.Tx, prefix string) (db.Image, error) {
	if !fingerprintPart.MatchString(project.Name(prefix)) {
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
			project.Name(prefix), len(found), found[0].Fingerprint, found[1].Fingerprint)
	}
	return found[0], nil
}

// Update stores what can be changed of an image.
func (s *Service) Update(ctx context.Context, key string, put api.ImagePut) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		image, err := find(ctx, tx, key)
		if err != nil {
			return err
		}
		if err := s.checkPut(ctx, tx, image.Project, &put); err != nil {
			return err
		}
		key = image.Key()
		image.Public, image.AutoUpdate, image.Expires = put.Public, put.AutoUpdate, put.ExpiresAt
		image.Properties, image.Profiles = put.Properties, put.Profiles
		return db.UpdateImage(ctx, tx, image)
	})
	if err != nil {
		return err
	}
	s.Events.Lifecycle("image-updated", imageURL(key), nil)
	return nil
}

// checkPut checks the writable part of an image of a project, and puts into it
// what is not given.
func (s *Service) checkPut(ctx context.Context, tx *db.Tx, in string, put *api.ImagePut) error {
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
	view, err := s.Projects.View(ctx, in)
	if err != nil {
		return err
	}
	keys, err := view.ProfileKeys(put.Profiles)
	if err != nil {
		return errs.Newf(errs.Invalid, "profiles: %w", err)
	}
	if _, err := db.ProfilesByName(ctx, tx, keys); err != nil {
		return errs.Newf(errs.Invalid, "profiles: %w", err)
	}
	return nil
}

// Delete removes an image and, if no other project has it, its files and
// volumes. Instances that were made of it live on.
func (s *Service) Delete(ctx context.Context, key string) (ops.Job, error) {
	image, err := s.Get(ctx, key)
	if err != nil {
		return ops.Job{}, err
	}
	key = project.Key(image.Project, image.Fingerprint)
	return ops.Job{
		Description: "Deleting image",
		Objects:     []string{"image/" + key},
		Resources:   map[string][]string{"images": {imageURL(key)}},
		Run: func(ctx context.Context, _ *ops.Op) error {
			if err := s.remove(ctx, key); err != nil {
				return fmt.Errorf("delete image %s: %w", short(image.Fingerprint), err)
			}
			s.Events.Lifecycle("image-deleted", imageURL(key), nil)
			return nil
		},
	}, nil
}

// Export opens the files of an image: one, or metadata and rootfs.
func (s *Service) Export(ctx context.Context, key string) (_ []File, err error) {
	image, err := s.Get(ctx, key)
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
