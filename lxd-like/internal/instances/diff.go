package instances

import (
	"context"
	"io/fs"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// Diff calls fn with each file of an instance that changed from one snapshot
// to another, in no order. An empty from is the newest snapshot, and an empty
// to the instance as it is now, which may run. An error of fn ends it.
func (s *Service) Diff(ctx context.Context, name, from, to string, fn func(api.FileChange) error) error {
	turn, err := s.copies.LockContext(ctx, name) // Both mount snapshots.
	if err != nil {
		return err
	}
	defer turn()
	in, from, release, err := s.holdStates(ctx, name, from, to)
	if err != nil {
		return err
	}
	defer release()
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	return transfer.Diff(ctx, d, in.snapshotVolume(from), in.snapshotVolume(to), func(c storage.Change) error {
		path, ok := insideRoot(c.Path)
		if !ok {
			return nil
		}
		return fn(api.FileChange{Op: string(c.Op), Type: fileType(c), Path: path})
	})
}

// holdStates finds the snapshots to compare, and keeps them until release is
// called.
func (s *Service) holdStates(ctx context.Context, name, from, to string) (in *instance, first string, release func(), err error) { //nolint:revive // Two of them are for the caller's defer.
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return nil, "", nil, err
	}
	defer unlock()
	if from == "" {
		snaps, err := s.wholeSnapshots(ctx, name)
		if err != nil {
			return nil, "", nil, err
		}
		if len(snaps) == 0 {
			return nil, "", nil, errs.NotFoundf("instance %q has no snapshot to compare with", name)
		}
		from = snaps[len(snaps)-1].Name
	}
	keys := []string{copying(name)}
	for _, snapshot := range []string{from, to} {
		if snapshot == "" {
			continue
		}
		if _, err := s.snapshot(ctx, name, snapshot); err != nil {
			return nil, "", nil, err
		}
		keys = append(keys, visitKey(name, snapshot))
	}
	release, err = s.visits.hold(ctx, keys)
	return in, from, release, err
}

// insideRoot is the path of a file of a volume as the guest sees it, which
// sees what is below rootfs.
func insideRoot(path string) (string, bool) {
	if path == "rootfs" {
		return "/", true
	}
	rest, ok := strings.CutPrefix(path, "rootfs/")
	return "/" + rest, ok
}

// fileType names the type of what changed, if it is known.
func fileType(c storage.Change) string {
	switch t := c.Mode.Type(); {
	case t.IsDir():
		return "directory"
	case t&fs.ModeSymlink != 0:
		return "symlink"
	case t&fs.ModeDevice != 0:
		return "device"
	case t&fs.ModeNamedPipe != 0:
		return "pipe"
	case t&fs.ModeSocket != 0:
		return "socket"
	case c.Mode == 0 && c.Op == storage.Removed:
		return ""
	}
	return "file"
}
