package instances

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/uuid"
)

// metadataFile is what an image says of itself, in the volume beside rootfs.
const metadataFile = "metadata.yaml"

// Metadata returns what the instance's image says of itself.
func (s *Service) Metadata(ctx context.Context, name string) (api.ImageMetadata, error) {
	var meta api.ImageMetadata
	err := s.inVolume(ctx, name, func(_ *instance, dir string) error {
		var err error
		meta, err = readMetadata(dir)
		return err
	})
	if meta.Properties == nil {
		meta.Properties = map[string]string{}
	}
	if meta.Templates == nil {
		meta.Templates = map[string]*api.ImageMetadataTemplate{}
	}
	return meta, err
}

// SetMetadata replaces what the instance's image says of itself.
func (s *Service) SetMetadata(ctx context.Context, name string, meta api.ImageMetadata) error {
	data, err := yaml.Marshal(meta)
	if err != nil {
		return err
	}
	err = s.inVolume(ctx, name, func(_ *instance, dir string) error { return writeMetadata(dir, data) })
	if err == nil {
		s.event("instance-metadata-updated", name, nil)
	}
	return err
}

// inVolume calls fn with the directory of an instance's volume, whose lock
// it holds.
func (s *Service) inVolume(ctx context.Context, name string, fn func(in *instance, dir string) error) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	a := s.index.get(name)
	if a == nil {
		v, err := s.visit(ctx, name, "")
		if err != nil {
			return err
		}
		defer v.leave()
		return fn(in, v.dir)
	}
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	dir, err := d.Mount(ctx, in.volume(), a.ids) // It is mounted so already.
	if err != nil {
		return err
	}
	return fn(in, dir)
}

func readMetadata(dir string) (api.ImageMetadata, error) {
	var meta api.ImageMetadata
	data, err := os.ReadFile(filepath.Join(dir, metadataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return meta, nil
	}
	if err != nil {
		return meta, err
	}
	if err := yaml.Unmarshal(data, &meta); err != nil {
		return meta, fmt.Errorf("%s: %w", metadataFile, err)
	}
	return meta, nil
}

// writeMetadata replaces the contents of the file. It does not replace the
// file itself: a mount that maps owners has no place for the daemon's.
func writeMetadata(dir string, data []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, metadataFile), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// renderTemplates renders the templates for some events, in a volume that is
// mounted as it is stored.
func renderTemplates(in *instance, set profiles.Settings, dir string, triggers ...images.Trigger) error {
	meta, err := readMetadata(dir)
	if err != nil {
		return err
	}
	vars := images.Vars{
		Name: in.Name, Architecture: in.Architecture, Ephemeral: in.Ephemeral, Privileged: set.Security.Privileged,
		Config: profiles.CloudInit(in.expanded), Devices: in.expanded.Devices,
	}
	for _, trigger := range triggers {
		if err := images.RenderTemplates(dir, meta, trigger, vars); err != nil {
			return err
		}
	}
	return nil
}

// newMachine gives a guest that has booted elsewhere, or as another instance,
// an id of its own: its instance's.
func newMachine(in *instance, dir string, triggers []images.Trigger) error {
	if !slices.Contains(triggers, images.OnCreate) && !slices.Contains(triggers, images.OnCopy) {
		return nil
	}
	id := in.Config[keyUUID]
	if id == "" {
		id = uuid.New() // It is older than the key.
	}
	return images.SetMachineID(dir, strings.ReplaceAll(id, "-", ""))
}

// rendersAtStart reports whether an image has templates for every start.
func rendersAtStart(dir string) (bool, error) {
	meta, err := readMetadata(dir)
	for _, t := range meta.Templates {
		if t != nil && slices.Contains(t.When, string(images.OnStart)) {
			return true, err
		}
	}
	return false, err
}
