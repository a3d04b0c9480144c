package instances

import (
	"context"
	"encoding/json"
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
	"github.com/cuib/cuib/shared/uuid"
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
// none. The former says which the latter are.
func (s *Service) snapshotAll(ctx context.Context, name string, want newSnapshot, volumes []db.VolumeRef) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	ids := make([]string, len(volumes))
	want.volumes = map[db.VolumeRef]string{}
	for i, ref := range volumes {
		ids[i] = uuid.New()
		want.volumes[ref] = ids[i]
	}
	if err := s.snapshotNamed(ctx, name, want); err != nil {
		return err
	}
	u.Push("delete the snapshot", func(ctx context.Context) error { return s.expire(ctx, name, want.name) })
	for i, ref := range volumes {
		job, err := s.Volumes.CreateSnapshot(ctx, ref, api.StorageVolumeSnapshotsPost{
			Name: want.name, Description: want.description, ExpiresAt: &want.expires, ID: ids[i],
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

// attached is what a snapshot keeps of the snapshots of volumes that are made
// with it: their ids by device.
func attached(in *instance, ids map[db.VolumeRef]string) (string, error) {
	out := map[string]string{}
	for name, dev := range in.expanded.Devices {
		if id := ids[db.VolumeRef{Pool: dev["pool"], Name: dev["source"]}]; id != "" && profiles.IsVolume(dev) {
			out[name] = id
		}
	}
	if len(out) == 0 {
		return "", nil
	}
	text, err := json.Marshal(out)
	return string(text), err
}

func (s *Service) snapshotNamed(ctx context.Context, name string, want newSnapshot) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return s.createSnapshot(ctx, in, want)
}

// A diskSnapshot is a snapshot of a volume.
type diskSnapshot struct {
	db.VolumeRef

	snapshot string
}

// disksWith returns the snapshots of volumes that a mode means beside a snapshot
// of an instance: those that were made with it or, where it does not say, those
// of its name.
func (s *Service) disksWith(ctx context.Context, in *instance, snap db.Snapshot, mode string) ([]diskSnapshot, error) {
	volumes, err := s.disksOf(ctx, in, "restore_disk_volumes_mode", mode)
	if err != nil || mode != allExclusive {
		return nil, err
	}
	ids := map[string]string{}
	if text := snap.Config[keyAttached]; text != "" {
		if err := json.Unmarshal([]byte(text), &ids); err != nil {
			return nil, fmt.Errorf("%s of snapshot %q: %w", keyAttached, snap.Name, err)
		}
	}
	var out []diskSnapshot
	for _, device := range slices.Sorted(maps.Keys(ids)) {
		dev := in.expanded.Devices[device]
		if own := snap.Devices[device]; own != nil {
			dev = own
		}
		one, err := s.findDisk(ctx, db.VolumeRef{Pool: dev["pool"], Name: dev["source"]}, func(have api.StorageVolumeSnapshot) bool {
			return have.Config[keyUUID] == ids[device]
		})
		if err != nil {
			return nil, errs.Newf(errs.KindOf(err), "device %q: %w, that was made with %q", device, err, snap.Name)
		}
		out = append(out, one)
	}
	if len(ids) > 0 {
		return out, nil
	}
	for _, ref := range volumes {
		one, err := s.findDisk(ctx, ref, func(have api.StorageVolumeSnapshot) bool { return have.Name == snap.Name })
		if err != nil {
			return nil, errs.Newf(errs.KindOf(err), "%w %q", err, snap.Name)
		}
		out = append(out, one)
	}
	return out, nil
}

func (s *Service) findDisk(ctx context.Context, ref db.VolumeRef, is func(api.StorageVolumeSnapshot) bool) (diskSnapshot, error) {
	have, err := s.Volumes.Snapshots(ctx, ref.Pool, "custom", ref.Name)
	if err != nil {
		return diskSnapshot{}, err
	}
	i := slices.IndexFunc(have, is)
	if i < 0 {
		return diskSnapshot{}, errs.NotFoundf("volume %q in storage pool %q has no snapshot", ref.Name, ref.Pool)
	}
	return diskSnapshot{ref, have[i].Name}, nil
}

// restoreDisks puts snapshots of volumes back. It goes on after a failure: which
// are restored and which not is what it says.
func (s *Service) restoreDisks(ctx context.Context, disks []diskSnapshot) error {
	var failed error
	for _, d := range disks {
		if err := s.Volumes.Restore(ctx, d.VolumeRef, d.snapshot); err != nil {
			failed = errors.Join(failed, fmt.Errorf("volume %q in storage pool %q: %w", d.Name, d.Pool, err))
		}
	}
	return failed
}
