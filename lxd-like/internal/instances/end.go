package instances

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/shared/errs"
)

// ending says how an instance is to end.
type ending struct {
	force   bool
	timeout time.Duration // Of a clean end.
	wish    wish
}

// end ends an instance and returns when all of it is cleaned up. The lock is
// held only while it tells the guest.
func (s *Service) end(ctx context.Context, name string, how ending) error {
	ctx = db.Freeing(ctx) // It must be possible to stop what fills the disk.
	a, err := s.tell(ctx, name, how)
	if err != nil {
		return err
	}
	if how.force {
		if err := s.Runtime.Kill(ctx, name); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		return wait(ctx, a)
	}
	timed, cancel := context.WithTimeout(ctx, how.timeout)
	defer cancel()
	err = wait(timed, a)
	if err == nil {
		return nil
	}
	s.giveUp(context.WithoutCancel(ctx), name, a)
	if ctx.Err() != nil {
		return err
	}
	return errs.Conflictf("the guest did not shut down within %s: look at its console, or stop it with --force", how.timeout)
}

// tell notes what is wished, and for a clean end asks the guest.
func (s *Service) tell(ctx context.Context, name string, how ending) (*active, error) {
	unlock := s.locks.Lock(name)
	defer unlock()
	a := s.index.get(name)
	if a == nil {
		return nil, errs.Conflictf("instance %q is not running", name)
	}
	if how.wish == wishStop {
		// Before it ends: a crash between the two must not start it again.
		if err := s.writePower(ctx, name, powerOff); err != nil {
			return nil, err
		}
	}
	if how.wish != wishHost || a.wish == wishNothing || a.wish == wishLate {
		a.wish = how.wish // The host leaves their way to those who still wait.
	}
	if how.force {
		return a, nil
	}
	state, err := s.Runtime.Get(name)
	if err == nil && state.Frozen {
		err = s.Runtime.Thaw(ctx, name) // Who is frozen hears nothing.
	}
	if err == nil {
		err = s.Runtime.Shutdown(ctx, name)
	}
	if err != nil && !errs.Is(err, errs.NotFound) { // It can end by itself just now.
		return nil, err
	}
	return a, nil
}

func wait(ctx context.Context, a *active) error {
	select {
	case <-a.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// giveUp is for who does not wait for the end of an instance any longer. If
// it was to be started again, it is not.
func (s *Service) giveUp(ctx context.Context, name string, a *active) {
	unlock := s.locks.Lock(name)
	defer unlock()
	if s.index.get(name) != a || a.wish != wishStop && a.wish != wishRestart || s.index.isShut() {
		return
	}
	if a.wish == wishStop {
		if err := s.writePower(ctx, name, powerOn); err != nil {
			s.Logger.ErrorContext(ctx, "cannot write down that an instance goes on", "instance", name, "err", err)
		}
	}
	a.wish = wishLate
}

// writePower writes down whether an instance is to run.
func (s *Service) writePower(ctx context.Context, name, power string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.PatchInstanceConfig(ctx, tx, name, map[string]string{keyPower: power})
	})
}

// restart ends an instance and starts it again.
func (s *Service) restart(ctx context.Context, name string, how ending) error {
	if err := s.checkRestart(ctx, name); err != nil {
		return err
	}
	if err := s.end(ctx, name, how); err != nil {
		return err
	}
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return s.start(ctx, in, starting{event: "instance-restarted"})
}

// checkRestart reports what an instance lacks to start again, while it still
// runs.
func (s *Service) checkRestart(ctx context.Context, name string) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	set, err := settings(in)
	if err != nil {
		return err
	}
	if err := s.checkIDs(in, set); err != nil {
		return err
	}
	_, _, err = s.plan(ctx, in.clone())
	return err
}

// ended cleans up after an instance that has ended, and does what is to
// happen then. The runtime calls it.
func (s *Service) ended(ctx context.Context, name string, a *active, e runtime.Exit) {
	ctx = db.Freeing(ctx)
	defer close(a.done)
	unlock := s.locks.Lock(name)
	defer unlock()
	if s.index.get(name) != a {
		return // A start that failed has cleaned up already.
	}
	s.index.drop(name)
	log := s.Logger.With("instance", name)
	if err := s.cleanUp(ctx, a); err != nil {
		log.ErrorContext(ctx, "cannot clean up after an instance", "err", err)
	}
	in, err := s.load(ctx, name)
	if err != nil {
		log.ErrorContext(ctx, "cannot read an instance that has ended", "err", err)
		return
	}
	if err := s.forgetLastStates(ctx, in); err != nil {
		log.ErrorContext(ctx, "cannot write down that an instance has given back interfaces of the host", "err", err)
	}
	if err := s.after(ctx, in, a, e); err != nil {
		log.ErrorContext(ctx, "cannot do what is to follow the end of an instance", "err", err)
	}
}

