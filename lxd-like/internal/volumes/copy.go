package volumes

import (
	"cmp"
	"context"
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
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// A copying is a copy of a volume or of a snapshot.
type copying struct {
	from      target
	to        db.Volume
	snapshots []db.VolumeSnapshot // To be copied too, oldest first.
	older     bool                // A refresh leaves older snapshots out.
	inherited bool                // The size is that of the source.
	op        *ops.Op
}

// Copy checks a request for a volume that is a copy of another, or that is to
// become what another is.
func (s *Service) Copy(ctx context.Context, pool string, req api.StorageVolumesPost) (ops.Job, error) {
	c, from, err := s.copyFrom(ctx, pool, req.Source)
	if err != nil {
		return ops.Job{}, err
	}
	req.ContentType = from.ContentType
	if req.Config == nil {
		req.Config = from.Config
	}
	if req.Description == "" {
		req.Description = from.Description
	}
	if req.Source.Refresh {
		if old, err := s.load(ctx, Ref{Pool: pool, Name: req.Name}); err == nil {
			return s.refreshJob(c, from, old)
		} else if !errs.Is(err, errs.NotFound) {
			return ops.Job{}, err
		}
	}
	if err := s.copyTo(ctx, &c, from, pool, req); err != nil {
		return ops.Job{}, err
	}
	job := ops.Job{
		Description: "Copying volume", Objects: objects(c.from.Ref, c.to.VolumeRef), Resources: resources(c.to.VolumeRef), Cancelable: true,
	}
	job.Run = func(ctx context.Context, op *ops.Op) error {
		c.op = op
		return s.copy(ctx, c)
	}
	return job, nil
}

// copyFrom looks at the source of a copy.
func (s *Service) copyFrom(ctx context.Context, pool string, src api.StorageVolumeSource) (copying, db.Volume, error) {
	var c copying
	var err error
	if src.Type != "" && src.Type != "copy" {
		return c, db.Volume{}, errs.Newf(errs.Unsupported, "source type %q is not supported: volumes are copied within this server", src.Type)
	}
	if c.from, err = parseTarget(cmp.Or(src.Pool, pool), src.Name); err != nil {
		return c, db.Volume{}, fmt.Errorf("source: %w", err)
	}
	from, err := s.look(ctx, c.from)
	if err != nil {
		return c, from, err
	}
	c.older = src.RefreshExcludeOlder
	if c.from.snapshot == "" && !src.VolumeOnly {
		c.snapshots, err = s.seenSnapshots(ctx, c.from.Ref)
	}
	return c, from, err
}

func (s *Service) seenSnapshots(ctx context.Context, ref Ref) ([]db.VolumeSnapshot, error) {
	var snaps []db.VolumeSnapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		snaps, err = db.VolumeSnapshots(ctx, tx, ref)
		return err
	})
	return seen(snaps), err
}

// copyTo checks the volume to be. Keys that it has of its source, and that its
// pool's driver does not know, are left out: clients send the source's.
func (s *Service) copyTo(ctx context.Context, c *copying, from db.Volume, pool string, req api.StorageVolumesPost) error {
	p, err := s.pool(ctx, pool)
	if err != nil {
		return err
	}
	fit := s.fitting(req.Config, p)
	config := api.ConfigMap{}
	for k, v := range req.Config {
		if _, fits := fit[k]; fits || from.Config[k] != v {
			config[k] = v
		}
	}
	req.Config, c.inherited = config, config["size"] == from.Config["size"]
	c.to, err = s.draft(ctx, pool, req)
	return err
}

// copy makes the copy.
func (s *Service) copy(ctx context.Context, c copying) error {
	release, err := s.claims.take("copied", c.from.Ref, c.to.VolumeRef)
	if err != nil {
		return err
	}
	defer release()
	m := s.copyMaking(c)
	if err := s.build(ctx, &m); err != nil {
		return fmt.Errorf("copy volume %q to %q: %w", c.from.Name, c.to.Name, s.withRoom(ctx, c.to.Pool, err))
	}
	s.event("storage-volume-created", c.to.VolumeRef, map[string]any{"type": "custom"})
	return nil
}

func (s *Service) copyMaking(c copying) making {
	m := making{v: c.to, snapshots: slices.Clone(c.snapshots), inherited: c.inherited}
	for i := range m.snapshots {
		m.snapshots[i].Status = db.Ready // The volume's record is pending meanwhile.
	}
	m.fill = func(ctx context.Context, d storage.Driver, sv storage.Volume) error {
		src, err := s.transferFrom(ctx, c)
		if err != nil {
			return err
		}
		return transfer.Copy(ctx, transfer.Target{Driver: d, Volume: sv}, src, transfer.Options{Progress: c.progress()})
	}
	return m
}

