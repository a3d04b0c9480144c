package instances

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// ShutdownOptions say how instances end with the host.
type ShutdownOptions struct {
	Force bool // At once, whatever their configuration says.
}

const (
	// shutdownBulk is how many instances end at once. Most of the time they
	// are only waited for.
	shutdownBulk = 32

	// killGrace is how long an instance may take to go when it is killed. One
	// that the kernel holds does not keep the host from its end.
	killGrace = 30 * time.Second
)

// Shutdown ends all instances, as the host shuts down: those of a higher
// boot.stop.priority first, each as its configuration says. What runs now is
// on record as running, so that the next daemon starts it. From now on
// nothing starts; who wants to gets an error of kind [errs.Unavailable].
//
// It can be called again while it waits, to force what it waits for.
func (s *Service) Shutdown(ctx context.Context, opts ShutdownOptions) error {
	all := []error{}
	for _, group := range s.stopOrder(ctx, s.index.shutDoor()) {
		for _, names := range dependentsFirst(group.names, group.boot) {
			all = append(all, each(names, shutdownBulk, func(name string) error {
				return s.endWithHost(ctx, name, group.boot[name], opts)
			}))
		}
	}
	return errors.Join(all...)
}

// stopGroup are instances of the same boot.stop.priority.
type stopGroup struct {
	names []string
	boot  map[string]profiles.Boot
}

// stopOrder groups instances by their priority, the highest first. What
// cannot be read does not keep the host from its end.
func (s *Service) stopOrder(ctx context.Context, names []string) []stopGroup {
	rows, b, err := s.everything(ctx)
	if err != nil {
		s.Logger.ErrorContext(ctx, "cannot read how instances are to end", "err", err)
	}
	how := make(map[string]profiles.Boot, len(names))
	for _, name := range names {
		how[name] = profiles.ParseBoot(nil)
	}
	for _, row := range rows {
		how[row.Name] = boot(newInstance(row, choose(b.profiles, row.Profiles)))
	}
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int {
		return cmp.Compare(how[b].StopPriority, how[a].StopPriority)
	})
	var groups []stopGroup
	for i, name := range names {
		if i == 0 || how[name].StopPriority != how[names[i-1]].StopPriority {
			groups = append(groups, stopGroup{boot: how})
		}
		last := &groups[len(groups)-1]
		last.names = append(last.names, name)
	}
	return groups
}

// endWithHost ends an instance, at the latest when its time is over.
func (s *Service) endWithHost(ctx context.Context, name string, how profiles.Boot, opts ShutdownOptions) error {
	if !opts.Force && !how.Kill {
		err := s.end(ctx, name, ending{timeout: how.Timeout, wish: wishHost})
		if err == nil || errs.Is(err, errs.Invalid) {
			return nil // In the second case it has ended by itself.
		}
		s.Logger.WarnContext(ctx, "an instance does not shut down with the host: it is killed", "instance", name, "err", err)
	}
	timed, cancel := context.WithTimeoutCause(ctx, killGrace, errs.Newf(errs.Internal, "it does not go within %s", killGrace))
	defer cancel()
	if err := s.end(timed, name, ending{force: true, wish: wishHost}); err != nil && !errs.Is(err, errs.Invalid) {
		return fmt.Errorf("end instance %q: %w", name, err)
	}
	return nil
}
