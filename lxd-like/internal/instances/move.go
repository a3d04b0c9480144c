package instances

import (
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
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/transfer"
)

// A move is what becomes of an instance that changes its pool or project.
type move struct {
	in   *instance // As it is.
	next *instance // As it is to be, but for the name.
	to   string    // The name that it gets, or has.
	only bool      // It loses its snapshots.
	left []string  // Options of the root disk that the other pool does not have.
}

func (m move) renames() bool { return m.to != m.in.Name }

// moveJob checks a request for another pool, project, configuration or name of
// an instance.
func (s *Service) moveJob(ctx context.Context, in *instance, req api.InstancePost) (ops.Job, error) {
	if req.Name != in.Name {
		if err := s.renamable(ctx, in.Name, req.Name); err != nil {
			return ops.Job{}, err
		}
	}
	m, err := s.moved(ctx, in, req)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.movable(m); err != nil {
		return ops.Job{}, err
	}
	name := in.Name
	return ops.Job{
		Description: "Moving instance", Objects: objects(name, req.Name), Resources: resources(name), Cancelable: true,
		Run: func(ctx context.Context, op *ops.Op) error {
			unlock := s.locks.LockAll(name, req.Name)
			defer unlock()
			in, err := s.load(ctx, name)
			if err != nil {
				return err
			}
			m, err := s.moved(ctx, in, req)
			if err != nil {
				return err
			}
			if err := s.movable(m); err != nil {
				return err
			}
			if m.renames() {
				if err := s.renamable(ctx, name, req.Name); err != nil {
					return err
				}
			}
			return s.moveAny(ctx, m, op)
		},
	}, nil
}

// moved is what a request makes of an instance.
func (s *Service) moved(ctx context.Context, in *instance, req api.InstancePost) (move, error) {
	put := api.InstancePut{
		Architecture: in.Architecture, Config: apiConfig(in.Config), Devices: apiDevices(in.Devices), Ephemeral: in.Ephemeral,
		Profiles: in.Profiles, Description: in.Description,
	}
	if err := s.carried(ctx, in, req, &put); err != nil {
		return move{}, err
	}
	if req.Config != nil {
		put.Config = req.Config
	}
	if req.Devices != nil {
		put.Devices = req.Devices
	}
	if req.Profiles != nil {
		put.Profiles = req.Profiles
	}
	m, err := s.movedTo(ctx, in, req, put)
	if err != nil && carries(in.Name, req.Name) {
		return m, elsewhere(project.OfInstance(req.Name), err)
	}
	return m, err
}

// movedTo is moved with what the instance is to be.
func (s *Service) movedTo(ctx context.Context, in *instance, req api.InstancePost, put api.InstancePut) (move, error) {
	next, err := s.changed(ctx, in, put)
	if err != nil {
		return move{}, err
	}
	bringRoot(in, next, req)
	if req.Pool != "" {
		next.putRoot(req.Pool)
	}
	_, was, _ := root(in.expanded)
	left, err := s.fitRoot(ctx, next, was)
	if err != nil {
		return move{}, err
	}
	if err := s.couldBe(ctx, in, next); err != nil {
		return move{}, err
	}
	m := move{in: in, next: next, to: req.Name, only: req.InstanceOnly, left: left}
	if err := s.choosePool(ctx, next); err != nil {
		return m, err
	}
	if err := s.checkArrival(ctx, m); err != nil {
		return m, err
	}
	if err := s.admitMove(ctx, next, req.Name); err != nil {
		return m, err
	}
	if req.Pool == in.Pool && !m.renames() && req.Config == nil && req.Devices == nil && req.Profiles == nil {
		return m, errs.Invalidf("pool is %q: instance %q is there already", req.Pool, in.Name)
	}
	return m, nil
}

// movable reports why an instance cannot move now.
func (s *Service) movable(m move) error {
	if s.index.get(m.in.Name) == nil {
		return nil
	}
	switch {
	case m.next.Pool != m.in.Pool:
		return errs.Conflictf("cannot move instance %q from storage pool %q to %q: it is running, and what runs does not move; stop it first",
			m.in.Name, m.in.Pool, m.next.Pool)
	case m.renames():
		return s.checkStopped(m.in.Name, "rename")
	}
	return nil
}