// transferFrom is the source of a copy as the transfer takes it.
func (s *Service) transferFrom(ctx context.Context, c copying) (transfer.Source, error) {
	d, err := s.driver(ctx, c.from.Pool)
	if err != nil {
		return transfer.Source{}, err
	}
	src := transfer.Source{Driver: d, Volume: c.from.volume()}
	for _, snap := range c.snapshots {
		src.Snapshots = append(src.Snapshots, snap.Name)
	}
	if c.from.snapshot == "" {
		src.Still = func(ctx context.Context, fn func() error) error { return s.still(ctx, c.from.Ref, fn) }
	}
	return src, nil
}

// progress tells who waits for a copy how far it is.
func (c copying) progress() func(int64) {
	if c.op == nil {
		return nil
	}
	return func(n int64) { c.op.SetMetadata("copy_progress", c.to.Name+": "+units.FormatBytes(n)) }
}

// refreshJob checks that a volume can become what another is.
func (s *Service) refreshJob(c copying, from, to db.Volume) (ops.Job, error) {
	switch {
	case c.from.Ref == to.VolumeRef:
		return ops.Job{}, errs.Invalidf("volume %q cannot be refreshed from itself", to.Name)
	case from.ContentType != to.ContentType:
		return ops.Job{}, errs.Conflictf("volume %q is of content type %s, and %q of %s", from.Name, from.ContentType, to.Name, to.ContentType)
	}
	c.to = to
	job := ops.Job{
		Description: "Refreshing volume", Objects: objects(c.from.Ref, to.VolumeRef), Resources: resources(to.VolumeRef), Cancelable: true,
	}
	job.Run = func(ctx context.Context, op *ops.Op) error {
		release, err := s.claims.take("refreshed", c.from.Ref, to.VolumeRef)
		if err != nil {
			return err
		}
		defer release()
		c.op = op
		if err := s.refresh(ctx, c); err != nil {
			return fmt.Errorf("refresh volume %q from %q: %w", to.Name, c.from.Name, s.withRoom(ctx, to.Pool, err))
		}
		s.event("storage-volume-updated", to.VolumeRef, map[string]any{"type": "custom"})
		return nil
	}
	return job, nil
}

// refresh makes a volume, which no running instance uses, what another is. The
// records of the snapshots that it gets are pending until all is there: what a
// crash leaves of them is deleted, and the transfer puts the volume right.
func (s *Service) refresh(ctx context.Context, c copying) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	ref := c.to.VolumeRef
	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return err
	}
	if err := s.shut(ctx, d, ref); err != nil {
		return err
	}
	have, err := s.seenSnapshots(ctx, ref)
	if err != nil {
		return err
	}
	rows := missing(c, have)
	c.snapshots = slices.DeleteFunc(slices.Clone(c.snapshots), func(snap db.VolumeSnapshot) bool {
		is := func(other db.VolumeSnapshot) bool { return other.Name == snap.Name }
		return !slices.ContainsFunc(rows, is) && !slices.ContainsFunc(have, is) // What both have is what streams build on.
	})
	src, err := s.transferFrom(ctx, c)
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].Volume, rows[i].Status = ref, db.Pending
	}
	if err := s.addSnapshots(ctx, rows); err != nil {
		return err
	}
	u.Push("forget the new snapshots", func(ctx context.Context) error {
		for _, row := range rows {
			if err := s.forgetSnapshot(ctx, ref, row.Name); err != nil {
				return err
			}
		}
		return nil
	})
	err = transfer.Refresh(ctx, transfer.Target{Driver: d, Volume: volume(ref)}, src, transfer.Options{Progress: c.progress()})
	if err != nil {
		return err
	}
	u = undo.Stack{} // The contents are those of the source: only forward now.
	if err := s.shape(ctx, d, c.to); err != nil {
		return err
	}
	return s.readySnapshots(ctx, rows)
}

// missing are the snapshots that a refresh is to make: those that the target
// does not have by name and, if older ones are to be left out, that are not
// older than its newest one.
func missing(c copying, have []db.VolumeSnapshot) []db.VolumeSnapshot {
	names := map[string]bool{}
	for _, snap := range have {
		names[snap.Name] = true
	}
	out := slices.DeleteFunc(slices.Clone(c.snapshots), func(s db.VolumeSnapshot) bool { return names[s.Name] })
	if !c.older || len(have) == 0 {
		return out
	}
	newest := have[len(have)-1].Created
	return slices.DeleteFunc(out, func(s db.VolumeSnapshot) bool { return s.Created.Before(newest) })
}

