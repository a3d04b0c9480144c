package projects

import (
	"context"
	"errors"
	"fmt"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// of is the project that an object is in.
func of(o db.ProjectObject) string {
	switch o.Kind {
	case db.OfInstances, db.OfSnapshots, db.OfBackups:
		return project.OfInstance(o.Key)
	}
	return project.Of(o.Key)
}

// Watches implements [db.Admitter].
func (s *Service) Watches(o db.ProjectObject) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	in := of(o)
	own, ok := s.known[in]
	if !ok {
		return true // It was deleted meanwhile.
	}
	if o.Kind != db.OfProfiles && o.Kind != db.OfVolumes {
		return own.rules != nil
	}
	for _, k := range s.known { // Instances of other projects can have it.
		if k.rules != nil && (k.view.Project == in || k.view.Profiles == in) {
			return true
		}
	}
	return false
}

// Admit implements [db.Admitter]: what has changed must be in a project that
// is still there and as that allows, and all that the project has within its
// limits.
func (s *Service) Admit(ctx context.Context, tx *db.Tx, changed []db.ProjectObject) error {
	checks := map[string]*check{}
	for _, o := range changed {
		if _, err := s.View(ctx, of(o)); err != nil {
			return err
		}
		if err := s.checkObject(ctx, tx, o, checks); err != nil {
			return inProject(of(o), describeObject(o), err)
		}
	}
	for name, c := range checks {
		if err := c.limits(ctx, tx); err != nil {
			return inProject(name, "", err)
		}
	}
	return nil
}

// A check is what is held against one project's rules.
type check struct {
	rules   *projectkeys.Rules
	project string

	instances, networks, sums bool // What has changed, and is to be counted.
}

func (s *Service) checkFor(name string, checks map[string]*check) *check {
	if c := checks[name]; c != nil {
		return c
	}
	rules := s.get(name).rules
	if rules == nil {
		return nil
	}
	checks[name] = &check{rules: rules, project: name}
	return checks[name]
}

func (s *Service) checkObject(ctx context.Context, tx *db.Tx, o db.ProjectObject, checks map[string]*check) error {
	if o.Kind == db.OfProfiles {
		return s.checkProfile(ctx, tx, o.Key, checks)
	}
	c := s.checkFor(of(o), checks)
	if c == nil {
		return nil
	}
	err := c.object(ctx, tx, o)
	if errs.Is(err, errs.NotFound) {
		return nil // The transaction has taken it away again, or renamed it.
	}
	return err
}

func (c *check) object(ctx context.Context, tx *db.Tx, o db.ProjectObject) error {
	switch o.Kind {
	case db.OfInstances:
		c.instances, c.sums = true, true
		in, err := db.GetInstance(ctx, tx, o.Key)
		if err != nil {
			return err
		}
		profs, err := db.ProfilesByName(ctx, tx, in.Profiles)
		if err != nil {
			return err
		}
		return c.rules.CheckConfig(expand(in, profs))
	case db.OfVolumes:
		c.sums = c.sums || c.rules.Disks()
		return c.rules.CheckPool(o.Pool)
	case db.OfNetworks:
		c.networks = true
		n, err := db.GetNetwork(ctx, tx, o.Key)
		if err != nil {
			return err
		}
		return checkNetwork(c.rules, n)
	case db.OfZones:
		return c.rules.CheckZone(project.Name(o.Key))
	case db.OfSnapshots, db.OfVolumeSnapshots:
		return c.rules.CheckSnapshots()
	case db.OfBackups, db.OfVolumeBackups:
		return c.rules.CheckBackups()
	}
	return nil
}