// moveAny moves, changes and renames, what of it there is to do.
func (s *Service) moveAny(ctx context.Context, m move, op *ops.Op) error {
	was := m.in.Name
	if m.next.Pool == m.in.Pool && carries(was, m.to) {
		return s.carry(ctx, m, op)
	}
	if err := s.moveOrUpdate(ctx, m, op); err != nil {
		return err
	}
	s.warnLeft(ctx, m.next, m.left, op)
	if !m.renames() {
		s.event("instance-updated", was, nil)
		return nil
	}
	if m.next.Pool == m.in.Pool {
		if err := s.rename(ctx, m.next, m.to); err != nil {
			return fmt.Errorf("rename instance %q to %q: %w", was, m.to, err)
		}
	}
	s.event("instance-renamed", m.to, map[string]any{"old_name": was})
	return nil
}

// moveOrUpdate moves an instance, with its new name, or changes its
// configuration where it is.
func (s *Service) moveOrUpdate(ctx context.Context, m move, op *ops.Op) error {
	if m.next.Pool != m.in.Pool {
		if err := s.move(ctx, m, op); err != nil {
			return fmt.Errorf("move instance %q from storage pool %q to %q: %w", m.in.Name, m.in.Pool, m.next.Pool, s.withRoom(ctx, m.next.Pool, err))
		}
		return nil
	}
	want, err := s.planLive(ctx, m.in, m.next)
	defer func() { s.unplan(want) }()
	if err != nil {
		return err
	}
	if err := s.update(ctx, m.in, m.next, want); err != nil {
		return fmt.Errorf("update instance %q: %w", m.in.Name, err)
	}
	return nil
}

// move copies the volume with its snapshots, says in one transaction that the
// copy is the instance, and deletes what it was. A crash before leads back,
// one after that leads on: see [Service.unmove].
func (s *Service) move(ctx context.Context, m move, op *ops.Op) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	from, to, err := s.beginMove(ctx, m, &u)
	if err != nil {
		return err
	}
	if m.renames() {
		if err := s.unsetHosts(ctx, m.in, &u); err != nil {
			return err
		}
	}
	src := transfer.Source{Driver: from, Volume: m.in.volume()}
	if src.Snapshots, err = s.toMove(ctx, m); err != nil {
		return err
	}
	dst := storage.Volume{Kind: storage.Instance, Name: m.to}
	o := transfer.Options{Progress: progress(op, "Moving")}
	if err := transfer.Copy(ctx, transfer.Target{Driver: to, Volume: dst}, src, o); err != nil {
		return err
	}
	there := m.next.clone()
	there.Name = m.to
	if err := s.tune(ctx, to, there); err != nil {
		return err
	}
	if err := s.keepSize(ctx, to, dst, m.next); err != nil {
		return err
	}
	if err := m.fits(ctx, to, dst); err != nil {
		return err
	}
	if m.renames() {
		if err := s.moveLogs(m.in.Name, m.to, &u); err != nil {
			return err
		}
	}
	if err := s.recordMove(ctx, m); err != nil {
		return err
	}
	u = undo.Stack{} // It has moved: what it was is no more than a leftover.
	s.ranges.rename(m.in.Name, m.to)
	if err := s.endMove(ctx, m, from); err != nil {
		s.Logger.WarnContext(ctx, "cannot delete what an instance was before it moved: the next start of the daemon tries again",
			"instance", m.to, "pool", m.in.Pool, "err", err)
	}
	return nil
}

// fits reports a root that holds more than its new size. One that keeps its size
// may be a little more than full, as it was.
func (m move) fits(ctx context.Context, d storage.Driver, v storage.Volume) error {
	before, after := m.in.rootSize(), m.next.rootSize()
	if after.text == "" || after.text == before.text {
		return nil
	}
	size, err := profiles.ParseSize(after.text)
	if err == nil {
		err = storage.MustHaveFit(ctx, d, v, size)
	}
	if err != nil {
		return fmt.Errorf("device %q: size: %w", after.device, err)
	}
	return nil
}

// beginMove writes down where the copy is going to be.
func (s *Service) beginMove(ctx context.Context, m move, u *undo.Stack) (from, to storage.Driver, err error) {
	if from, err = s.driver(ctx, m.in); err != nil {
		return nil, nil, err
	}
	if to, err = s.driver(ctx, m.next); err != nil {
		return nil, nil, err
	}
	if err := s.visits.endAll(ctx, m.in.Name); err != nil {
		return nil, nil, err
	}
	if err := s.unmove(ctx, m.in); err != nil { // What an earlier one has left.
		return nil, nil, err
	}
	if err := s.uncovered(ctx, to, m); err != nil {
		return nil, nil, err
	}
	if err := undelegated(ctx, from, m.in); err != nil {
		return nil, nil, err
	}
	if err := from.Unmount(ctx, m.in.volume()); err != nil {
		return nil, nil, err
	}
	if err := s.patch(ctx, m.in, map[string]string{keyMoving: m.next.Pool + "/" + m.to}); err != nil {
		return nil, nil, err
	}
	u.Push("delete the copy", func(ctx context.Context) error { return s.unmove(ctx, m.in) })
	return from, to, nil
}

