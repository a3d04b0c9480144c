package instances

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/shared/uuid"
)

// restoreJob checks a request to put a snapshot back, which put is of change.
func (s *Service) restoreJob(ctx context.Context, in *instance, put api.InstancePut, change Change[api.InstancePut]) (ops.Job, error) {
	name := in.Name
	snapshot := strings.TrimPrefix(put.Restore, project.InstanceName(name)+"/") // LXD's client sends both names.
	snap, err := s.snapshot(ctx, name, snapshot)
	if err != nil {
		return ops.Job{}, err
	}
	if put.Stateful {
		return ops.Job{}, errs.Newf(errs.Unsupported, "stateful snapshots are not supported: this one has no memory to restore")
	}
	disks, err := s.disksWith(ctx, in, snap, put.RestoreVolumes)
	if err != nil {
		return ops.Job{}, err
	}
	job := snapshotJob("Restoring snapshot", name, snapshot)
	job.Run = func(ctx context.Context, op *ops.Op) error {
		// Its end alone makes another of it than the client has read.
		if err := s.unchanged(ctx, name, change); err != nil {
			return err
		}
		running := s.index.get(name) != nil
		if running {
			if err := s.end(ctx, name, ending{force: true, wish: wishRestart}); err != nil {
				return fmt.Errorf("restore snapshot %q: %w", snapshot, err)
			}
		}
		verr := s.restoreDisks(ctx, disks)
		in, unlock, err := s.locked(ctx, name)
		if err != nil {
			return errors.Join(verr, err)
		}
		defer unlock()
		if err = verr; err == nil {
			err = s.restore(ctx, in, snapshot, op)
		}
		if err != nil {
			err = fmt.Errorf("restore snapshot %q: %w", snapshot, s.withRoom(ctx, in.Pool, err))
		} else {
			s.event("instance-restored", name, map[string]any{"snapshot": snapshot})
		}
		return s.afterRestart(ctx, in, afterRestart{running: running, err: err})
	}
	return job, nil
}

// unchanged reports whether the instance is what a change is of.
func (s *Service) unchanged(ctx context.Context, name string, change Change[api.InstancePut]) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = change(s.describe(in).InstancePut)
	return err
}

// afterRestart says what went before an instance is started again.
type afterRestart struct {
	running bool  // It ran.
	err     error // Why what was to be done meanwhile was not.
}

// afterRestart starts an instance again if it ran, and whether what it was
// stopped for went well or not.
func (s *Service) afterRestart(ctx context.Context, in *instance, was afterRestart) error {
	if !was.running {
		return was.err
	}
	if serr := s.start(ctx, in, starting{event: "instance-started"}); serr != nil && was.err == nil {
		return fmt.Errorf("start again: %w", serr)
	}
	return was.err
}

// restore puts a snapshot back, with the configuration of its time. A crash
// leads to the end of the restoration, not to its beginning: see keyRestoring.
func (s *Service) restore(ctx context.Context, in *instance, snapshot string, op *ops.Op) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if s.index.get(in.Name) != nil {
		return s.checkStopped(in.Name, "restore")
	}
	snap, err := s.snapshot(ctx, in.Name, snapshot)
	if err != nil {
		return err
	}
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if err := s.visits.free(copying(in.Name)); err != nil {
		return err
	}
	if err := s.visits.end(ctx, in.Name); err != nil {
		return err
	}
	before := in.Instance
	lacking, err := s.becomeSnapshot(ctx, in, snap)
	if err != nil {
		return err
	}
	u.Push("put the configuration back", func(ctx context.Context) error {
		in.Instance = before
		return s.DB.Do(db.Admitted(ctx), func(ctx context.Context, tx *db.Tx) error { return db.UpdateInstance(ctx, tx, before) })
	})
	if err := d.Unmount(ctx, in.volume()); err != nil {
		return err
	}
	if err := d.Restore(ctx, in.snapshotVolume(snapshot)); err != nil {
		return err
	}
	u = undo.Stack{} // The root is back as it was: only forward now.
	if err := s.limitSize(ctx, d, in); err != nil {
		return err
	}
	s.warnLacking(ctx, in, lacking, op)
	return s.patch(ctx, in, map[string]string{keyRestoring: ""})
}

// becomeSnapshot gives an instance the configuration that it had when the
// snapshot was made. What the daemon remembers of it stays. It returns what
// the host lacks of it by now, without which it does not start.
func (s *Service) becomeSnapshot(ctx context.Context, in *instance, snap db.Snapshot) (lacking []string, err error) {
	config := maps.Clone(snap.Config)
	delete(config, keyAttached) // The snapshot's.
	for k, v := range in.Config {
		if strings.HasPrefix(k, "volatile.") {
			config[k] = v
		}
	}
	config[keyRestoring] = snap.Name
	config[keyGeneration] = uuid.New()
	next := &instance{Instance: in.Instance}
	next.Config, next.Devices, next.Profiles = config, snap.Devices, snap.Profiles
	next.Architecture, next.Ephemeral = snap.Architecture, snap.Ephemeral
	if err := s.refresh(ctx, next); err != nil {
		return nil, err
	}
	_, was, _ := root(next.expanded)
	next.putRoot(in.Pool) // It can have moved since.
	left, err := s.fitRoot(ctx, next, was)
	if err != nil {
		return nil, err
	}
	forgetNICs(in, next)
	if lacking, err = s.validateLacking(ctx, next); err != nil {
		return nil, fmt.Errorf("the configuration of that time is not valid any more: %w", err)
	}
	if err := samePool(in, next); err != nil {
		return nil, err
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdateInstance(ctx, tx, next.Instance) })
	if err == nil {
		*in = *next
		s.warnLeft(ctx, in, left, nil)
	}
	return lacking, err
}

// validateLacking is validate for what was valid once: what the host does not have
// at the moment is in the way of a start alone. It says of which devices that is.
func (s *Service) validateLacking(ctx context.Context, in *instance) (lacking []string, err error) {
	in = in.clone()
	in.Devices, in.expanded.Devices = maps.Clone(in.Devices), maps.Clone(in.expanded.Devices)
	for {
		err := s.validate(ctx, in)
		dev, ok := errors.AsType[*deviceError](err)
		if !ok {
			return lacking, err
		}
		if _, ok := errors.AsType[*devices.AbsentError](err); !ok {
			return nil, err
		}
		lacking = append(lacking, dev.Error())
		delete(in.Devices, dev.name)
		delete(in.expanded.Devices, dev.name)
	}
}

// warnLacking tells what an instance has in its configuration, and the host not.
func (s *Service) warnLacking(ctx context.Context, in *instance, lacking []string, op *ops.Op) {
	if len(lacking) == 0 {
		return
	}
	what := strings.Join(lacking, "; ")
	s.Logger.WarnContext(ctx, "the host lacks what an instance had when a snapshot was made", "instance", in.Name, "lacking", what)
	if op != nil {
		op.Warn(fmt.Sprintf("instance %q does not start without what the host lacks: %s", in.Name, what))
	}
}
