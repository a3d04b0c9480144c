package zfs

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// A place is where a pool's data is.
type place struct {
	root   string // The dataset.
	image  string // The file that the zpool is on, if it is on one.
	device string // The block device that it is on, if it is on one.
}

// disk returns the file or device of a zpool that is the pool's own.
func (p place) disk() string { return p.image + p.device } // One of them.

// zpool returns the name of the zpool.
func (p place) zpool() string {
	name, _, _ := strings.Cut(p.root, "/")
	return name
}

// imageIn returns the file of a pool without a source.
func imageIn(cfg storage.Config) string { return filepath.Join(cfg.Dir, "zfs.img") }

// placeOf returns where a pool's data is, or is to be.
func placeOf(cfg storage.Config) (place, error) {
	p := place{root: cfg.Options[poolKey]}
	switch {
	case cfg.Source == "":
		p.image = imageIn(cfg)
	case filepath.IsAbs(cfg.Source):
		st, err := os.Stat(cfg.Source)
		if errors.Is(err, fs.ErrNotExist) {
			return p, errs.Newf(errs.Unavailable, "the device %s is not there", cfg.Source)
		}
		if err != nil {
			return p, err
		}
		switch {
		case st.Mode().IsRegular():
			p.image = cfg.Source
		case st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice:
			p.device = cfg.Source
		default:
			return p, errs.Invalidf("source %q is no block device or file: give one, or the name of a zpool or dataset", cfg.Source)
		}
	default:
		p.root = cfg.Source
		return p, checkDataset("source", p.root)
	}
	if p.root == "" {
		p.root = cfg.Name
	}
	if strings.Contains(p.root, "/") {
		return p, errs.Invalidf("key %q: %q is a dataset: give it as source, or the name of a zpool to make", poolKey, p.root)
	}
	return p, checkDataset(poolKey, p.root)
}

// keep returns the configuration with what is known of the place.
func (p place) keep(cfg storage.Config, size string) storage.Config {
	options := maps.Clone(cfg.Options)
	if options == nil {
		options = map[string]string{}
	}
	options[poolKey] = p.root
	if size != "" {
		options[sizeKey] = size
	}
	cfg.Options = options
	return cfg
}

// Properties by which datasets are known.
const (
	poolProp = "cuib:pool" // Of a pool's dataset: the pool's name.
	madeProp = "cuib:made" // Of one that was made for the pool.
)

// marks are the values of poolProp and madeProp that a pool's dataset has of
// its own.
type marks struct{ pool, made string }

// marks returns those of the pool's dataset. It is an error of kind NotFound
// if there is none.
func (p place) marks(ctx context.Context) (m marks, err error) {
	all, err := rows(ctx, "get", "-H", "-o", "property,value,source", poolProp+","+madeProp, p.root)
	for _, row := range all {
		switch {
		case row[2] != "local":
		case row[0] == poolProp:
			m.pool = row[1]
		case row[0] == madeProp:
			m.made = row[1]
		}
	}
	return m, err
}

// find returns the marks of the pool's dataset. It imports the zpool if it is
// not, and changes the place to the name that the zpool has. An error of kind
// NotFound is for none.
func (p *place) find(ctx context.Context) (marks, error) {
	m, err := p.marks(ctx)
	if !isMissing(err) {
		return m, err
	}
	if err := p.load(ctx); err != nil {
		return m, err
	}
	return p.marks(ctx)
}

// load imports the zpool.
func (p *place) load(ctx context.Context) error {
	if p.disk() == "" {
		if _, ierr := zpool(ctx, "import", "-N", p.zpool()); ierr != nil {
			return errs.NotFoundf("there is no dataset %q, nor a zpool to import for it", p.root)
		}
		return nil
	}
	if _, err := os.Stat(p.disk()); errors.Is(err, fs.ErrNotExist) {
		return errs.NotFoundf("the pool's file %s is not there", p.disk())
	}
	name, err := importedOn(ctx, p.disk())
	if err == nil && name != "" {
		p.root = name
	}
	if err != nil || name != "" {
		return err
	}
	out, err := zpool(ctx, "import", "-d", p.disk()) // Fails if it finds none.
	if err != nil && !says(err, "no pools available") {
		return err
	}
	for line := range strings.SplitSeq(out, "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "pool: "); ok {
			p.root = name
			_, err := zpool(ctx, append([]string{"import", "-N", "-d", p.disk()}, append(p.cache(), name)...)...)
			return err
		}
	}
	return errs.NotFoundf("there is no zpool on %s", p.disk())
}

// cache keeps a zpool on a file from being imported with the host's, before
// the file system that the file is on.
func (p place) cache() []string {
	if p.image != "" {
		return []string{"-o", "cachefile=none"}
	}
	return nil
}

// importedOn returns the zpool that has the file or device, and is imported.
func importedOn(ctx context.Context, disk string) (string, error) {
	out, err := zpool(ctx, "list", "-v", "-H", "-P")
	if err != nil {
		return "", err
	}
	if file, err := filepath.EvalSymlinks(disk); err == nil {
		disk = file
	}
	name := ""
	for line := range strings.SplitSeq(out, "\n") {
		if !strings.HasPrefix(line, "\t") {
			name, _, _ = strings.Cut(line, "\t")
			continue
		}
		vdev, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if file, err := filepath.EvalSymlinks(vdev); err == nil {
			vdev = file
		}
		if vdev == disk || isPartition(vdev, disk) {
			return name, nil
		}
	}
	return "", nil
}

// isPartition reports whether part is the first partition of disk, which is
// where a zpool on a whole disk is.
func isPartition(part, disk string) bool {
	return strings.HasPrefix(disk, "/dev/") && (part == disk+"1" || part == disk+"p1" || part == disk+"-part1")
}

// mustBeThere returns an error of kind Unavailable if the pool is gone, in
// which nothing can be found.
func (p place) mustBeThere(ctx context.Context) error {
	free, err := isFree(ctx, p.root)
	if err == nil && free {
		err = gone(p.root)
	}
	return err
}

func gone(root string) error {
	return errs.Newf(errs.Unavailable, "the dataset %q is not there any more: was its zpool exported, or renamed?", root)
}
