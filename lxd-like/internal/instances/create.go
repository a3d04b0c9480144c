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
)

// Create checks a request for a new instance. The job makes the instance
// whole, or leaves nothing of it.
func (s *Service) Create(ctx context.Context, req api.InstancesPost) (ops.Job, error) {
	if err := checkKind(req); err != nil {
		return ops.Job{}, err
	}
	if refresh, err := s.refreshes(ctx, req); err != nil || refresh {
		if err != nil {
			return ops.Job{}, err
		}
		return s.refreshJob(ctx, req)
	}
	name, err := s.chooseName(ctx, req.Name)
	if err == nil {
		err = s.checkVolatile(name, nil, req.Config)
	}
	if err != nil {
		return ops.Job{}, err
	}
	req.Name = name
	src, err := s.source(ctx, &req)
	if err != nil {
		return ops.Job{}, err
	}
	in, err := s.draft(ctx, name, req)
	if err != nil {
		return ops.Job{}, err
	}
	if err := src.check(in); err != nil {
		return ops.Job{}, err
	}
	if err := s.checkDependencies(ctx, nil, in); err != nil {
		return ops.Job{}, err
	}
	start := req.Start
	return ops.Job{
		Description: "Creating instance",
		Objects:     objects(name),
		Resources:   resources(name),
		Cancelable:  true,
		Run: func(ctx context.Context, op *ops.Op) error {
			if start {
				if err := s.launchNeeds(ctx, in); err != nil {
					return fmt.Errorf("create instance %q: %w", name, err)
				}
			}
			return s.createNow(ctx, in, creation{src, start, op})
		},
	}, nil
}

// createNow makes an instance whose request was checked, unless another request
// for its name was faster.
func (s *Service) createNow(ctx context.Context, in *instance, how creation) error {
	unlock := s.locks.Lock(in.Name)
	defer unlock()
	err := s.free(ctx, in.Name)
	if err == nil {
		err = s.create(ctx, in, how)
	}
	if err != nil {
		return fmt.Errorf("create instance %q: %w", in.Name, s.withRoom(ctx, in.Pool, err))
	}
	s.tellHooks(in, nil, how.op)
	if !how.start {
		return nil
	}
	return s.startNew(ctx, in)
}

// launchNeeds waits for what an instance needs to start that is not there yet,
// and refuses one that could not, so that nothing is made for nothing.
func (s *Service) launchNeeds(ctx context.Context, in *instance) error {
	if err := s.startNeeds(ctx, in, []string{in.Name}); err != nil {
		return err
	}
	return s.checkProxies(ctx, in)
}

// objects are what operations on the same instances have in common.
func objects(names ...string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		out = append(out, "instance/"+name)
	}
	return out
}

func resources(name string) map[string][]string {
	return map[string][]string{"instances": {instanceURL(name)}, "containers": {instanceURL(name)}}
}

func checkKind(req api.InstancesPost) error {
	switch {
	case req.Type != "" && req.Type != "container":
		return errs.Invalidf("type %q is not supported: this server has instances of type container only", req.Type)
	case req.InstanceType != "":
		return errs.Invalidf("instance_type %q is not known: set limits.cpu and limits.memory", req.InstanceType)
	case req.Stateful:
		return errs.Newf(errs.Unsupported, "stateful instances are not supported")
	}
	return nil
}

func (s *Service) chooseName(ctx context.Context, name string) (string, error) {
	in, short := project.SplitInstance(name)
	if short != "" {
		if err := profiles.CheckInstanceName(name); err != nil {
			return "", err
		}
		return name, s.free(ctx, name)
	}
	for range 100 {
		name := project.Instance(in, inventName())
		err := s.free(ctx, name)
		if err == nil || !errs.Is(err, errs.Conflict) {
			return name, err
		}
	}
	return "", errs.Conflictf("no name could be made up that is free: give one")
}

