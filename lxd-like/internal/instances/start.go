package instances

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/lxd-like/internal/warnings"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
	"github.com/cuib/cuib/storage"
)

// starting says what there is to know of a start.
type starting struct {
	event  string      // What those who listen are told.
	deaths []time.Time // See active.
}

// startNamed starts an instance, or lets one that is frozen go on. Those that
// it depends on are started first.
func (s *Service) startNamed(ctx context.Context, name string) error {
	return s.startFor(ctx, name, []string{name})
}

// startFor is startNamed for what may be started for another's sake; see
// [Service.startNeeds].
func (s *Service) startFor(ctx context.Context, name string, path []string) error {
	if s.index.get(name) == nil {
		in, err := s.load(ctx, name)
		if err == nil {
			err = s.allowed(in, "start")
		}
		if err == nil {
			err = s.startNeeds(ctx, in, path)
		}
		if err != nil {
			return err
		}
	}
	in, unlock, err := s.lockedAfterEnd(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.allowed(in, "start"); err != nil {
		return err
	}
	if s.index.get(name) != nil {
		return s.Runtime.Thaw(ctx, name)
	}
	return s.start(ctx, in, starting{event: "instance-started"})
}

// lockedAfterEnd is locked for what cannot be done to an instance that has
// ended before what follows that is done, which needs the lock.
func (s *Service) lockedAfterEnd(ctx context.Context, name string) (in *instance, unlock func(), err error) {
	in, unlock, err = s.locked(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	a := s.index.get(name)
	if a == nil {
		return in, unlock, nil
	}
	if _, err := s.Runtime.Get(name); !errs.Is(err, errs.NotFound) {
		return in, unlock, nil // It runs.
	}
	unlock()
	if err := wait(ctx, a); err != nil {
		return nil, nil, err
	}
	return s.locked(ctx, name)
}

// startNew starts an instance that is complete but for its record, which
// says so together with its running.
func (s *Service) startNew(ctx context.Context, in *instance) error {
	err := s.start(ctx, in, starting{event: "instance-started"})
	if err != nil && in.Status != db.Ready {
		// It exists now all the same, as one that was created without a start.
		if merr := s.mark(context.WithoutCancel(ctx), in.Name, db.Ready); merr != nil {
			return fmt.Errorf("%w; %w", err, merr)
		}
	}
	if err != nil {
		return fmt.Errorf("instance %q was created, but does not start: %w", in.Name, err)
	}
	return nil
}

// launch is all that is made of an instance on its way up.
type launch struct {
	in        *instance
	set       profiles.Settings
	ids       idmap.Map
	dir       string            // Of the mounted volume.
	keys      map[string]string // To be written down when it runs.
	plan      plan
	disks     disks
	delegator storage.Delegator // Nil where the guest gets nothing of it.
	guest     string            // The directory where the guest can ask; empty for none.
}

// start starts an instance whose lock is held: each step with what takes it
// back, and the record when it runs.
func (s *Service) start(ctx context.Context, in *instance, how starting) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if s.index.get(in.Name) != nil {
		return errs.Conflictf("instance %q is running", in.Name)
	}
	s.snapshotAtStart(ctx, in, how)
	l := &launch{in: in, keys: map[string]string{}}
	for _, step := range []func(context.Context, *launch, *undo.Stack) error{
		s.startIDs, s.startKernel, s.startRoot, s.startDelegation, s.startDevices, s.startVolumes, s.startHosts, s.startGuest,
	} {
		if err := step(ctx, l, &u); err != nil {
			return err
		}
	}
	if err := s.startTPMs(ctx, l, &u); err != nil {
		return err
	}
	if err := s.run(ctx, l, how, &u); err != nil {
		return err
	}
	if err := s.startProxies(ctx, l, &u); err != nil {
		return err
	}
	made, err := s.allPlugged(in.Name, l.plan)
	if err != nil {
		return err
	}
	maps.Copy(l.keys, made)
	l.keys[keyPower] = powerOn
	if err := s.writeStarted(ctx, in, l.keys); err != nil {
		return err
	}
	s.follow(ctx, in)
	s.noteLate(in)
	s.event(how.event, in.Name, nil)
	s.Warnings.Resolve(ctx, warnings.NotStarted, instanceURL(in.Name))
	s.Warnings.Resolve(ctx, warnings.Dying, instanceURL(in.Name))
	s.warnHooks(ctx, in)
	return nil
}

// startIDs finds the host's ids that the instance runs with.
func (s *Service) startIDs(_ context.Context, l *launch, _ *undo.Stack) error {
	var err error
	if l.set, err = settings(l.in); err != nil {
		return err
	}
	if err := checkRequirements(l.in, l.set); err != nil {
		return err
	}
	if l.ids, err = s.mapping(l.in); err != nil {
		return err
	}
	text, err := json.Marshal(l.ids)
	if err != nil {
		return err
	}
	if l.ids == nil {
		text = []byte("[]")
	}
	l.keys[keyIDNext], l.keys[keyIDCurrent], l.keys[keyIDLast] = string(text), string(text), "[]"
	if got, ok := s.ranges.get(l.in.Name); ok {
		l.keys[keyIDBase] = strconv.FormatInt(got.First, 10)
	}
	return nil
}

// startKernel has the kernel ready for the instance.
func (s *Service) startKernel(ctx context.Context, l *launch, _ *undo.Stack) error {
	return loadModules(ctx, l.set.Modules)
}

// startRoot mounts the root, and renders the templates that are due.
func (s *Service) startRoot(ctx context.Context, l *launch, u *undo.Stack) error {
	if err := os.MkdirAll(s.logDir(l.in.Name), 0o700); err != nil {
		return err
	}
	d, err := s.driver(ctx, l.in)
	if err != nil {
		return err
	}
	if err := s.visits.end(ctx, l.in.Name); err != nil {
		return err
	}
	due := l.in.Config[keyApplyTemplate]
	if due != "" {
		if err := l.render(ctx, d, images.Trigger(due), images.OnStart); err != nil {
			return err
		}
		l.keys[keyApplyTemplate] = ""
	}
	if err := l.mount(ctx, d); err != nil {
		return err
	}
	u.Push("unmount the root disk", func(ctx context.Context) error { return d.Unmount(ctx, l.in.volume()) })
	if due != "" {
		return nil
	}
	again, err := rendersAtStart(l.dir)
	if err != nil || !again {
		return err
	}
	if err := d.Unmount(ctx, l.in.volume()); err != nil {
		return err
	}
	if err := l.render(ctx, d, images.OnStart); err != nil {
		return err
	}
	return l.mount(ctx, d)
}

func (l *launch) mount(ctx context.Context, d storage.Driver) error {
	var err error
	if l.dir, err = d.Mount(ctx, l.in.volume(), l.ids); err != nil {
		return fmt.Errorf("mount the root disk: %w", err)
	}
	return nil
}

// render renders templates for events, in the volume as it is stored.
func (l *launch) render(ctx context.Context, d storage.Driver, triggers ...images.Trigger) error {
	return within(ctx, d, l.in.volume(), func(dir string) error {
		if err := newMachine(l.in, dir, triggers); err != nil {
			return fmt.Errorf("give it a machine id: %w", err)
		}
		return renderTemplates(l.in, l.set, dir, triggers...)
	})
}

// run hands the instance to the runtime.
func (s *Service) run(ctx context.Context, l *launch, how starting, u *undo.Stack) error {
	limits, err := s.allLimits(ctx, l.in)
	if err != nil {
		return err
	}
	name := l.in.Name
	a := &active{volume: l.in.volume(), pool: l.in.Pool, ids: l.ids, deaths: how.deaths, done: make(chan struct{})}
	a.cpus, a.disks = limits.CPUs, l.disks
	l.keys[keyCPU], l.keys[keyCPUNodes] = limits.CPUs, chosenNodes(l.in, limits)
	if err := s.index.admit(name, a); err != nil {
		return err
	}
	u.Push("forget that it runs", func(context.Context) error { s.index.drop(name); return nil })

	later := context.WithoutCancel(ctx)
	running, err := s.Runtime.Start(ctx, l.spec(limits), func(e runtime.Exit) { s.ended(later, name, a, e) })
	if err != nil {
		return err
	}
	u.Push("end the container", func(ctx context.Context) error {
		if err := s.Runtime.Kill(ctx, name); !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
	return l.delegate(ctx, running)
}

// spec is what the kernel is to do.
func (l *launch) spec(limits runtime.Limits) runtime.Spec {
	spec := runtime.Spec{
		Name: l.in.Name, Root: filepath.Join(l.dir, "rootfs"), RootMapped: l.ids != nil, IDs: l.ids,
		Nesting: l.set.Security.Nesting, Hostname: project.InstanceName(l.in.Name), Arch: l.in.Architecture, Env: l.set.Env,
		Limits: limits, Rlimits: l.set.Rlimits, Sysctls: l.set.Sysctls, Raw: l.set.RawLXC, OOMScore: l.set.OOMScore,
		AppArmor: l.set.AppArmor, Credentials: l.set.Credentials,
	}
	syscalls(l.set, &spec)
	l.plan.into(&spec)
	l.delegation(&spec)
	spec.Guest = l.guest
	return spec
}

// settings are what the instance's options mean on this host.
func settings(in *instance) (profiles.Settings, error) {
	host, err := hostFacts()
	if err != nil {
		return profiles.Settings{}, err
	}
	return profiles.Parse(in.expanded.Options, host)
}