// checkNetwork reports zones that a network cannot be in.
func checkNetwork(rules *projectkeys.Rules, n db.Network) error {
	for _, key := range []string{"dns.zone.forward", "dns.zone.reverse.ipv4", "dns.zone.reverse.ipv6"} {
		for _, zone := range projectkeys.List(n.Config[key]) {
			if err := rules.CheckZone(project.Name(zone)); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	return nil
}

// checkProfile checks a profile, and what it makes of the instances that have
// it, in whichever projects they are.
func (s *Service) checkProfile(ctx context.Context, tx *db.Tx, name string, checks map[string]*check) error {
	p, err := db.GetProfile(ctx, tx, name)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if c := s.checkFor(project.Of(name), checks); c != nil {
		if err := c.rules.CheckConfig(profiles.Config{Options: p.Config, Devices: p.Devices}); err != nil {
			return err
		}
	}
	users, err := db.InstancesUsingProfile(ctx, tx, name)
	if err != nil {
		return err
	}
	for _, in := range users {
		c := s.checkFor(project.OfInstance(in.Name), checks)
		if c == nil {
			continue
		}
		if err := c.object(ctx, tx, db.ProjectObject{Kind: db.OfInstances, Key: in.Name}); err != nil {
			return fmt.Errorf("instance %q: %w", project.InstanceName(in.Name), err)
		}
	}
	return nil
}

func expand(in db.Instance, profs []db.Profile) profiles.Config {
	all := make([]profiles.Config, 0, len(profs))
	for _, p := range profs {
		all = append(all, profiles.Config{Options: p.Config, Devices: p.Devices})
	}
	return profiles.Expand(profiles.Config{Options: in.Config, Devices: in.Devices}, all...)
}

// limits reports a limit that the project is beyond.
func (c *check) limits(ctx context.Context, tx *db.Tx) error {
	use := projectkeys.Use{}
	if c.instances {
		n, err := db.CountInstances(ctx, tx, c.project)
		if err != nil {
			return err
		}
		use.Add(counted(n))
	}
	if _, limited := c.rules.Limit(projectkeys.LimitNetworks); limited && c.networks {
		n, err := db.CountNetworks(ctx, tx, c.project)
		if err != nil {
			return err
		}
		use[projectkeys.LimitNetworks] = n
	}
	if c.sums && c.rules.Sums() {
		sum, err := sum(ctx, tx, c.project, c.rules.CheckLacks)
		if err != nil {
			return err
		}
		use.Add(sum)
	}
	return c.rules.CheckUse(use)
}

// counted is what so many instances are of the limits that count.
func counted(n int64) projectkeys.Use {
	return projectkeys.Use{projectkeys.LimitInstances: n, projectkeys.LimitContainers: n}
}

// sum is what a project has of the limits that sum up. It asks lacks about each
// object that cannot be counted by some limit; nil is for nobody.
func sum(ctx context.Context, tx *db.Tx, name string, lacks func(projectkeys.Lacks) error) (projectkeys.Use, error) {
	total := projectkeys.Use{}
	all, err := expanded(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	for _, in := range all {
		use, missing := projectkeys.InstanceUse(in.config, rootSize(in))
		if err := ask(lacks, missing); err != nil {
			return nil, errs.Newf(errs.KindOf(err), "instance %q: %w", project.InstanceName(in.row.Name), err)
		}
		total.Add(use)
	}
	volumes, err := db.VolumesOf(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		use, missing := projectkeys.VolumeUse(v.Pool, v.Config["size"])
		if err := ask(lacks, missing); err != nil {
			return nil, errs.Newf(errs.KindOf(err), "volume %q in storage pool %q: %w", project.Name(v.Name), v.Pool, err)
		}
		total.Add(use)
	}
	return total, nil
}

func ask(lacks func(projectkeys.Lacks) error, missing projectkeys.Lacks) error {
	if lacks == nil || len(missing) == 0 {
		return nil
	}
	return lacks(missing)
}

// An expansion is an instance with what its profiles make of it.
type expansion struct {
	row    db.Instance
	config profiles.Config
}

// expanded returns the instances of a project. Each profile is read once.
func expanded(ctx context.Context, tx *db.Tx, name string) ([]expansion, error) {
	rows, err := db.InstancesOf(ctx, tx, name)
	if err != nil {
		return nil, err
	}
	read := map[string]db.Profile{}
	out := make([]expansion, 0, len(rows))
	for _, row := range rows {
		profs := make([]db.Profile, 0, len(row.Profiles))
		for _, key := range row.Profiles {
			p, ok := read[key]
			if !ok {
				if p, err = db.GetProfile(ctx, tx, key); err != nil {
					return nil, err
				}
				read[key] = p
			}
			profs = append(profs, p)
		}
		out = append(out, expansion{row, expand(row, profs)})
	}
	return out, nil
}

// rootSize is how large the root of an instance may get: what its device says,
// or what its pool gave it.
func rootSize(in expansion) string {
	if _, disk, err := profiles.Root(in.config); err == nil && disk["size"] != "" {
		return disk["size"]
	}
	return in.row.Config["volatile.root.size"]
}

// inProject says in which project and of what an error is.
func inProject(name, what string, err error) error {
	if what != "" {
		what = ": " + what
	}
	return errs.Newf(errs.KindOf(err), "project %q%s: %w", name, what, err)
}

func describeObject(o db.ProjectObject) string {
	switch o.Kind {
	case db.OfInstances, db.OfSnapshots, db.OfBackups:
		return fmt.Sprintf("instance %q", project.InstanceName(o.Key))
	case db.OfVolumes, db.OfVolumeSnapshots, db.OfVolumeBackups:
		return fmt.Sprintf("volume %q in storage pool %q", project.Name(o.Key), o.Pool)
	case db.OfProfiles:
		return fmt.Sprintf("profile %q", project.Name(o.Key))
	case db.OfNetworks:
		return fmt.Sprintf("network %q", project.Name(o.Key))
	}
	return ""
}

// checkAll reports what a project has that its rules, which have changed, do not
// allow.
func checkAll(ctx context.Context, tx *db.Tx, p db.Project) error {
	rules := projectkeys.NewRules(p.Config)
	if rules == nil {
		return nil
	}
	err := errors.Join(checkConfigs(ctx, tx, p.Name, rules), checkRest(ctx, tx, p.Name, rules))
	if err == nil {
		c := &check{rules: rules, project: p.Name, instances: true, networks: true, sums: true}
		err = c.limits(ctx, tx)
	}
	if err != nil {
		return errs.Conflictf("project %q cannot be so with what it has: %w", p.Name, err)
	}
	return nil
}

func checkConfigs(ctx context.Context, tx *db.Tx, name string, rules *projectkeys.Rules) error {
	all, err := expanded(ctx, tx, name)
	if err != nil {
		return err
	}
	for _, in := range all {
		if err := rules.CheckConfig(in.config); err != nil {
			return fmt.Errorf("instance %q: %w", project.InstanceName(in.row.Name), err)
		}
	}
	profs, err := db.ProfilesOf(ctx, tx, name)
	if err != nil {
		return err
	}
	for _, p := range profs {
		if err := rules.CheckConfig(profiles.Config{Options: p.Config, Devices: p.Devices}); err != nil {
			return fmt.Errorf("profile %q: %w", project.Name(p.Name), err)
		}
	}
	return nil
}

func checkRest(ctx context.Context, tx *db.Tx, name string, rules *projectkeys.Rules) error {
	volumes, err := db.VolumesOf(ctx, tx, name)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if err := rules.CheckPool(v.Pool); err != nil {
			return fmt.Errorf("volume %q: %w", project.Name(v.Name), err)
		}
	}
	networks, err := db.NetworksOf(ctx, tx, name)
	if err != nil {
		return err
	}
	for _, n := range networks {
		if err := checkNetwork(rules, n); err != nil {
			return fmt.Errorf("network %q: %w", project.Name(n.Name), err)
		}
	}
	objects, err := db.ProjectObjects(ctx, tx, name)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.Kind != db.OfZones {
			continue
		}
		if err := rules.CheckZone(project.Name(o.Key)); err != nil {
			return err
		}
	}
	return nil
}
