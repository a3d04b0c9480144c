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
		if _, err := s.snapshot(ctx, ref, name); err != nil {
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
		to = newHidden("diff")
		if err := s.hide(ctx, ref, to, db.Pending); err != nil {
			return nil, err
		}
		defer s.unhideLater(ctx, ref, to)
	}
	// Both are visited: nobody deletes or renames them.
	for _, name := range []string{from, to} {
		_, leave, err := s.visit(ctx, target{ref, name})
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	out := []api.FileChange{}
	err = transfer.Diff(ctx, d, snapshotVolume(ref, from), snapshotVolume(ref, to), func(c storage.Change) error {
		out = append(out, api.FileChange{Op: string(c.Op), Type: fileType(c.Mode), Path: "/" + c.Path})
		return nil
	})
	return out, err
}

// fileType names the type of a file that has changed.
func fileType(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symlink"
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		return "device"
	case fs.ModeNamedPipe:
		return "pipe"
	case fs.ModeSocket:
		return "socket"
	}
	return ""
}