// uncovered reports a volume in the way of the copy. It could be anybody's.
func (*Service) uncovered(ctx context.Context, d storage.Driver, m move) error {
	all, err := d.List(ctx)
	if err != nil {
		return err
	}
	if v := (storage.Volume{Kind: storage.Instance, Name: m.to}); slices.Contains(all, v) {
		return errs.Conflictf("storage pool %q has a volume %s already", m.next.Pool, v)
	}
	return nil
}

// toMove are the snapshots that move: hidden ones that somebody remembers, too.
func (s *Service) toMove(ctx context.Context, m move) ([]string, error) {
	var snaps []db.Snapshot
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		snaps, err = db.Snapshots(ctx, tx, m.in.Name)
		return err
	})
	slices.SortStableFunc(snaps, func(a, b db.Snapshot) int { return int(a.ID - b.ID) })
	var names []string
	for _, snap := range snaps {
		if snap.Status == db.Ready && (!m.only || storage.Hidden(snap.Name)) {
			names = append(names, snap.Name)
		}
	}
	return names, err
}

// recordMove says that the copy is the instance.
func (s *Service) recordMove(ctx context.Context, m move) error {
	keys := map[string]string{keyMoving: "", keyMoved: m.in.Pool + "/" + m.in.Name}
	if m.renames() {
		maps.Copy(keys, renamedKeys(m.in))
	}
	next := m.next.clone()
	next.apply(keys)
	next.Name = m.to
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if m.renames() {
			if err := s.renamed(ctx, tx, m.in.Name, m.to); err != nil {
				return err
			}
		}
		if err := db.UpdateInstance(ctx, tx, next.Instance); err != nil {
			return err
		}
		if err := db.SetInstancePool(ctx, tx, next.Name, next.PoolID); err != nil {
			return err
		}
		if err := s.carrySnapshots(ctx, tx, m); err != nil {
			return err
		}
		if m.only {
			return forgetVisible(ctx, tx, next.Name)
		}
		return nil
	})
}

func forgetVisible(ctx context.Context, tx *db.Tx, name string) error {
	names, err := db.SnapshotNamesOf(ctx, tx, name)
	for _, snapshot := range names {
		if storage.Hidden(snapshot) {
			continue
		}
		if err := db.DeleteSnapshot(ctx, tx, name, snapshot); err != nil {
			return err
		}
	}
	return err
}

// endMove deletes what the instance was.
func (s *Service) endMove(ctx context.Context, m move, from storage.Driver) error {
	ctx = context.WithoutCancel(ctx)
	if err := deleteWhole(ctx, from, m.in.volume()); err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.PatchInstanceConfig(ctx, tx, m.to, map[string]string{keyMoved: ""})
	})
}

// deleteWhole deletes a volume with all snapshots that the pool has of it.
func deleteWhole(ctx context.Context, d storage.Driver, v storage.Volume) error {
	all, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, snap := range all {
		if snap.Parent() != v || snap.Snapshot == "" {
			continue
		}
		if err := deleteVolume(ctx, d, snap); err != nil {
			return err
		}
	}
	return deleteVolume(ctx, d, v)
}

// unmove deletes what a move that did not come to its end has left: the copy
// if it is not the instance yet, and otherwise what it was.
func (s *Service) unmove(ctx context.Context, in *instance) error {
	for _, key := range []string{keyMoving, keyMoved} {
		pool, name, ok := strings.Cut(in.Config[key], "/")
		if !ok {
			continue
		}
		if err := s.deleteLeftover(ctx, pool, name); err != nil {
			return err
		}
		if err := s.patch(ctx, in, map[string]string{key: ""}); err != nil {
			return err
		}
	}
	return nil
}

// deleteLeftover deletes a volume that is no instance's.
func (s *Service) deleteLeftover(ctx context.Context, pool, name string) error {
	taken := false
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		row, err := db.GetInstance(ctx, tx, name)
		taken = err == nil && row.Pool == pool // Somebody has made another of that name.
		if errs.Is(err, errs.NotFound) {
			err = nil
		}
		return err
	})
	if err != nil || taken {
		return err
	}
	d, err := s.Pools.Driver(ctx, pool)
	if errs.Is(err, errs.NotFound) {
		return nil // The pool is gone, with all that was in it.
	}
	if err != nil {
		return err
	}
	return deleteWhole(ctx, d, storage.Volume{Kind: storage.Instance, Name: name})
}
