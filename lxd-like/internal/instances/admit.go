package instances

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// projectRules knows what projects say of the instances that are in them.
type projectRules interface {
	// Rules are what a project limits and restricts; nil if nothing.
	Rules(project string) *projectkeys.Rules
	// Config is the value of a key of a project; empty if it is not set.
	Config(project, key string) string
}

// rules are those of the project that an instance is in.
func (s *Service) rules(name string) *projectkeys.Rules {
	if s.Rules == nil {
		return nil
	}
	return s.Rules.Rules(project.OfInstance(name))
}

// What follows tells who asks for a change that its project does not allow,
// before anything is done for it. When it is written down, the database asks
// again.

// admitNew reports what a project has against a new instance.
func (s *Service) admitNew(ctx context.Context, in *instance) error {
	return s.DB.Try(ctx, ofInstance(in.Name), func(ctx context.Context, tx *db.Tx) error {
		row := in.Instance
		return db.AddInstance(ctx, tx, &row)
	})
}

// admitChange reports what a project has against what an instance is to be.
func (s *Service) admitChange(ctx context.Context, next *instance) error {
	return s.admitMove(ctx, next, next.Name)
}

// admitMove is admitChange for an instance that gets a name, which can be of
// another project: then that has a say in it, and its own has none.
func (s *Service) admitMove(ctx context.Context, next *instance, to string) error {
	return s.DB.Try(ctx, ofInstance(to), func(ctx context.Context, tx *db.Tx) error {
		err := errors.Join(db.UpdateInstance(ctx, tx, next.Instance), db.SetInstancePool(ctx, tx, next.Name, next.PoolID))
		if err != nil || to == next.Name {
			return err
		}
		return db.RenameInstance(ctx, tx, next.Name, to)
	})
}

// admitProfile reports what projects have against what a profile is to be.
func (s *Service) admitProfile(ctx context.Context, next db.Profile) error {
	return s.DB.Try(ctx, db.ProjectObject{Kind: db.OfProfiles, Key: next.Name}, func(ctx context.Context, tx *db.Tx) error {
		return db.UpdateProfile(ctx, tx, next)
	})
}

func ofInstance(name string) db.ProjectObject {
	return db.ProjectObject{Kind: db.OfInstances, Key: name}
}

// checkVolatile reports keys of the daemon that a client changes and its project
// does not let it. before is what there is, and may be nil.
func (s *Service) checkVolatile(name string, before, given map[string]string) error {
	rules := s.rules(name)
	if rules == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !isNICKey(key) || given[key] == before[key] || given[key] == "" {
			continue
		}
		if err := rules.CheckVolatile(key); err != nil {
			return errs.Newf(errs.KindOf(err), "project %q: %w", project.OfInstance(name), err)
		}
	}
	return nil
}

// mayNotSnapshot reports whether the project of an instance lets nobody make
// snapshots, in which case one that is due is none.
func (s *Service) mayNotSnapshot(ctx context.Context, name string) bool {
	return errs.Is(s.DB.Allowed(ctx, db.ProjectObject{Kind: db.OfSnapshots, Key: name}), errs.Denied)
}
