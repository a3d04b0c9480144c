package instances

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	machine "github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// needsInterval is how often is looked whether the host has what instances
// wait for.
const needsInterval = time.Second

// waiters are the instances that the daemon is to start, and that wait for
// something of the host. The zero value is ready to use.
type waiters struct {
	mu    sync.Mutex // Guards names.
	names []string
}

func (w *waiters) add(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.names, name) {
		w.names = append(w.names, name)
	}
}

func (w *waiters) remove(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = slices.DeleteFunc(w.names, func(n string) bool { return n == name })
}

func (w *waiters) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.names)
}

// StartWaiting starts the instances that [Service.Autostart] has left waiting
// for something of the host, as soon as that is there, and gives those that
// run the disks that appear. It returns when ctx ends.
func (s *Service) StartWaiting(ctx context.Context) error {
	ticker := time.NewTicker(needsInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.StartReady(ctx)
			s.AddLate(ctx)
		}
	}
}

// StartReady starts those of the waiting instances that wait no more.
func (s *Service) StartReady(ctx context.Context) {
	for _, name := range s.waiters.all() {
		in, err := s.load(ctx, name)
		if errs.Is(err, errs.NotFound) || err == nil && (!wantsStart(in) || s.index.get(name) != nil) || s.index.isShut() {
			s.waiters.remove(name)
			continue
		}
		if err != nil || s.lacks(ctx, in) != nil {
			continue
		}
		s.waiters.remove(name)
		if err := s.startNamed(ctx, name); err != nil {
			s.Logger.ErrorContext(ctx, "cannot start an instance that has waited", "instance", name, "err", err)
		}
	}
}

// lacks says what the host lacks of what the instance needs before it
// starts, or one that it depends on and that does not run.
func (s *Service) lacks(ctx context.Context, in *instance) error {
	return s.lacksOf(ctx, in, map[string]bool{})
}

func (s *Service) lacksOf(ctx context.Context, in *instance, seen map[string]bool) error {
	seen[in.Name] = true
	how := boot(in)
	for _, n := range how.WaitFor {
		if err := s.has(ctx, n); err != nil {
			return errs.Newf(errs.Unavailable, "boot.wait_for: %s is not there: %w", n, err)
		}
	}
	for _, name := range how.DependsOn {
		if seen[name] || s.index.get(name) != nil {
			continue
		}
		other, err := s.load(ctx, name)
		if err != nil {
			continue // The start says what is wrong.
		}
		if err := s.lacksOf(ctx, other, seen); err != nil {
			return fmt.Errorf("instance %q, which it depends on: %w", name, err)
		}
	}
	return nil
}

// has returns an error if the host does not have something.
func (s *Service) has(ctx context.Context, n profiles.Need) error {
	switch n.Kind {
	case profiles.NeedPool:
		_, err := s.Pools.Driver(ctx, n.Name)
		return err
	case profiles.NeedNetwork:
		_, err := s.Nets.Link(ctx, n.Name)
		if errs.Is(err, errs.NotFound) {
			_, err = net.InterfaceByName(project.Name(n.Name)) // Of the host, which is of no project.
		}
		return err
	case profiles.NeedPath:
		_, err := os.Stat(n.Name)
		return err
	}
	return nil
}

// startNeeds sees to it that an instance can start: the host has what it
// waits for, and those that it depends on run. path are the instances that are
// started for its sake, itself last; no lock of theirs is held.
func (s *Service) startNeeds(ctx context.Context, in *instance, path []string) error {
	how := boot(in)
	for _, n := range how.WaitFor {
		if err := s.has(ctx, n); err != nil {
			return errs.Newf(errs.Unavailable, "boot.wait_for: %s is not there: %w", n, err)
		}
	}
	for _, name := range how.DependsOn {
		if slices.Contains(path, name) {
			return errs.Invalidf("boot.depends_on: %s and %s need each other to run first", in.Name, name)
		}
		err := s.startFor(ctx, name, append(slices.Clone(path), name))
		if err != nil && s.index.get(name) == nil {
			return fmt.Errorf("boot.depends_on: instance %q: %w", name, asInvalid(err))
		}
	}
	return nil
}

