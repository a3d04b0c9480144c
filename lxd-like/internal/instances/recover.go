package instances

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/pause"
	"github.com/cuib/cuib/storage"
)

// Recover finds the instances that run, and removes what a crash left half
// made or half deleted. The daemon calls it at its start, before it serves
// requests. What goes wrong with one instance does not keep the others.
func (s *Service) Recover(ctx context.Context) error {
	rows, b, err := s.everything(ctx)
	if err != nil {
		return err
	}
	for _, name := range s.reserve(rows) {
		s.Logger.WarnContext(ctx, "the id range of an instance is not free any more: it gets another when it starts", "instance", name)
	}
	ended, err := s.adopt(ctx, rows)
	if err != nil {
		return fmt.Errorf("find the running instances: %w", err)
	}
	s.keepGuests(ctx)
	have := s.lookIntoPools(ctx, rows)
	for _, row := range rows {
		if have[row.Pool] == nil {
			s.away.add(row.Name, row.Pool)
			continue
		}
		left := remains{have: have[row.Pool], snapshots: b.snapshots[row.Name], exit: ended[row.Name]}
		if err := s.recoverOne(ctx, newInstance(row, choose(b.profiles, row.Profiles)), left); err != nil {
			s.Logger.ErrorContext(ctx, "cannot recover an instance", "instance", row.Name, "err", err)
		}
	}
	s.settleProxies(ctx)
	s.settleTPMs(ctx)
	return nil
}

// remains are what there is of an instance.
type remains struct {
	have      map[storage.Volume]bool // In its pool.
	snapshots []db.Snapshot
	exit      *runtime.Exit // If it ended while no daemon ran, and the host did.
}

// adopt takes the instances that run already under its care, and returns how
// others ended while no daemon ran. A container that no instance belongs to
// is ended.
func (s *Service) adopt(ctx context.Context, rows []db.Instance) (map[string]*runtime.Exit, error) {
	byName, ready := make(map[string]*active, len(rows)), map[string]bool{}
	for _, row := range rows {
		ready[row.Name] = row.Config[keyReady] == "true"
		in := newInstance(row, nil)
		a := &active{volume: in.volume(), pool: row.Pool, cpus: row.Config[keyCPU], done: make(chan struct{})}
		if err := json.Unmarshal([]byte(row.Config[keyIDCurrent]), &a.ids); err != nil || len(a.ids) == 0 {
			a.ids = nil // Privileged.
		}
		byName[row.Name] = a
		s.index.put(row.Name, a) // As if it ran, as what runs can end at any time.
	}
	found, err := s.Runtime.Recover(ctx, func(name string, e runtime.Exit) {
		if a := byName[name]; a != nil {
			s.ended(context.WithoutCancel(ctx), name, a, e)
		}
	})
	if err != nil {
		return nil, err
	}
	if err := s.thawHeld(ctx); err != nil {
		s.Logger.ErrorContext(ctx, "instances stay frozen", "err", err)
	}
	ended, up := map[string]*runtime.Exit{}, map[string]bool{}
	for _, r := range found {
		switch {
		case r.Ended != nil:
			ended[r.Name] = r.Ended
			continue
		case byName[r.Name] == nil:
			s.Logger.WarnContext(ctx, "a container runs that is no instance's: it is ended", "name", r.Name)
			if err := s.Runtime.Kill(ctx, r.Name); err != nil {
				s.Logger.ErrorContext(ctx, "cannot end a container", "name", r.Name, "err", err)
			}
		}
		up[r.Name] = true
		if a := byName[r.Name]; a != nil && ready[r.Name] {
			s.index.setReady(r.Name, r.PID)
		}
	}
	for name := range byName {
		if !up[name] {
			s.index.drop(name)
		}
	}
	s.found = up
	return ended, nil
}

