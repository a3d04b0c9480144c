package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/archive"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/units"
)

// publishProgress is the key of an operation's metadata that says how far a
// publication is. The peers have it too.
const publishProgress = "create_image_from_container_pack_progress"

// Stored is what there is on disk of an instance, or of a snapshot.
type Stored struct {
	Dir          string // It holds rootfs, and metadata.yaml and templates if there are.
	Architecture string
	Properties   map[string]string // Those of the image that it was made of.
	Release      func()            // To be called when Dir is not used any more.
}

// An instanceKeeper is what images need of instances.
type instanceKeeper interface {
	// CheckStored checks that Stored could open something.
	CheckStored(ctx context.Context, source string) error
	// Stored opens an instance that does not run, or a snapshot: "c1" or
	// "c1/snap0".
	Stored(ctx context.Context, source string) (Stored, error)
}

// algorithms are the compression algorithms that images can have.
var algorithms = map[string]archive.Format{
	"none": archive.Tar, "gzip": archive.Gzip, "zstd": archive.Zstd, "xz": archive.Xz, "bzip2": archive.Bzip2,
}

// defaultAlgorithm is the one that is done soonest.
const defaultAlgorithm = "zstd"

// publish makes an image of an instance or of a snapshot.
func (s *Service) publish(ctx context.Context, in string, req api.ImagesPost) (ops.Job, error) {
	if req.CompressionAlgorithm == "" && s.Algorithm != nil {
		req.CompressionAlgorithm = s.Algorithm(ctx)
	}
	p, err := s.publication(in, req)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.Instances.CheckStored(ctx, p.source); err != nil {
		return ops.Job{}, err
	}
	if err := s.incoming(in, p.aliases).check(ctx, &p.put); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Publishing " + req.Source.Type,
		Resources:   map[string][]string{"instances": {"/1.0/instances/" + strings.Replace(p.source, "/", "/snapshots/", 1)}},
		Cancelable:  true,
		Run: func(ctx context.Context, op *ops.Op) error {
			image, err := p.run(ctx, op)
			if err != nil {
				return fmt.Errorf("publish %s %q: %w", req.Source.Type, p.source, err)
			}
			for k, v := range result(image) {
				op.SetMetadata(k, v)
			}
			return nil
		},
	}, nil
}

// A publication is an image that is to be made of an instance.
type publication struct {
	s        *Service
	project  string // Of the image.
	source   string // "c1" or "c1/snap0", of any project.
	format   archive.Format
	split    bool // The root file system has a file of its own.
	filename string
	put      api.ImagePut
	aliases  []api.ImageAlias
}

// publication reads a request.
func (s *Service) publication(in string, req api.ImagesPost) (*publication, error) {
	src := req.Source
	name, snapshot, slash := strings.Cut(src.Name, "/")
	switch {
	case src.Type == "instance" && (slash || name == ""):
		return nil, errs.Invalidf("source.name is %q: want the name of an instance", src.Name)
	case src.Type == "snapshot" && (name == "" || snapshot == ""):
		return nil, errs.Invalidf("source.name is %q: want INSTANCE/SNAPSHOT", src.Name)
	case !slices.Contains([]string{"", "unified", "split"}, req.Format):
		return nil, errs.Invalidf("format is %q: want unified or split", req.Format)
	}
	algorithm := req.CompressionAlgorithm
	if algorithm == "" {
		algorithm = defaultAlgorithm
	}
	format, ok := algorithms[algorithm]
	if !ok {
		return nil, errs.Invalidf("compression_algorithm is %q: want one of %s", algorithm, strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "))
	}
	p := &publication{
		s: s, project: in, source: src.Name, format: format, split: req.Format == "split", put: req.ImagePut, aliases: req.Aliases,
	}
	p.filename = req.Filename
	if p.filename == "" {
		p.filename = strings.ReplaceAll(project.InstanceName(src.Name), "/", "-") + string(format)
	}
	if strings.ContainsAny(p.filename, "/\x00") {
		return nil, errs.Invalidf("filename is %q: want one without directories", req.Filename)
	}
	return p, nil
}

// run makes the image in a directory of its own and keeps it.
func (p *publication) run(ctx context.Context, op *ops.Op) (_ db.Image, err error) {
	in := p.s.incoming(p.project, p.aliases)
	in.split, in.image.Filename = p.split, p.filename
	if err := in.begin(ctx, p.put); err != nil {
		return db.Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(in.dir)) }()

	meta, err := p.pack(ctx, in, op)
	if err != nil {
		return db.Image{}, diskFull(p.s.dir(), err)
	}
	in.describe(meta)
	if err := in.identify(ctx, ""); err != nil {
		return db.Image{}, err
	}
	return in.image, in.keep(ctx)
}

