package instances

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/shared/uuid"
	"github.com/cuib/cuib/storage"
)

// A source is what an instance is made from.
type source interface {
	// check refuses an instance that this cannot be made into.
	check(in *instance) error
	// prepare does what comes before the record, and completes it.
	prepare(ctx context.Context, in *instance, op *ops.Op) error
	// fill makes the instance's volume.
	fill(ctx context.Context, d storage.Driver, in *instance, op *ops.Op) error
}

// source finds what a request wants to make an instance from, and puts into
// the request what it leaves to that.
func (s *Service) source(ctx context.Context, req *api.InstancesPost) (source, error) {
	switch src := req.Source; src.Type {
	case "image":
		return s.imageSource(ctx, req)
	case "none":
		return emptySource{}, nil
	case "copy":
		return s.copySource(ctx, req)
	case "":
		return nil, errs.Invalidf("source.type is missing: it is image, none or copy")
	case "migration":
		return nil, errs.Newf(errs.Unsupported, "source.type %q is not supported: instances come from image, none or copy", src.Type)
	default:
		return nil, errs.Invalidf("source.type %q is not known: it is image, none or copy", src.Type)
	}
}

// fromImage makes instances of images.
type fromImage struct {
	s     *Service
	image db.Image
	build string // The key of what to build first; empty if image is there.
}

func (s *Service) imageSource(ctx context.Context, req *api.InstancesPost) (source, error) {
	src := req.Source
	if src.Server != "" {
		return nil, errs.Newf(errs.Unsupported, "images of other servers (%s) are not supported: import the image first", src.Server)
	}
	image, err := s.Images.Resolve(ctx, src)
	switch {
	case err == nil:
		if req.Profiles == nil && len(image.Profiles) > 0 {
			if req.Profiles, err = s.imageProfiles(ctx, req.Name, image); err != nil {
				return nil, err
			}
		}
		if req.Architecture == "" {
			req.Architecture = image.Architecture
		}
		return &fromImage{s: s, image: image}, nil
	case errs.Is(err, errs.NotFound) && s.Images.Buildable(src.Alias):
		return &fromImage{s: s, build: project.Key(src.Project, src.Alias)}, nil
	}
	return nil, err
}

// imageProfiles are the keys of an image's profiles for an instance: those of
// their names where the instance's project has its profiles.
func (s *Service) imageProfiles(ctx context.Context, name string, image db.Image) ([]string, error) {
	view, err := s.Projects.View(ctx, project.OfInstance(name))
	if err != nil {
		return nil, err
	}
	return view.ProfileKeys(image.Profiles)
}

func (f *fromImage) check(*instance) error {
	return checkArchitecture(&f.image.Architecture)
}

func (f *fromImage) prepare(ctx context.Context, in *instance, op *ops.Op) error {
	if f.build != "" {
		image, err := f.s.Images.Build(ctx, f.build, op)
		if err != nil {
			return fmt.Errorf("build image %q: %w", project.Name(f.build), err)
		}
		f.image, f.build = image, ""
	}
	in.apply(imageKeys(f.image))
	in.apply(newIdentity())
	in.apply(map[string]string{keyApplyTemplate: "create"})
	return nil
}

func (f *fromImage) fill(ctx context.Context, d storage.Driver, in *instance, op *ops.Op) error {
	return f.s.cloneImage(ctx, d, in.volume(), imagePlace{f.image.Key(), in.Pool, op})
}

// imagePlace says which image is needed in which pool.
type imagePlace struct {
	key, pool string // Key of the image.
	op        *ops.Op
}

// cloneImage makes a volume with the contents of an image.
func (s *Service) cloneImage(ctx context.Context, d storage.Driver, dst storage.Volume, at imagePlace) error {
	src, err := s.Images.Volume(ctx, at.key, at.pool, at.op)
	if err != nil {
		return fmt.Errorf("unpack image %s: %w", short(project.Name(at.key)), err)
	}
	if err := d.Clone(ctx, dst, src); err != nil {
		return fmt.Errorf("make the root volume: %w", err)
	}
	return nil
}

func short(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }

// imageKeys are the keys that say where an instance comes from.
func imageKeys(image db.Image) map[string]string {
	keys := map[string]string{keyBaseImage: image.Fingerprint}
	for k, v := range image.Properties {
		keys["image."+k] = v
	}
	return keys
}

// newIdentity are the keys that tell an instance from all others.
func newIdentity() map[string]string {
	id := uuid.New()
	return map[string]string{keyUUID: id, keyGeneration: id, keyCloudInitID: uuid.New()}
}

// emptySource makes instances without anything in them.
type emptySource struct{}

func (emptySource) check(*instance) error { return nil }

func (emptySource) prepare(_ context.Context, in *instance, _ *ops.Op) error {
	in.apply(newIdentity())
	return nil
}

func (emptySource) fill(ctx context.Context, d storage.Driver, in *instance, _ *ops.Op) error {
	return fillEmpty(ctx, d, in.volume(), in.Architecture)
}