// recoverOne brings one instance into a state that requests can leave it in.
func (s *Service) recoverOne(ctx context.Context, in *instance, left remains) error {
	unlock := s.locks.Lock(in.Name)
	defer unlock()
	if in.Status == db.Pending {
		return s.unmake(ctx, in)
	}
	s.reattachVolumes(ctx, in)
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	if s.index.get(in.Name) != nil {
		s.recoverProxies(ctx, in)
		s.recoverTPMs(ctx, in)
		s.follow(ctx, in)
		s.noteLate(in)
		if gerr := s.recoverGuest(in); gerr != nil {
			s.Logger.ErrorContext(ctx, "a guest cannot ask", "instance", in.Name, "err", gerr)
		}
		// A crash between the start and its record.
		if in.Config[keyPower] != powerOn {
			err = s.patch(ctx, in, map[string]string{keyPower: powerOn})
		}
		return errors.Join(err, s.recoverSnapshots(ctx, d, in, left))
	}
	if in.Ephemeral && in.Config[keyPower] == powerOff {
		return s.delete(ctx, in) // It ran, and was stopped.
	}
	err = errors.Join(
		s.forgetLastStates(ctx, in),
		d.Unmount(ctx, in.volume()),
		s.unrename(ctx, d, in, left.have),
		s.unbuild(ctx, d, in, left.have),
		s.unmove(ctx, in),
		s.rerefresh(ctx, in, left.have, nil),
		s.recoverSnapshots(ctx, d, in, left),
		s.rerestore(ctx, d, in))
	if err != nil || left.exit == nil || in.Config[keyPower] != powerOn {
		return err
	}
	return s.after(ctx, in, &active{}, *left.exit)
}

// unmake removes an instance that was being created or deleted.
func (s *Service) unmake(ctx context.Context, in *instance) error {
	if a := s.index.get(in.Name); a != nil {
		s.index.drop(in.Name) // Its end is nobody's business any more.
		if err := s.Runtime.Kill(ctx, in.Name); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		if err := s.cleanUp(ctx, a); err != nil {
			return err
		}
	}
	s.Logger.InfoContext(ctx, "removing what is left of an instance", "instance", in.Name)
	return s.remove(ctx, in)
}

// unrename takes back a renaming that a crash cut short.
func (s *Service) unrename(ctx context.Context, d storage.Driver, in *instance, have map[storage.Volume]bool) error {
	to := in.Config[keyRenaming]
	if to == "" {
		return nil
	}
	moved := storage.Volume{Kind: storage.Instance, Name: to}
	if !have[in.volume()] && have[moved] {
		if err := d.Rename(ctx, moved, in.Name); err != nil {
			return err
		}
	}
	return s.patch(ctx, in, map[string]string{keyRenaming: ""})
}

// recoverSnapshots removes snapshots that were being made or deleted, and hidden
// ones, and takes back a renaming or replacement that a crash cut short.
func (s *Service) recoverSnapshots(ctx context.Context, d storage.Driver, in *instance, left remains) error {
	if err := s.unreplace(ctx, d, in, &left); err != nil {
		return err
	}
	if err := s.recoverHidden(ctx, d, in, left); err != nil {
		return err
	}
	known, missing := map[string]bool{}, []string{}
	for _, snap := range left.snapshots {
		known[snap.Name] = true
		if err := s.recoverSnapshot(ctx, d, in, snap); err != nil {
			return err
		}
		if snap.Status == db.Ready && !storage.Hidden(snap.Name) && !left.have[in.snapshotVolume(snap.Name)] {
			missing = append(missing, snap.Name)
		}
	}
	if len(missing) != 1 {
		return nil
	}
	var strays []storage.Volume
	for v := range left.have {
		if v.Parent() == in.volume() && v.Snapshot != "" && !storage.Hidden(v.Snapshot) && !known[v.Snapshot] {
			strays = append(strays, v)
		}
	}
	// One without a volume and one volume without a record are one that was
	// being renamed: one operation at a time works on an instance.
	if len(strays) == 1 {
		return d.Rename(ctx, strays[0], missing[0])
	}
	return nil
}

// recoverSnapshot removes a snapshot that is not whole, and unmounts others:
// the last daemon may have been reading them.
func (s *Service) recoverSnapshot(ctx context.Context, d storage.Driver, in *instance, snap db.Snapshot) error {
	if snap.Status == db.Ready {
		return d.Unmount(ctx, in.snapshotVolume(snap.Name))
	}
	if err := deleteVolume(ctx, d, in.snapshotVolume(snap.Name)); err != nil {
		return err
	}
	return s.forgetSnapshot(ctx, in.Name, snap.Name)
}

