package volumes

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/guestfs"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// Files opens the file system of a volume, with the ids that are stored. The
// caller closes it.
func (s *Service) Files(ctx context.Context, ref Ref) (*guestfs.FS, error) {
	v, err := s.custom(ctx, ref)
	if err != nil {
		return nil, err
	}
	if v.ContentType != filesystem {
		return nil, errs.Invalidf("volume %q is of content type %s: it has no files, attach it to an instance", ref.Name, v.ContentType)
	}
	dir, leave, err := s.visit(ctx, target{Ref: ref})
	if err != nil {
		return nil, err
	}
	root, err := os.Open(dir)
	if err != nil {
		leave()
		return nil, fmt.Errorf("open the root of volume %q: %w", ref.Name, err)
	}
	return guestfs.New(root, nil, leave), nil
}

// Diff returns what changed in a volume from one snapshot to another. An empty
// from is the newest snapshot, and an empty to the volume as it is now.
func (s *Service) Diff(ctx context.Context, ref Ref, from, to string) ([]api.FileChange, error) {
	if _, err := s.custom(ctx, ref); err != nil {
		return nil, err
	}
	if from == "" {
		snaps, err := s.seenSnapshots(ctx, ref)
		if err != nil {
			return nil, err
		}
		if len(snaps) == 0 {
			return nil, errs.NotFoundf("volume %q has no snapshot to compare with", ref.Name)
		}
		from = snaps[len(snaps)-1].Name
	}
	for _, name := range []string{from, to} {
		if name == "" {
			continue
		}
		if err := s.exists(ctx, ref, name); err != nil {
			return nil, err
		}
	}
	return s.diff(ctx, ref, from, to)
}

// diff compares two states of a volume. The volume itself is seen by a hidden
// snapshot: it goes on meanwhile.
func (s *Service) diff(ctx context.Context, ref Ref, from, to string) ([]api.FileChange, error) {
	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return nil, err
	}
	if to == "" {
		to = storage.NewHidden(storage.ForDiff)
		if err := s.hide(ctx, ref, to, db.Pending); err != nil {
			return nil, err
		}
		defer s.unhideLater(ctx, ref, to)
	}
	leave, err := s.visitAll(ctx, target{ref, from}, target{ref, to})
	if err != nil {
		return nil, err
	}
	defer leave()
	out := []api.FileChange{}
	err = transfer.Diff(ctx, d, snapshotVolume(ref, from), snapshotVolume(ref, to), func(c storage.Change) error {
		out = append(out, api.FileChange{Op: string(c.Op), Type: fileTypes[c.Mode.Type()], Path: "/" + c.Path})
		return nil
	})
	return out, err
}

// visitAll visits targets, so that nobody deletes or renames them.
func (s *Service) visitAll(ctx context.Context, targets ...target) (leave func(), err error) {
	var leaves []func()
	leave = func() {
		for _, one := range leaves {
			one()
		}
	}
	for _, t := range targets {
		_, one, err := s.visit(ctx, t)
		if err != nil {
			leave()
			return nil, err
		}
		leaves = append(leaves, one)
	}
	return leave, nil
}

// fileTypes name the types of files that have changed.
var fileTypes = map[fs.FileMode]string{
	0: "file", fs.ModeDir: "directory", fs.ModeSymlink: "symlink", fs.ModeDevice: "device",
	fs.ModeDevice | fs.ModeCharDevice: "device", fs.ModeNamedPipe: "pipe", fs.ModeSocket: "socket",
}