func (s *Service) addSnapshots(ctx context.Context, rows []db.VolumeSnapshot) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, row := range rows {
			if err := db.AddVolumeSnapshot(ctx, tx, &row); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) readySnapshots(ctx context.Context, rows []db.VolumeSnapshot) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, row := range rows {
			row.Status = db.Ready
			if err := db.SetVolumeSnapshotStatus(ctx, tx, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// Move checks a request to bring a volume into another pool or project, with
// or without another name. Devices follow it as in [Service.Rename].
func (s *Service) Move(ctx context.Context, ref Ref, req api.StorageVolumePost) (ops.Job, error) {
	name := cmp.Or(req.Name, ref.Name)
	if err := profiles.CheckVolumeName(name); err != nil {
		return ops.Job{}, err
	}
	from, err := s.load(ctx, ref)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.stays(ctx, ref, name); err != nil {
		return ops.Job{}, err
	}
	if cmp.Or(req.Pool, ref.Pool) == ref.Pool {
		if req.VolumeOnly {
			return ops.Job{}, errs.Newf(errs.Unsupported, "volume_only: a volume that stays in its storage pool keeps its snapshots")
		}
		return s.renameJob(ctx, ref, name)
	}
	c := copying{from: target{Ref: ref}}
	if !req.VolumeOnly {
		if c.snapshots, err = s.seenSnapshots(ctx, ref); err != nil {
			return ops.Job{}, err
		}
	}
	post := api.StorageVolumesPost{Name: name, ContentType: from.ContentType}
	post.Config, post.Description = maps.Clone(from.Config), from.Description
	if err := s.copyTo(ctx, &c, from, req.Pool, post); err != nil {
		return ops.Job{}, err
	}
	c.to.Created = from.Created
	job := ops.Job{Description: "Moving volume", Objects: objects(ref, c.to.VolumeRef), Resources: resources(c.to.VolumeRef), Cancelable: true}
	job.Run = func(ctx context.Context, op *ops.Op) error {
		release, err := s.claims.take("moved", ref, c.to.VolumeRef)
		if err != nil {
			return err
		}
		defer release()
		c.op = op
		if err := s.move(ctx, c); err != nil {
			return fmt.Errorf("move volume %q to storage pool %q: %w", ref.Name, c.to.Pool, err)
		}
		return nil
	}
	return job, nil
}

// shut waits until nobody uses a volume, which is claimed, and lets nobody come
// until it is released.
func (s *Service) shut(ctx context.Context, d storage.Driver, ref Ref) error {
	s.claims.shut(ref)
	unlock, err := s.aloneWithAll(ctx, d, ref)
	if err != nil {
		return err
	}
	unlock()
	return nil
}

// move makes a copy whose record is pending. One transaction makes that ready,
// and the source's pending: what a crash leaves is either, and Recover removes
// the one that is.
func (s *Service) move(ctx context.Context, c copying) error {
	from := c.from.Ref
	d, err := s.driver(ctx, from.Pool)
	if err != nil {
		return err
	}
	if err := s.shut(ctx, d, from); err != nil {
		return err
	}
	f, err := s.relocate(ctx, c)
	if err != nil {
		return err
	}
	s.event("storage-volume-created", c.to.VolumeRef, map[string]any{"type": "custom"})
	if err = s.remove(ctx, d, from); err == nil {
		err = s.forget(ctx, from)
	}
	if err != nil {
		s.Log.WarnContext(ctx, "what is left of a volume that has moved is removed at the next start", "volume", from.String(), "err", err)
	}
	s.event("storage-volume-deleted", from, map[string]any{"type": "custom"})
	f.tell(s)
	return nil
}

// relocate is move without the end: what was the source is still to be removed.
func (s *Service) relocate(ctx context.Context, c copying) (_ *following, err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	from, to := c.from.Ref, c.to.VolumeRef
	m := s.copyMaking(c)
	m.fill = func(ctx context.Context, d storage.Driver, sv storage.Volume) error {
		src, err := s.transferFrom(ctx, c)
		if err != nil {
			return err
		}
		src.Still = nil // It is not mounted.
		return transfer.Copy(ctx, transfer.Target{Driver: d, Volume: sv}, src, transfer.Options{Progress: c.progress()})
	}
	if err := s.begin(ctx, &m, &u); err != nil {
		return nil, err
	}
	return s.follow(ctx, from, func(f *following) error {
		return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := db.SetVolumeStatus(ctx, tx, to, db.Ready); err != nil {
				return err
			}
			if err := db.SetVolumeStatus(ctx, tx, from, db.Pending); err != nil {
				return err
			}
			return f.write(ctx, tx, from, to)
		})
	})
}

// cut splits FROM/TO.
func cut(text string) (from, to string) {
	from, to, _ = strings.Cut(text, "/")
	return from, to
}