// fillEmpty makes a volume with an empty root directory.
func fillEmpty(ctx context.Context, d storage.Driver, v storage.Volume, arch string) (err error) {
	if err := d.Create(ctx, v); err != nil {
		return fmt.Errorf("make the root volume: %w", err)
	}
	return within(ctx, d, v, func(dir string) error {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil { //nolint:gosec // A root directory is for all.
			return err
		}
		meta, err := yaml.Marshal(api.ImageMetadata{Architecture: arch})
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "metadata.yaml"), meta, 0o644) //nolint:gosec // It has no secrets.
	})
}

// within calls fn with a volume mounted as it is stored.
func within(ctx context.Context, d storage.Driver, v storage.Volume, fn func(dir string) error) (err error) {
	dir, err := d.Mount(ctx, v, nil)
	if err != nil {
		return fmt.Errorf("mount %s: %w", v, err)
	}
	defer func() {
		if uerr := d.Unmount(context.WithoutCancel(ctx), v); err == nil {
			err = uerr
		}
	}()
	return fn(dir)
}

// limitSize gives the root volume the size that the root has.
func (s *Service) limitSize(ctx context.Context, d storage.Driver, in *instance) error {
	return limitVolume(ctx, d, in.volume(), in.rootSize())
}

// tune gives a new root volume the options of its driver that its disk has for
// it, or else its pool for new volumes; they say how it is limited, too.
func (s *Service) tune(ctx context.Context, d storage.Driver, in *instance) error {
	t, can := d.(storage.Tuner)
	if !can {
		return nil
	}
	var p db.Pool
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		p, err = db.GetPool(ctx, tx, in.Pool)
		return err
	})
	if err != nil {
		return err
	}
	options := map[string]string{}
	for key, value := range p.Config {
		name, isDefault := strings.CutPrefix(key, "volume.")
		if isDefault && value != "" && strings.HasPrefix(name, p.Driver+".") {
			options[name] = value
		}
	}
	_, disk, _ := root(in.expanded)
	maps.Copy(options, profiles.InitialOptions(disk))
	if len(options) == 0 {
		return nil
	}
	if err := t.Tune(ctx, in.volume(), options); err != nil {
		return fmt.Errorf("set the options of the root volume: %w", err)
	}
	return nil
}

// sizeOf says how large a root may get.
type sizeOf struct {
	device    string
	text      string // Empty for no limit.
	inherited bool   // From the pool's default, and not by the device.
}

// rootSize is how large the root of an instance may get.
func (in *instance) rootSize() sizeOf {
	name, disk, _ := root(in.expanded)
	if disk["size"] != "" {
		return sizeOf{name, disk["size"], false}
	}
	return sizeOf{name, in.Config[keyRootSize], true}
}

// sizedAnew reports whether the root of in has another size than what it was
// made of, of which it can therefore have too much. A copy that is as full as
// its source is none of that, also if it is a little more than full.
func sizedAnew(src source, in *instance) bool {
	switch src := src.(type) {
	case *fromImage:
		return true
	case *fromCopy:
		return src.limit != in.rootSize().text
	}
	return false
}

// mustHaveFit returns an error if the root of in holds more than its size.
func mustHaveFit(ctx context.Context, d storage.Driver, in *instance) error {
	of := in.rootSize()
	if of.text == "" {
		return nil
	}
	size, err := units.ParseBytes(of.text)
	if err != nil {
		return fmt.Errorf("device %q: size: %w", of.device, err)
	}
	if err := storage.MustHaveFit(ctx, d, in.volume(), size); err != nil {
		return fmt.Errorf("device %q: %w", of.device, err)
	}
	return nil
}

func limitVolume(ctx context.Context, d storage.Driver, v storage.Volume, of sizeOf) error {
	if of.text == "" {
		return nil
	}
	size, err := units.ParseBytes(of.text)
	if err != nil {
		return fmt.Errorf("device %q: size: %w", of.device, err)
	}
	return setSize(ctx, d, v, size)
}

// keepSize gives the volume v, which in is to have, the size that what it was
// made of had by its pool's default: a pool that has no limits does without.
func (s *Service) keepSize(ctx context.Context, d storage.Driver, v storage.Volume, in *instance) error {
	of := in.rootSize()
	err := limitVolume(ctx, d, v, of)
	if of.inherited && errs.Is(err, errs.Unsupported) {
		s.Logger.WarnContext(ctx, "an instance has no limit any more: its new pool has none", "instance", in.Name, "size", of.text, "err", err)
		in.apply(map[string]string{keyRootSize: ""})
		return nil
	}
	return err
}

// keepSizeOf is keepSize for the root of an instance that is on record.
func (s *Service) keepSizeOf(ctx context.Context, d storage.Driver, in *instance) error {
	before := in.Config[keyRootSize]
	if err := s.keepSize(ctx, d, in.volume(), in); err != nil || in.Config[keyRootSize] == before {
		return err
	}
	return s.patch(ctx, in, map[string]string{keyRootSize: ""})
}

func setSize(ctx context.Context, d storage.Driver, v storage.Volume, size int64) error {
	l, ok := d.(storage.Limiter)
	if !ok {
		return errs.Newf(errs.Unsupported, "the storage pool cannot limit the size of a root disk")
	}
	if err := l.Limit(ctx, v, size); err != nil {
		return fmt.Errorf("limit the size of the root disk: %w", err)
	}
	return nil
}