// checkDependencies reports what is wrong with the instances that in depends
// on, if it did not depend on the same as before.
func (s *Service) checkDependencies(ctx context.Context, before, in *instance) error {
	names := boot(in).DependsOn
	if len(names) == 0 || before != nil && slices.Equal(boot(before).DependsOn, names) {
		return nil
	}
	needs := map[string][]string{in.Name: names}
	for asked := slices.Clone(names); len(asked) > 0; asked = asked[1:] {
		name := asked[0]
		if _, known := needs[name]; known {
			continue
		}
		other, err := s.load(ctx, name)
		switch {
		case errs.Is(err, errs.NotFound) && slices.Contains(names, name):
			return errs.Invalidf("boot.depends_on: got %q, and there is no instance of that name", name)
		case errs.Is(err, errs.NotFound):
			continue // It has gone, and needs nothing.
		case err != nil:
			return err
		}
		needs[name] = boot(other).DependsOn
		asked = append(asked, needs[name]...)
	}
	if via := around(needs, in.Name, in.Name, map[string]bool{}); via != "" {
		return errs.Invalidf("boot.depends_on: got %q, which cannot run before %s and after it", via, in.Name)
	}
	return nil
}

// around returns the need of an instance that leads back to target; "" for
// none.
func around(needs map[string][]string, from, target string, seen map[string]bool) string {
	seen[from] = true
	for _, name := range needs[from] {
		if name == target || !seen[name] && around(needs, name, target, seen) != "" {
			return name
		}
	}
	return ""
}

// dependentsFirst sorts the names of instances so that each comes before
// those that it depends on, and returns them in groups whose members do not
// depend on each other.
func dependentsFirst(names []string, how map[string]profiles.Boot) [][]string {
	depth := map[string]int{}
	for changed := true; changed; {
		changed = false
		for _, name := range names {
			for _, need := range how[name].DependsOn {
				if d := depth[name] + 1; d > depth[need] && d <= len(names) { // There may be circles.
					depth[need], changed = d, true
				}
			}
		}
	}
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int { return cmp.Compare(depth[a], depth[b]) })
	var groups [][]string
	for i, name := range sorted {
		if i == 0 || depth[name] != depth[sorted[i-1]] {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], name)
	}
	return groups
}

// loadModules loads the kernel's modules that an instance needs.
func loadModules(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if err := machine.LoadModules(ctx, names); err != nil {
		return fmt.Errorf("linux.kernel_modules: %w", err)
	}
	return nil
}

// changeModules loads what the configuration of a running instance has in
// addition. What is loaded stays.
func changeModules(ctx context.Context, in, next *instance) error {
	const key = "linux.kernel_modules"
	if in.expanded.Options[key] == next.expanded.Options[key] {
		return nil
	}
	set, err := settings(next)
	if err != nil {
		return err
	}
	return loadModules(ctx, set.Modules)
}

// checkRequirements reports what the instance's image requires and is not.
func checkRequirements(in *instance, set profiles.Settings) error {
	wants := func(what string) string { return in.Config["image.requirements."+what] }
	if isTrue(wants("nesting")) && !set.Security.Nesting {
		return errs.Invalidf("image.requirements.nesting: the image needs the option security.nesting=true")
	}
	if v := wants("privileged"); v != "" && !isTrue(v) && set.Security.Privileged {
		return errs.Invalidf("image.requirements.privileged: the image must not run with security.privileged=true")
	}
	if wants("cgroup") == "v1" && onlyCgroup2() {
		return errs.Invalidf("image.requirements.cgroup: the image needs cgroups of version 1, which this host does not have")
	}
	return nil
}

// onlyCgroup2 reports whether the host has nothing but cgroup2.
func onlyCgroup2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}