// free returns an error of kind [errs.Conflict] if the name is taken.
func (s *Service) free(ctx context.Context, name string) error {
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetInstance(ctx, tx, name)
		return err
	})
	switch {
	case err == nil:
		return errs.Conflictf("instance %q exists already", name)
	case errs.Is(err, errs.NotFound):
		return s.Nets.CheckNames(ctx, name, nil)
	}
	return err
}

// draft makes the record of the new instance, and checks all of it.
func (s *Service) draft(ctx context.Context, name string, req api.InstancesPost) (*instance, error) {
	in := &instance{Instance: db.Instance{
		Name: name, Status: db.Pending, Architecture: req.Architecture, Description: req.Description,
		Ephemeral: req.Ephemeral, Config: given(req.Config), Devices: givenDevices(req.Devices),
		Profiles: req.Profiles,
	}}
	maps.DeleteFunc(in.Config, func(k, _ string) bool { return isInternal(k) && k != keyBaseImage })
	if in.Profiles == nil {
		if err := s.defaultProfiles(ctx, in); err != nil {
			return nil, err
		}
	}
	if err := checkArchitecture(&in.Architecture); err != nil {
		return nil, err
	}
	if err := s.giveDevices(ctx, in); err != nil {
		return nil, err
	}
	if err := s.validate(ctx, in); err != nil {
		return nil, err
	}
	if err := s.checkRepository(ctx, nil, in); err != nil {
		return nil, err
	}
	if req.Source.Type != "copy" { // A copy has the aliases of its source for when that is gone.
		if err := s.checkAliases(ctx, nil, in); err != nil {
			return nil, err
		}
	}
	if err := s.choosePool(ctx, in); err != nil {
		return nil, err
	}
	if err := s.defaultSize(ctx, in); err != nil {
		return nil, err
	}
	return in, s.admitNew(ctx, in)
}

// defaultProfiles gives an instance the profile that it has if nothing is said.
func (s *Service) defaultProfiles(ctx context.Context, in *instance) error {
	view, err := s.Projects.View(ctx, project.OfInstance(in.Name))
	in.Profiles = []string{project.Key(view.Profiles, defaultProfile)}
	return err
}

// defaultSize gives a new root the size that its pool has for new volumes.
func (s *Service) defaultSize(ctx context.Context, in *instance) error {
	if in.rootSize().text != "" {
		return nil
	}
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		pool, err := db.GetPool(ctx, tx, in.Pool)
		in.apply(map[string]string{keyRootSize: pool.Config["volume.size"]})
		return err
	})
}

// refresh expands in by its profiles as they are now.
func (s *Service) refresh(ctx context.Context, in *instance) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		profs, err := db.ProfilesByName(ctx, tx, in.Profiles)
		if errs.Is(err, errs.NotFound) {
			return errs.Newf(errs.Invalid, "%w", err) // The request names it; it is not the request's object.
		}
		if err != nil {
			return err
		}
		in.expanded = expand(in.own(), profs)
		return nil
	})
}

// validate checks the configuration of a new instance and what its profiles
// make of it.
func (s *Service) validate(ctx context.Context, in *instance) error {
	if err := s.checkVolumes(ctx, in); err != nil {
		return err
	}
	p, err := s.validateWith(ctx, nil, in)
	s.unplan(p)
	return err
}

// validateWith is validate for what an instance is to become that is there; nil
// for a new one. It returns what its devices come to.
func (s *Service) validateWith(ctx context.Context, before, in *instance) (plan, error) {
	if err := s.validateOptions(ctx, in); err != nil {
		return nil, err
	}
	if err := s.checkLimits(ctx, in); err != nil {
		return nil, err
	}
	return s.checkPlan(ctx, before, in)
}

// validateOptions is validate for an instance whose devices are as before.
func (s *Service) validateOptions(_ context.Context, in *instance) error {
	if err := noDuplicates("profile", in.Profiles); err != nil {
		return err
	}
	if err := profiles.ValidateOptions(in.Config); err != nil {
		return err
	}
	if err := profiles.ValidateDevices(in.Devices); err != nil {
		return err
	}
	if err := profiles.ValidateExpanded(in.expanded); err != nil {
		return err
	}
	set, err := settings(in)
	if err != nil {
		return err
	}
	return s.checkIDs(in, set)
}