// pack writes the image's file. It has let go of the instance when it returns.
func (p *publication) pack(ctx context.Context, in *incoming, op *ops.Op) (api.ImageMetadata, error) {
	stored, err := p.s.Instances.Stored(ctx, p.source)
	if err != nil {
		return api.ImageMetadata{}, err
	}
	defer stored.Release()

	meta, err := p.metadata(stored)
	if err != nil {
		return meta, err
	}
	head := packing{file: "image", dir: stored.Dir, parts: []string{templatesDir, rootfsDir}, meta: &meta}
	if p.split {
		head.parts = []string{templatesDir}
		root := packing{file: "rootfs", dir: filepath.Join(stored.Dir, rootfsDir), parts: []string{"."}}
		return meta, errors.Join(p.packFile(ctx, in, op, head), p.packFile(ctx, in, op, root))
	}
	return meta, p.packFile(ctx, in, op, head)
}

// A packing is what goes into one file of an image.
type packing struct {
	file  string
	dir   string             // That parts are in.
	parts []string           // Directories. That of templates need not be there.
	meta  *api.ImageMetadata // Nil for none.
}

// packFile packs and compresses one file of the image.
func (p *publication) packFile(ctx context.Context, in *incoming, op *ops.Op, what packing) error {
	plain, w := io.Pipe()
	packed, err := archive.Compress(ctx, plain, p.format)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		err := what.write(ctx, &packMeter{w: w, op: op})
		_ = w.CloseWithError(err) // It never fails.
		failed <- err
	}()
	err = in.add(ctx, what.file, packed)
	_ = plain.CloseWithError(err) // So that who packs does not wait for a reader. It never fails.
	err = errors.Join(err, packed.Close())
	// One of the two failed first, and made the other fail.
	if cause := <-failed; cause != nil && (err == nil || errors.Is(err, cause)) {
		return cause
	}
	return err
}

// metadata returns what the image is to say of itself: what the one that the
// instance was made of says, with what the user says instead.
func (p *publication) metadata(stored Stored) (api.ImageMetadata, error) {
	var meta api.ImageMetadata
	data, err := os.ReadFile(filepath.Join(stored.Dir, metadataFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return meta, err
	}
	if err := yaml.Unmarshal(data, &meta); err != nil {
		return meta, errs.Newf(errs.Invalid, "metadata.yaml: %w", err)
	}
	properties := map[string]string{}
	for _, some := range []map[string]string{meta.Properties, stored.Properties, p.put.Properties} {
		maps.Copy(properties, some)
	}
	meta.Properties, meta.Architecture = properties, stored.Architecture
	meta.CreationDate, meta.ExpiryDate = time.Now().Unix(), 0
	if !p.put.ExpiresAt.IsZero() {
		meta.ExpiryDate = p.put.ExpiresAt.Unix()
	}
	// Users can edit it, but what the image has must be fit to be imported.
	text, err := formatMetadata(meta)
	if err != nil {
		return meta, err
	}
	return ParseMetadata(text)
}

// write writes the tar.
func (w packing) write(ctx context.Context, to io.Writer) error {
	t := archive.NewPacker(ctx, to)
	if w.meta != nil {
		text, err := formatMetadata(*w.meta)
		if err != nil {
			return err
		}
		// Two images of the same instance differ, in this if in nothing else.
		if err := t.File(metadataFile, text, time.Now()); err != nil {
			return err
		}
	}
	for _, part := range w.parts {
		err := t.Tree(filepath.Join(w.dir, part), part)
		if err != nil && (part != templatesDir || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	return t.Close()
}

// tellEvery is after how many bytes a publication says how far it is.
const tellEvery = 16 << 20

// A packMeter tells an operation how much was written to w.
type packMeter struct {
	w    io.Writer
	op   *ops.Op
	done int64
}

func (m *packMeter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	before := m.done / tellEvery
	m.done += int64(n)
	if m.op != nil && (m.done/tellEvery > before || m.done == int64(n)) {
		m.op.SetMetadata(publishProgress, "Packing image: "+units.FormatBytes(m.done/tellEvery*tellEvery))
	}
	return n, err
}
