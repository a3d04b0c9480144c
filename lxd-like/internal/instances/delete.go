package instances

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// Delete checks that an instance can be deleted. One that a failed deletion
// left pending can be deleted again.
func (s *Service) Delete(ctx context.Context, name string) (ops.Job, error) {
	in, err := s.loadAny(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.deletable(in); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Deleting instance", Objects: objects(name), Resources: resources(name),
		Run: func(ctx context.Context, _ *ops.Op) error {
			unlock := s.locks.Lock(name)
			defer unlock()
			if err := s.visits.endAll(ctx, name); err != nil {
				return err
			}
			in, err := s.loadAny(ctx, name)
			if err != nil {
				return err
			}
			if err := s.deletable(in); err != nil {
				return err
			}
			return s.delete(ctx, in)
		},
	}, nil
}

// loadAny reads an instance, be it whole or not.
func (s *Service) loadAny(ctx context.Context, name string) (*instance, error) {
	var in *instance
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		in, err = loadTx(ctx, tx, name)
		return err
	})
	return in, err
}

func (s *Service) deletable(in *instance) error {
	if s.index.get(in.Name) != nil {
		return errs.Conflictf("instance %q is running: stop it first", in.Name)
	}
	if in.protected() {
		return errs.Conflictf("instance %q is protected: unset security.protection.delete first", in.Name)
	}
	return nil
}

// Protected returns an error of kind Conflict if an instance is not to be
// deleted, whether it runs or not.
func (s *Service) Protected(ctx context.Context, name string) error {
	in, err := s.loadAny(ctx, name)
	if err != nil {
		return err
	}
	if in.protected() {
		return errs.Conflictf("instance %s is protected: unset security.protection.delete first", project.QuoteInstance(name))
	}
	return nil
}

func (in *instance) protected() bool {
	return isTrue(in.expanded.Options["security.protection.delete"])
}

// delete removes all of an instance that does not run and whose lock is held.
func (s *Service) delete(ctx context.Context, in *instance) (err error) {
	if err := s.remove(ctx, in); err != nil {
		return fmt.Errorf("delete instance %q: %w", in.Name, err)
	}
	s.event("instance-deleted", in.Name, nil)
	return nil
}

// remove is what delete has in common with what unmakes half-made instances.
// It marks the record before it removes anything, so that a crash ends in
// the deletion; a failure leaves an instance that is whole but for the
// snapshots that were deleted already.
func (s *Service) remove(ctx context.Context, in *instance) (err error) {
	ctx = db.Freeing(ctx)
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.visits.endAll(ctx, in.Name); err != nil {
		return err
	}
	if err := s.unmove(ctx, in); err != nil { // What would be forgotten with it.
		return err
	}
	if in.Status == db.Ready {
		if err := s.mark(ctx, in.Name, db.Pending); err != nil {
			return err
		}
		u.Push("unmark the instance", func(ctx context.Context) error { return s.mark(ctx, in.Name, db.Ready) })
	}
	if err := s.removeSnapshots(ctx, d, in); err != nil {
		return err
	}
	if err := s.unsetHosts(ctx, in, &u); err != nil {
		return err
	}
	if err := deleteVolumes(ctx, d, in.Name); err != nil {
		return err
	}
	u = undo.Stack{} // There is no way back now: what remains to do, Recover or another Delete does.

	err = errors.Join(os.RemoveAll(s.logDir(in.Name)), os.RemoveAll(s.runDir(in.Name)))
	if err != nil {
		return err
	}
	if err := s.forget(ctx, in.Name); err != nil {
		return err
	}
	s.release(in.Name)
	return nil
}

func (s *Service) mark(ctx context.Context, name string, status db.Status) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.SetInstanceStatus(ctx, tx, name, status)
	})
}

// removeSnapshots removes all snapshots, the newest first, with their records.
func (s *Service) removeSnapshots(ctx context.Context, d storage.Driver, in *instance) error {
	var snaps []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		snaps, err = db.SnapshotNamesOf(ctx, tx, in.Name)
		return err
	})
	if err != nil {
		return err
	}
	for _, snap := range slices.Backward(snaps) {
		if err := d.Delete(ctx, in.snapshotVolume(snap)); err != nil {
			return fmt.Errorf("snapshot %q: %w", snap, err)
		}
		if err := s.forgetSnapshot(ctx, in.Name, snap); err != nil {
			return err
		}
	}
	return nil
}

// deleteVolumes deletes the volume of an instance and what a rebuild can have
// left beside it.
func deleteVolumes(ctx context.Context, d storage.Driver, name string) error {
	for _, beside := range []string{name + rebuildNew, name + rebuildOld} { // They are never mounted for long.
		v := storage.Volume{Kind: storage.Instance, Name: beside}
		if err := d.Delete(ctx, v); err != nil {
			return fmt.Errorf("delete %s: %w", v, err)
		}
	}
	v := storage.Volume{Kind: storage.Instance, Name: name}
	if err := deleteVolume(ctx, d, v); err != nil {
		return fmt.Errorf("delete %s: %w", v, err)
	}
	return nil
}

func deleteVolume(ctx context.Context, d storage.Driver, v storage.Volume) error {
	if err := d.Unmount(ctx, v); err != nil {
		return err
	}
	return d.Delete(ctx, v)
}

// logDir is where an instance's logs are kept.
func (s *Service) logDir(name string) string { return filepath.Join(s.Dir, "logs", name) }

// runDir is where the runtime keeps what belongs to an instance that runs, and
// the log of its console.
func (s *Service) runDir(name string) string { return filepath.Join(s.Dir, "run", name) }

// isTrue reports whether the value of a key, which is valid, means yes.
func isTrue(text string) bool {
	yes, err := profiles.ParseBool(text)
	return err == nil && yes
}
