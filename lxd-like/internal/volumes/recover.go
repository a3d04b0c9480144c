package volumes

import (
	"context"
	"errors"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// Recover finishes or takes back what a crash left half done. The daemon calls
// it at its start, after the pools' and before the instances'.
func (s *Service) Recover(ctx context.Context) error {
	var all []db.Pool
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		all, err = db.Pools(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Status != db.Ready {
			continue
		}
		if err := s.RecoverPool(ctx, p.Name); err != nil {
			s.Log.WarnContext(ctx, "the volumes of a storage pool are not available", "pool", p.Name, "err", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// RecoverPool is [Service.Recover] for one pool, which was not there before.
// Copies between pools that a crash cut short are put right first: those of
// the volumes of instances too. A pool that goes away and comes back while the
// daemon runs has nothing of a crash: what is under way in it goes on, or fails.
func (s *Service) RecoverPool(ctx context.Context, pool string) error {
	d, err := s.driver(ctx, pool)
	if err != nil || !s.first(pool) {
		return err
	}
	if err := transfer.RecoverRefresh(ctx, d); err != nil {
		s.Log.ErrorContext(ctx, "cannot put right what is left of copies", "pool", pool, "err", err)
	}
	return s.recoverPool(ctx, pool, d)
}

// first reports whether a pool comes for the first time.
func (s *Service) first(pool string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	again := s.seen[pool]
	s.seen[pool] = true
	return !again
}

// Settle unmounts what no instance uses. The daemon calls it when the instances
// that run have been found, which say what they use by [Service.Attach].
func (s *Service) Settle(ctx context.Context) error {
	var all []db.Volume
	var snaps map[Ref][]db.VolumeSnapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if all, err = db.Volumes(ctx, tx); err != nil {
			return err
		}
		snaps, err = db.AllVolumeSnapshots(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	for _, v := range all {
		if _, err := s.driver(ctx, v.Pool); err != nil {
			continue // It is not there.
		}
		targets := []target{{Ref: v.VolumeRef}}
		for _, snap := range snaps[v.VolumeRef] {
			targets = append(targets, target{v.VolumeRef, snap.Name})
		}
		for _, t := range targets {
			if err := s.drop(ctx, t, func(*use) {}); err != nil {
				s.Log.WarnContext(ctx, "cannot unmount a volume that nobody uses", "volume", t.String(), "err", err)
			}
		}
	}
	return nil
}

// remains are what there is of a volume.
type remains struct {
	have      map[storage.Volume]bool // In its pool.
	snapshots []db.VolumeSnapshot
	keep      map[string]bool // Hidden snapshots that somebody remembers.
}

func (s *Service) recoverPool(ctx context.Context, pool string, d storage.Driver) error {
	all, err := d.List(ctx)
	if err != nil {
		return err
	}
	have := map[storage.Volume]bool{}
	for _, v := range all {
		have[v] = v.Kind == storage.Custom
	}
	var rows []db.Volume
	left := map[Ref]remains{}
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if rows, err = db.VolumesIn(ctx, tx, pool); err != nil {
			return err
		}
		snaps, err := db.AllVolumeSnapshots(ctx, tx)
		if err != nil {
			return err
		}
		for _, v := range rows {
			r := remains{have: have, snapshots: snaps[v.VolumeRef]}
			if r.keep, err = remembered(ctx, tx, v.VolumeRef); err != nil {
				return err
			}
			left[v.VolumeRef] = r
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, v := range rows {
		if err := s.recoverOne(ctx, d, v, left[v.VolumeRef]); err != nil {
			s.Log.ErrorContext(ctx, "cannot recover a volume", "volume", v.String(), "err", err)
		}
	}
	return ctx.Err()
}

// recoverOne brings one volume into a state that requests can leave it in.
func (s *Service) recoverOne(ctx context.Context, d storage.Driver, v db.Volume, left remains) error {
	if v.Status == db.Pending {
		s.Log.InfoContext(ctx, "removing what is left of a volume", "volume", v.String())
		if err := s.erase(ctx, d, v.VolumeRef); err != nil {
			return err
		}
		return s.forget(ctx, v.VolumeRef)
	}
	return errors.Join(
		s.unrename(ctx, d, &v, left.have),
		s.unrenameSnapshot(ctx, d, &v, left.have),
		s.recoverSnapshots(ctx, d, v.VolumeRef, left),
		s.rerestore(ctx, d, &v),
		s.reshapeAgain(ctx, d, &v))
}

// unrename takes back a renaming that a crash cut short.
func (s *Service) unrename(ctx context.Context, d storage.Driver, v *db.Volume, have map[storage.Volume]bool) error {
	to := v.Config[keyRenaming]
	if to == "" {
		return nil
	}
	moved := volume(Ref{Pool: v.Pool, Name: to})
	if !have[volume(v.VolumeRef)] && have[moved] {
		if err := d.Rename(ctx, moved, v.Name); err != nil {
			return err
		}
		for _, other := range snapshotsIn(have, moved) {
			have[snapshotVolume(v.VolumeRef, other.Snapshot)] = true
			delete(have, other)
		}
	}
	return s.patch(ctx, v, map[string]string{keyRenaming: ""})
}

func snapshotsIn(have map[storage.Volume]bool, of storage.Volume) []storage.Volume {
	var out []storage.Volume
	for v := range have {
		if v.Snapshot != "" && v.Parent() == of {
			out = append(out, v)
		}
	}
	return out
}

// unrenameSnapshot takes back the renaming of a snapshot that a crash cut
// short.
func (s *Service) unrenameSnapshot(ctx context.Context, d storage.Driver, v *db.Volume, have map[storage.Volume]bool) error {
	if v.Config[keySnapshot] == "" {
		return nil
	}
	from, to := cut(v.Config[keySnapshot])
	was, is := snapshotVolume(v.VolumeRef, from), snapshotVolume(v.VolumeRef, to)
	if !have[was] && have[is] {
		if err := d.Rename(ctx, is, from); err != nil {
			return err
		}
		delete(have, is)
		have[was] = true
	}
	return s.patch(ctx, v, map[string]string{keySnapshot: ""})
}

// recoverSnapshots removes snapshots that were being made or deleted, and
// hidden ones that nobody remembers: those without a record too.
func (s *Service) recoverSnapshots(ctx context.Context, d storage.Driver, ref Ref, left remains) error {
	if err := s.unreplace(ctx, d, &left); err != nil {
		return err
	}
	known := map[string]bool{}
	for _, snap := range left.snapshots {
		known[snap.Name] = true
		if snap.Status == db.Ready && (!storage.Hidden(snap.Name) || left.keep[snap.Name]) {
			continue
		}
		if err := deleteVolume(ctx, d, snapshotVolume(ref, snap.Name)); err != nil {
			return err
		}
		if err := s.forgetSnapshot(ctx, ref, snap.Name); err != nil {
			return err
		}
	}
	for _, v := range snapshotsIn(left.have, volume(ref)) {
		if !storage.Hidden(v.Snapshot) || known[v.Snapshot] {
			continue
		}
		if err := deleteVolume(ctx, d, v); err != nil {
			return err
		}
	}
	return nil
}

// rerestore ends a restoration that a crash cut short.
func (s *Service) rerestore(ctx context.Context, d storage.Driver, v *db.Volume) error {
	snapshot := v.Config[keyRestoring]
	if snapshot == "" {
		return nil
	}
	if err := d.Unmount(ctx, volume(v.VolumeRef)); err != nil {
		return err
	}
	err := d.Restore(ctx, snapshotVolume(v.VolumeRef, snapshot))
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if err := s.shape(ctx, d, *v); err != nil {
		return err
	}
	return s.patch(ctx, v, map[string]string{keyRestoring: ""})
}

// reshapeAgain gives a volume the size and options that its record says, where
// a crash came between the two.
func (s *Service) reshapeAgain(ctx context.Context, d storage.Driver, v *db.Volume) error {
	if v.Config[keyShaping] == "" {
		return nil
	}
	if err := s.reset(ctx, d, *v); err != nil {
		return err
	}
	return s.patch(ctx, v, map[string]string{keyShaping: ""})
}

// reset is shape for a volume that can have had other values.
func (s *Service) reset(ctx context.Context, d storage.Driver, v db.Volume) error {
	p, err := s.pool(ctx, v.Pool)
	if err != nil {
		return err
	}
	if _, ok := d.(storage.Tuner); ok && len(s.Types[p.Driver].VolumeOptions) > 0 {
		if err := s.tune(ctx, d, v.VolumeRef, s.options(v, p)); err != nil {
			return err
		}
	}
	size, err := sizeOf(v)
	if err != nil {
		return err
	}
	if _, ok := d.(storage.Limiter); !ok {
		return nil
	}
	return limit(ctx, d, volume(v.VolumeRef), size)
}
