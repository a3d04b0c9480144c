// Package archives writes and reads backups: one instance or custom volume in
// one file, in the format that LXD and Incus have. It knows volumes,
// documents and files, and no database.
//
// A backup is a tar, compressed or not. First comes backup/index.yaml, which
// says what follows: of each snapshot, the oldest first, and then of the
// instance or volume itself, either all files, or a stream of the storage
// driver.
//
//	backup/index.yaml
//	backup/optimized_header.yaml            of streams of btrfs
//	backup/snapshots/NAME/...               or NAME.bin, the driver's stream
//	backup/container/backup.yaml            the document
//	backup/container/{metadata.yaml,templates,rootfs,tpm.DEVICE}
//
// A custom volume's are backup/volume-snapshots/NAME and backup/volume, and
// those of an ISO image are the image: backup/volume.img.
package archives

import (
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

const (
	indexName  = "backup/index.yaml"
	headerName = "backup/optimized_header.yaml"

	// maxIndex is how large an index can be: it is read into memory. With
	// 10,000 snapshots it has a fifth of that.
	maxIndex = 64 << 20
)

// The files of an instance's volume.
const (
	rootfsDir    = "rootfs"
	templatesDir = "templates"
	metadataFile = "metadata.yaml"
	documentFile = "backup.yaml"
	tpmPrefix    = "tpm." // Before the name of a device: what its TPM holds.
)

// isoFile is the one file of a volume that is an ISO image.
const isoFile = "root.iso"

// An Index says what a backup holds.
type Index struct {
	Name            string
	Backend         string   // The storage driver that it comes from.
	Pool            string   // The pool's name.
	Snapshots       []string // Names, oldest first.
	Optimized       bool     // It holds streams of the driver.
	OptimizedHeader bool     // Which have a description beside them.
	Kind            storage.Kind
	Document        api.Document
}

// wireIndex is an index as it is in backups.
type wireIndex struct {
	Name            string    `yaml:"name"`
	Backend         string    `yaml:"backend"`
	Pool            string    `yaml:"pool"`
	Snapshots       []string  `yaml:"snapshots,omitempty"`
	Optimized       bool      `yaml:"optimized"`
	OptimizedHeader bool      `yaml:"optimized_header"`
	Type            string    `yaml:"type,omitempty"`
	Config          yaml.Node `yaml:"config,omitempty"`
}

// The types of backup.
const (
	typeContainer = "container"
	typeCustom    = "custom"
)

// text formats an index.
func (x Index) text() ([]byte, error) {
	w := wireIndex{
		Name: x.Name, Backend: x.Backend, Pool: x.Pool, Snapshots: x.Snapshots,
		Optimized: x.Optimized, OptimizedHeader: x.OptimizedHeader, Type: typeContainer,
	}
	if x.Kind == storage.Custom {
		w.Type = typeCustom
	}
	doc, err := x.Document.YAML()
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(doc, &node); err != nil {
		return nil, err
	}
	w.Config = *node.Content[0] // The document's root.
	return yaml.Marshal(w)
}

// parseIndex reads an index and checks that it can be what it says.
func parseIndex(text []byte) (Index, error) {
	var w wireIndex
	if err := yaml.Unmarshal(text, &w); err != nil {
		return Index{}, errs.Invalidf("%s: %w", indexName, err)
	}
	x := Index{
		Name: w.Name, Backend: w.Backend, Pool: w.Pool, Snapshots: w.Snapshots,
		Optimized: w.Optimized, OptimizedHeader: w.OptimizedHeader, Kind: storage.Instance,
	}
	switch w.Type {
	case "", typeContainer:
	case typeCustom:
		x.Kind = storage.Custom
	default:
		return x, errs.Newf(errs.Unsupported, "the backup is of type %q: want one of a container or of a custom volume", w.Type)
	}
	if w.Config.Kind == 0 {
		return x, errs.Invalidf("%s has no config: it was made by a version of LXD before 5.0, which can import it and export it again", indexName)
	}
	if err := x.parseDocument(&w.Config); err != nil {
		return x, errs.Invalidf("%s: config: %w", indexName, err)
	}
	return x, x.check()
}

func (x *Index) parseDocument(node *yaml.Node) error {
	text, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	if x.Document, err = api.ParseDocument(text); err == nil {
		x.Document = prune(x.Document, x.Snapshots)
	}
	return err
}

func (x Index) check() error {
	switch {
	case x.Name == "":
		return errs.Invalidf("%s: name is missing", indexName)
	case x.Kind == storage.Instance && x.Document.Instance == nil:
		return errs.Invalidf("%s: config: container is missing", indexName)
	case x.Kind == storage.Custom && x.Document.Volume == nil:
		return errs.Invalidf("%s: config: volume is missing", indexName)
	}
	for i, name := range x.Snapshots {
		if name == "" || storage.Hidden(name) || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
			return errs.Invalidf("%s: %q is no name of a snapshot", indexName, name)
		}
		if slices.Contains(x.Snapshots[:i], name) {
			return errs.Invalidf("%s: snapshot %q is named twice", indexName, name)
		}
	}
	if x.iso() && x.Optimized {
		return errs.Invalidf("%s: an ISO image cannot be optimized", indexName)
	}
	return x.checkDocument()
}