func noDuplicates(what string, names []string) error {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return errs.Invalidf("%s %q is named twice", what, name)
		}
	}
	return nil
}

// choosePool finds the pool that the root disk is in.
func (s *Service) choosePool(ctx context.Context, in *instance) error {
	dev, disk, ok := root(in.expanded)
	if !ok {
		return errs.Invalidf("instance %q has no root disk", in.Name)
	}
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		pool, err := db.GetPool(ctx, tx, disk["pool"])
		if errs.Is(err, errs.NotFound) {
			return errs.Invalidf("device %q: storage pool %q not found", dev, disk["pool"])
		}
		in.PoolID, in.Pool = pool.ID, pool.Name
		return err
	})
}

// creation says how an instance is made.
type creation struct {
	src   source
	start bool // It is started next, and its record becomes ready with that.
	op    *ops.Op
}

// create makes all that belongs to an instance: its record as pending, its
// volume, and then the record ready.
func (s *Service) create(ctx context.Context, in *instance, how creation) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := how.src.prepare(ctx, in, how.op); err != nil {
		return err
	}
	if err := s.mustBeNew(ctx, in); err != nil {
		return err
	}
	if err := s.allot(in); err != nil {
		return err
	}
	s.name(ctx, in)
	u.Push("free the ids", func(context.Context) error { s.release(in.Name); return nil })

	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.AddInstance(ctx, tx, &in.Instance) }); err != nil {
		return err
	}
	u.Push("forget the instance", func(ctx context.Context) error { return s.forget(ctx, in.Name) })

	// From here on profiles do not change without it. They may have before.
	if err := s.refresh(ctx, in); err != nil {
		return err
	}
	if err := samePool(in, in); err != nil {
		return err
	}
	if err := s.fill(ctx, in, how, &u); err != nil {
		return err
	}
	if !how.start {
		if err := s.mark(ctx, in.Name, db.Ready); err != nil {
			return err
		}
		in.Status = db.Ready
	}
	s.created(in)
	return nil
}

// mustBeNew refuses an instance whose volume its pool holds already.
func (s *Service) mustBeNew(ctx context.Context, in *instance) error {
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	return storage.MustBeNew(ctx, d, in.volume(), in.Pool)
}

// fill makes the instance's volume.
func (s *Service) fill(ctx context.Context, in *instance, how creation, u *undo.Stack) error {
	d, err := s.driver(ctx, in)
	if err != nil {
		return err
	}
	u.Push("delete the root volume", func(ctx context.Context) error {
		if err := s.removeSnapshots(ctx, d, in); err != nil {
			return err
		}
		return deleteVolumes(ctx, d, in.Name)
	})

	if err := how.src.fill(ctx, d, in, how.op); err != nil {
		return err
	}
	if err := s.tune(ctx, d, in); err != nil {
		return err
	}
	if err := s.limitSize(ctx, d, in); err != nil || !sizedAnew(how.src, in) {
		return err
	}
	return mustHaveFit(ctx, d, in)
}

// forget deletes the record of an instance, if there is one.
func (s *Service) forget(ctx context.Context, name string) error {
	return s.DB.Do(db.Freeing(ctx), func(ctx context.Context, tx *db.Tx) error {
		if err := db.DeleteInstance(ctx, tx, name); !errs.Is(err, errs.NotFound) {
			return err
		}
		return nil
	})
}

// checkArchitecture fills in the host's architecture, and refuses others.
func checkArchitecture(arch *string) error {
	host := hostArchitecture()
	if *arch == "" {
		*arch = host
	}
	if *arch != host && (host != "x86_64" || !strings.HasPrefix(*arch, "i")) {
		return errs.Invalidf("architecture %q does not run on this host, which is %s", *arch, host)
	}
	return nil
}
