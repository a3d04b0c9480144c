package instances

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// What the volumes of a rebuild are called, after the instance's name. A dot
// is in no instance's name.
const (
	rebuildNew = ".new"
	rebuildOld = ".old"
)

// Rebuild checks a request to put another image, or nothing, in the place of
// an instance's root. The rest of the instance stays as it is.
func (s *Service) Rebuild(ctx context.Context, name string, req api.InstanceRebuildPost) (ops.Job, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	if t := req.Source.Type; t != "image" && t != "none" {
		return ops.Job{}, errs.Invalidf("source.type %q is not possible: an instance is rebuilt from image or none", t)
	}
	src, err := s.source(ctx, &api.InstancesPost{Source: req.Source})
	if err != nil {
		return ops.Job{}, err
	}
	if err := src.check(in); err != nil {
		return ops.Job{}, err
	}
	if err := s.checkStopped(name, "rebuild"); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Rebuilding instance", Objects: objects(name), Resources: resources(name), Cancelable: true,
		Run: func(ctx context.Context, op *ops.Op) error {
			in, unlock, err := s.locked(ctx, name)
			if err != nil {
				return err
			}
			defer unlock()
			if err := s.checkStopped(name, "rebuild"); err != nil {
				return err
			}
			if err := s.rebuild(ctx, in, src, op); err != nil {
				return fmt.Errorf("rebuild instance %q: %w", name, err)
			}
			s.event("instance-rebuilt", name, nil)
			return nil
		},
	}, nil
}

// rebuild makes the new root beside the old one, and swaps them when it is
// whole. The old one goes last.
func (s *Service) rebuild(ctx context.Context, in *instance, src source, op *ops.Op) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	next := &instance{Instance: in.Instance, expanded: in.expanded}
	next.Config = maps.Clone(in.Config)
	if err := src.prepare(ctx, next, op); err != nil {
		return err
	}
	keys := rebuiltKeys(in.Config, next.Config)

	next.Name = in.Name + rebuildNew
	u.Push("delete the new root", func(ctx context.Context) error { return deleteVolume(ctx, d, next.volume()) })
	if err := src.fill(ctx, d, next, op); err != nil {
		return err
	}
	if err := s.tune(ctx, d, next); err != nil {
		return err
	}
	if err := s.limitSize(ctx, d, next); err != nil {
		return err
	}
	if err := mustHaveFit(ctx, d, next); err != nil {
		return err
	}
	if err := keepTPMs(ctx, d, in.volume(), next.volume()); err != nil {
		return fmt.Errorf("keep what its TPMs hold: %w", err)
	}
	if err := s.exchange(ctx, d, in, &u); err != nil {
		return err
	}
	if err := s.patch(ctx, in, keys); err != nil {
		return err
	}
	u = undo.Stack{}
	for _, beside := range []string{rebuildOld, rebuildNew} {
		if err := deleteVolume(ctx, d, storage.Volume{Kind: storage.Instance, Name: in.Name + beside}); err != nil {
			// The instance is as it was asked for; the next start of the daemon tries again.
			s.Logger.WarnContext(ctx, "cannot delete what a rebuild has left", "instance", in.Name, "err", err)
		}
	}
	return nil
}

// exchange puts the new root in the place of the old one. Snapshots stay: they
// belong to the volume, which then gets the contents of the new one.
func (s *Service) exchange(ctx context.Context, d storage.Driver, in *instance, u *undo.Stack) error {
	snaps, err := s.wholeSnapshots(ctx, in.Name)
	if err != nil {
		return err
	}
	if len(snaps) == 0 {
		return s.swap(ctx, d, in, u)
	}
	if err := s.visits.endAll(ctx, in.Name); err != nil {
		return err
	}
	if err := s.beginRefresh(ctx, in, nil); err != nil {
		return err
	}
	u.Push("unmark the instance", func(ctx context.Context) error {
		return s.patch(ctx, in, map[string]string{keyRefreshing: ""})
	})
	if err := d.Unmount(ctx, in.volume()); err != nil {
		return err
	}
	next := storage.Volume{Kind: storage.Instance, Name: in.Name + rebuildNew}
	return transfer.Refresh(ctx, transfer.Target{Driver: d, Volume: in.volume()}, transfer.Source{Driver: d, Volume: next}, transfer.Options{})
}

// rebuiltKeys are the keys that say what the new root is.
func rebuiltKeys(before, after map[string]string) map[string]string {
	keys := map[string]string{keyRebuilding: "", keyRefreshing: "", keyBaseImage: "", keyApplyTemplate: "create"}
	for k := range before {
		if strings.HasPrefix(k, "image.") {
			keys[k] = ""
		}
	}
	for k, v := range after {
		if strings.HasPrefix(k, "image.") || k == keyBaseImage || k == keyCloudInitID {
			keys[k] = v
		}
	}
	return keys
}

// swap puts the old root aside and the new one in its place.
func (s *Service) swap(ctx context.Context, d storage.Driver, in *instance, u *undo.Stack) error {
	if err := s.visits.end(ctx, in.Name); err != nil {
		return err
	}
	if err := s.patch(ctx, in, map[string]string{keyRebuilding: "true"}); err != nil {
		return err
	}
	u.Push("unmark the instance", func(ctx context.Context) error {
		return s.patch(ctx, in, map[string]string{keyRebuilding: ""})
	})
	if err := d.Unmount(ctx, in.volume()); err != nil {
		return err
	}
	old := storage.Volume{Kind: storage.Instance, Name: in.Name + rebuildOld}
	if err := d.Rename(ctx, in.volume(), old.Name); err != nil {
		return err
	}
	u.Push("put the old root back", func(ctx context.Context) error { return d.Rename(ctx, old, in.Name) })

	next := storage.Volume{Kind: storage.Instance, Name: in.Name + rebuildNew}
	if err := d.Rename(ctx, next, in.Name); err != nil {
		return err
	}
	u.Push("put the new root aside", func(ctx context.Context) error { return d.Rename(ctx, in.volume(), next.Name) })
	return nil
}

// unbuild takes back a rebuild that a crash cut short.
func (s *Service) unbuild(ctx context.Context, d storage.Driver, in *instance, have map[storage.Volume]bool) error {
	old := storage.Volume{Kind: storage.Instance, Name: in.Name + rebuildOld}
	next := storage.Volume{Kind: storage.Instance, Name: in.Name + rebuildNew}
	if in.Config[keyRebuilding] != "" && have[old] {
		if err := d.Delete(ctx, in.volume()); err != nil {
			return err
		}
		if err := d.Rename(ctx, old, in.Name); err != nil {
			return err
		}
		delete(have, old)
	}
	for _, v := range []storage.Volume{old, next} {
		if !have[v] {
			continue
		}
		if err := deleteVolume(ctx, d, v); err != nil {
			return err
		}
	}
	if in.Config[keyRebuilding] == "" {
		return nil
	}
	return s.patch(ctx, in, map[string]string{keyRebuilding: ""})
}
