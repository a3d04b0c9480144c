package instances

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// What a snapshot, and a restoration, is of.
const (
	rootOnly     = "root"
	allExclusive = "all-exclusive"
)

// volumeSnapshots keeps the snapshots of custom volumes. It locks the
// instances that have a volume: nobody who calls it holds a lock of one.
type volumeSnapshots interface {
	Snapshots(ctx context.Context, pool, typ, name string) ([]api.StorageVolumeSnapshot, error)
	CreateSnapshot(ctx context.Context, ref db.VolumeRef, req api.StorageVolumeSnapshotsPost) (ops.Job, error)
	DeleteSnapshot(ctx context.Context, ref db.VolumeRef, snapshot string) (ops.Job, error)
	Restore(ctx context.Context, ref db.VolumeRef, snapshot string) error
}

// disksOf returns the volumes of an instance that a mode means beside the root.
func (s *Service) disksOf(ctx context.Context, in *instance, field, mode string) ([]db.VolumeRef, error) {
	switch mode {
	case "", rootOnly:
		return nil, nil
	case allExclusive:
	default:
		return nil, errs.Invalidf("%s is %q: it is %s or %s", field, mode, rootOnly, allExclusive)
	}
	all, _, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	others := map[db.VolumeRef]bool{}
	for _, other := range all {
		if other.Name != in.Name {
			for _, ref := range volumesOf(other) {
				others[ref] = true
			}
		}
	}
	return slices.DeleteFunc(volumesOf(in), func(ref db.VolumeRef) bool { return others[ref] }), nil
}

// volumesOf returns the custom volumes that an instance has for writing, by
// device.
func volumesOf(in *instance) []db.VolumeRef {
	var out []db.VolumeRef
	for _, name := range slices.Sorted(maps.Keys(in.expanded.Devices)) {
		dev := in.expanded.Devices[name]
		ref := db.VolumeRef{Pool: dev["pool"], Name: profiles.VolumeSource(dev)}
		if profiles.IsVolume(dev) && !strings.Contains(ref.Name, "/") && !isTrue(dev["readonly"]) && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

// snapshotAll makes a snapshot of an instance, and then of the volumes, or
// none.
func (s *Service) snapshotAll(ctx context.Context, name string, want newSnapshot, volumes []db.VolumeRef) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.snapshotNamed(ctx, name, want); err != nil {
		return err
	}
	u.Push("delete the snapshot", func(ctx context.Context) error { return s.expire(ctx, name, want.name) })
	for _, ref := range volumes {
		job, err := s.Volumes.CreateSnapshot(ctx, ref, api.StorageVolumeSnapshotsPost{
			Name: want.name, Description: want.description, ExpiresAt: &want.expires,
		})
		if err == nil {
			err = job.Run(ctx, nil)
		}
		if err != nil {
			return fmt.Errorf("volume %q in storage pool %q: %w", ref.Name, ref.Pool, err)
		}
		u.Push("delete the snapshot of volume "+ref.Name, func(ctx context.Context) error {
			job, err := s.Volumes.DeleteSnapshot(ctx, ref, want.name)
			if err != nil {
				return err
			}
			return job.Run(ctx, nil)
		})
	}
	return nil
}

func (s *Service) snapshotNamed(ctx context.Context, name string, want newSnapshot) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return s.createSnapshot(ctx, in, want)
}

// checkDisks reports a volume that has no such snapshot.
func (s *Service) checkDisks(ctx context.Context, snapshot string, volumes []db.VolumeRef) error {
	for _, ref := range volumes {
		have, err := s.Volumes.Snapshots(ctx, ref.Pool, "custom", ref.Name)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(have, func(s api.StorageVolumeSnapshot) bool { return s.Name == snapshot }) {
			return errs.NotFoundf("volume %q in storage pool %q has no snapshot %q", ref.Name, ref.Pool, snapshot)
		}
	}
	return nil
}

// restoreDisks puts a snapshot of each volume back. It goes on after a
// failure: which are restored and which not is what it says.
func (s *Service) restoreDisks(ctx context.Context, snapshot string, volumes []db.VolumeRef) error {
	var failed error
	for _, ref := range volumes {
		if err := s.Volumes.Restore(ctx, ref, snapshot); err != nil {
			failed = errors.Join(failed, fmt.Errorf("volume %q in storage pool %q: %w", ref.Name, ref.Pool, err))
		}
	}
	return failed
}