// checkDocument checks that the document describes the snapshots that the
// index names, no more and no less.
func (x Index) checkDocument() error {
	described := map[string]bool{}
	for _, s := range x.Document.Snapshots {
		described[path.Base(s.Name)] = true // Some have the instance's name before it.
	}
	if x.Kind == storage.Custom {
		for _, s := range x.Document.VolumeSnapshots {
			described[path.Base(s.Name)] = true
		}
	}
	for _, name := range x.Snapshots {
		if !described[name] {
			return errs.Invalidf("%s: snapshot %q is not described in config", indexName, name)
		}
	}
	if content := x.content(); x.Kind == storage.Custom && content != "filesystem" && content != "iso" {
		return errs.Newf(errs.Unsupported, "the volume has content type %q: want filesystem or iso", content)
	}
	return nil
}

// content is the content type of a custom volume.
func (x Index) content() string {
	if x.Document.Volume == nil || x.Document.Volume.ContentType == "" {
		return "filesystem"
	}
	return x.Document.Volume.ContentType
}

func (x Index) iso() bool { return x.Kind == storage.Custom && x.content() == "iso" }

// place is where in a backup a snapshot is or, if the name is empty, what it
// is a snapshot of.
func (x Index) place(snapshot string) string {
	switch {
	case x.Kind == storage.Custom && snapshot == "":
		return "backup/volume"
	case x.Kind == storage.Custom:
		return "backup/volume-snapshots/" + snapshot
	case snapshot == "":
		return "backup/container"
	}
	return "backup/snapshots/" + snapshot
}

// suffix is what follows the place where that is one file.
func (x Index) suffix() string {
	switch {
	case x.Optimized:
		return ".bin"
	case x.iso():
		return ".img"
	}
	return ""
}

// prune takes from a document the snapshots that a backup does not have.
func prune(doc api.Document, snapshots []string) api.Document {
	doc.Snapshots = slices.DeleteFunc(slices.Clone(doc.Snapshots), func(s api.InstanceSnapshot) bool {
		return !slices.Contains(snapshots, path.Base(s.Name))
	})
	doc.VolumeSnapshots = slices.DeleteFunc(slices.Clone(doc.VolumeSnapshots), func(s api.StorageVolumeSnapshot) bool {
		return !slices.Contains(snapshots, path.Base(s.Name))
	})
	return doc
}

// A header describes the streams of btrfs.
type header struct {
	Subvolumes []subvolume `yaml:"subvolumes"`
}

type subvolume struct {
	Path     string `yaml:"path"`
	Snapshot string `yaml:"snapshot"`
	ReadOnly bool   `yaml:"readonly"`
	UUID     string `yaml:"uuid,omitempty"`
}

// headerText describes streams of volumes without other subvolumes in them.
func (x Index) headerText() ([]byte, error) {
	var h header
	for _, name := range x.Snapshots {
		h.Subvolumes = append(h.Subvolumes, subvolume{Path: "/", Snapshot: name, ReadOnly: true})
	}
	h.Subvolumes = append(h.Subvolumes, subvolume{Path: "/"})
	return yaml.Marshal(h)
}

// checkHeader refuses streams that the driver would not get.
func checkHeader(text []byte) error {
	var h header
	if err := yaml.Unmarshal(text, &h); err != nil {
		return errs.Invalidf("%s: %w", headerName, err)
	}
	for _, s := range h.Subvolumes {
		if s.Path != "/" {
			return errs.Newf(errs.Unsupported,
				"the backup has a btrfs subvolume %q within it, which streams cannot bring here: export it without optimized storage", s.Path)
		}
	}
	return nil
}