// cleanUp undoes on the host what a start did.
func (s *Service) cleanUp(ctx context.Context, a *active) error {
	s.plugs.drop(a.volume.Name)
	s.late.set(a.volume.Name, nil)
	failed := errors.Join(s.endProxies(ctx, a.volume.Name), s.endTPMs(a.volume.Name), s.detachVolumes(ctx, a), s.shutGuest(a.volume.Name))
	d, err := s.Pools.Driver(ctx, a.pool)
	if err == nil {
		err = d.Unmount(ctx, a.volume)
	}
	return errors.Join(failed, err)
}

// forgetLastStates forgets how interfaces of the host were before an instance
// had them: it has ended, and they are so again.
func (s *Service) forgetLastStates(ctx context.Context, in *instance) error {
	gone := devices.ForgetLastState(in.Config, "")
	if len(gone) == 0 {
		return nil
	}
	return s.patch(ctx, in, gone)
}

// after does what is to follow the end of an instance.
func (s *Service) after(ctx context.Context, in *instance, a *active, e runtime.Exit) error {
	if a.wish == wishRestart {
		return nil
	}
	if died(a, e) {
		s.Logger.WarnContext(ctx, "an instance has died", "instance", in.Name, "status", e.Status)
	}
	if how, again := s.again(ctx, in, a, e); again {
		if s.index.isShut() {
			return nil // The next daemon starts it.
		}
		return s.start(ctx, in, how)
	}
	if a.wish != wishHost && in.Config[keyPower] != powerOff {
		if err := s.writePower(ctx, in.Name, powerOff); err != nil {
			return err
		}
	}
	action := "instance-stopped"
	if a.wish == wishNothing {
		action = "instance-shutdown"
	}
	s.event(action, in.Name, nil)
	if in.Ephemeral {
		return s.delete(ctx, in)
	}
	return nil
}

// again says whether and how an instance that ended without anybody's wish
// starts again: because its guest reboots, or died.
func (s *Service) again(ctx context.Context, in *instance, a *active, e runtime.Exit) (how starting, again bool) {
	how = starting{event: "instance-restarted", deaths: a.deaths}
	if e.Reboot && a.wish == wishNothing {
		return how, true
	}
	if !died(a, e) || !boot(in).Autorestart || in.Ephemeral {
		return how, false
	}
	how.deaths, again = another(a.deaths, time.Now())
	if !again {
		s.Logger.WarnContext(ctx, "an instance dies again and again: it stays down", "instance", in.Name, "status", e.Status)
		s.Warnings.Raise(ctx, warnings.Dying, instanceURL(in.Name), fmt.Sprintf("its init ended with status %d, again and again: it stays down", e.Status))
	}
	return how, again
}

// shutDown is the status of an init that shut its system down: the kernel
// ends the namespace with SIGINT then, see reboot(2).
const shutDown = 128 + 2

// died reports whether an instance ended without anybody's wish.
func died(a *active, e runtime.Exit) bool {
	return a.wish == wishNothing && e.Status != 0 && e.Status != shutDown
}

// An instance that dies this often within the time is not started again.
const (
	maxDeaths   = 10
	deathWindow = time.Minute
)

// another adds a death to the recent ones, and says whether there can be
// another start.
func another(deaths []time.Time, now time.Time) ([]time.Time, bool) {
	var recent []time.Time
	for _, t := range deaths {
		if now.Sub(t) < deathWindow {
			recent = append(recent, t)
		}
	}
	recent = append(recent, now)
	return recent, len(recent) < maxDeaths
}

// writeStarted writes down that an instance runs, and what was chosen for it.
func (s *Service) writeStarted(ctx context.Context, in *instance, keys map[string]string) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.PatchInstanceConfig(ctx, tx, in.Name, keys); err != nil {
			return err
		}
		if in.Status != db.Ready {
			if err := db.SetInstanceStatus(ctx, tx, in.Name, db.Ready); err != nil {
				return err
			}
		}
		return db.TouchInstance(ctx, tx, in.Name)
	})
	if err != nil {
		return fmt.Errorf("write down that it runs: %w", err)
	}
	in.apply(keys)
	in.Status = db.Ready
	return nil
}