// rerestore ends a restoration that a crash cut short: the configuration is
// that of the snapshot already.
func (s *Service) rerestore(ctx context.Context, d storage.Driver, in *instance) error {
	snapshot := in.Config[keyRestoring]
	if snapshot == "" {
		return nil
	}
	if err := d.Restore(ctx, in.snapshotVolume(snapshot)); err != nil {
		return err
	}
	return s.patch(ctx, in, map[string]string{keyRestoring: ""})
}

// ToStart returns the instances that are to run and do not, in the order of
// their start: those that say so, and of those that say nothing the ones that
// ran. The daemon asks before it serves requests: what is changed after that
// is for the next time.
func (s *Service) ToStart(ctx context.Context) ([]string, error) {
	all, _, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(in *instance) bool {
		// One that ran when the daemon came may have ended since: what follows
		// that is under way, and not to start it in spite of it.
		return !wantsStart(in) || s.found[in.Name] || s.index.get(in.Name) != nil
	})
	slices.SortStableFunc(all, func(a, b *instance) int {
		return cmp.Compare(boot(b).StartPriority, boot(a).StartPriority)
	})
	names := make([]string, len(all))
	for i, in := range all {
		names[i] = in.Name
	}
	return names, nil
}

// Autostart starts instances by name, in order: some of those that have the
// same priority at once, and after one with a delay none until that is over.
// Requests are served already: one that is deleted or started meanwhile is left
// alone. What waits for something of the host is left to [Service.StartWaiting].
func (s *Service) Autostart(ctx context.Context, names []string) error {
	var g errgroup.Group
	g.SetLimit(bulk)
	defer g.Wait() //nolint:errcheck // No function returns an error.
	var last *instance
	for _, name := range names {
		if s.index.isShut() || ctx.Err() != nil {
			return ctx.Err()
		}
		in := s.canStart(ctx, name)
		if in == nil {
			continue
		}
		if last != nil && (boot(last).Delay > 0 || boot(last).StartPriority != boot(in).StartPriority) {
			_ = g.Wait() // No function returns an error.
			if err := pause.For(ctx, boot(last).Delay); err != nil {
				return err
			}
		}
		last = in
		g.Go(func() error {
			err := s.startNamed(ctx, name)
			if err != nil && !errs.Is(err, errs.NotFound) && s.index.get(name) == nil { // One that needs it was not faster.
				s.notStarted(ctx, name, err)
			}
			return nil
		})
	}
	return nil
}

// canStart returns an instance that the daemon is to start; nil if it is gone,
// runs or cannot be read, or if it waits for something of the host.
func (s *Service) canStart(ctx context.Context, name string) *instance {
	in, err := s.load(ctx, name)
	switch {
	case errs.Is(err, errs.NotFound) || s.index.get(name) != nil:
		return nil
	case err != nil:
		s.notStarted(ctx, name, err)
		return nil
	}
	if missing := s.lacks(ctx, in); missing != nil {
		s.Logger.WarnContext(ctx, "an instance waits to be started", "instance", name, "for", missing)
		s.waiters.add(name)
		return nil
	}
	return in
}

// notStarted tells of an instance that the daemon could not start.
func (s *Service) notStarted(ctx context.Context, name string, err error) {
	s.Logger.ErrorContext(ctx, "cannot start an instance", "instance", name, "err", err)
	s.Warnings.Raise(ctx, warnings.NotStarted, instanceURL(name), err.Error())
}

func wantsStart(in *instance) bool {
	switch boot(in).Autostart {
	case profiles.Always:
		return true
	case profiles.Never:
		return false
	case profiles.AsBefore:
	}
	return in.Config[keyPower] == powerOn
}

// boot says how an instance starts and ends with the host.
func boot(in *instance) profiles.Boot { return profiles.ParseBoot(in.expanded.Options) }
