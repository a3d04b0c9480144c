// Package dir keeps volumes as plain directories. It works on every file
// system with idmapped mounts. A clone is a copy, which shares its blocks
// with the source where the file system can do that (xfs, btrfs).
package dir

import (
	"context"
	"os"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/mounts"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
	"github.com/cuib/cuib/storage/internal/plain"
)

// form is what a pool of this driver looks like.
var form = layout.Form{Driver: "dir"}

// Type is the kind of pool.
func Type() storage.Type {
	return storage.Type{
		Check:   func(context.Context) error { return nil },
		Make:    makePool,
		Adopt:   adopt,
		Open:    open,
		Remove:  remove,
		Options: map[string]string{},
		Version: func(context.Context) string { return "1" },
	}
}

func makePool(ctx context.Context, cfg storage.Config) (storage.Config, error) {
	if cfg.Options["size"] != "" {
		return cfg, errs.Invalidf("key \"size\": a dir pool takes the room of the file system that it is on")
	}
	return cfg, form.MakePool(ctx, cfg, mkdir, probe)
}

func mkdir(path string) error { return os.Mkdir(path, 0o700) }

// probe returns an error if ids cannot be mapped in dir.
func probe(dir string) error {
	f, err := mounts.Tree(dir, mounts.Options{IDs: layout.ProbeIDs(), ReadOnly: true})
	if err != nil {
		return err
	}
	return f.Close()
}

func adopt(_ context.Context, cfg storage.Config) (storage.Config, error) {
	return cfg, form.Adopt(layout.RootOf(cfg))
}

func open(_ context.Context, cfg storage.Config) (storage.Driver, error) {
	b, err := form.Open(cfg)
	if err != nil {
		return nil, err
	}
	return &driver{plain.Driver{Base: b}}, nil
}

func remove(_ context.Context, cfg storage.Config) error { return form.RemovePool(cfg) }

type driver struct{ plain.Driver }

var (
	_ storage.Limiter  = (*driver)(nil)
	_ storage.Spacer   = (*driver)(nil)
	_ storage.Recorder = (*driver)(nil)
	_ storage.Sweeper  = (*driver)(nil)
)
