// Package projects keeps projects: whose objects are whose, and what of them a
// project shares with the default one.
package projects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/events"
	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/lxd-like/projectkeys"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// Service keeps the projects. It is safe for concurrent use.
type Service struct {
	DB     *db.DB
	Events *events.Hub
	Log    *slog.Logger

	// Remove deletes one object, when its project is deleted by force. An error
	// of kind NotFound is none.
	Remove func(ctx context.Context, o db.ProjectObject) error

	// Keep returns an error if an object is not to be deleted by that. It is
	// asked of all before the first is.
	Keep func(ctx context.Context, o db.ProjectObject) error

	mu    sync.RWMutex // Guards known.
	known map[string]known
}

// known is what is asked so often of a project that it is kept in memory.
type known struct {
	view   scope.View
	rules  *projectkeys.Rules // Nil if it limits and restricts nothing.
	config map[string]string
}

// Open reads the projects.
func (s *Service) Open(ctx context.Context) error {
	return s.DB.View(ctx, s.read)
}

func (s *Service) read(ctx context.Context, tx *db.Tx) error {
	all, err := db.Projects(ctx, tx)
	if err != nil {
		return err
	}
	next := make(map[string]known, len(all))
	for _, p := range all {
		next[p.Name] = known{viewOf(p), projectkeys.NewRules(p.Config), p.Config}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = next
	return nil
}

func (s *Service) get(name string) known {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.known[name]
}

// viewOf says where who works in a project finds what.
func viewOf(p db.Project) scope.View {
	where := func(feature string) string {
		if p.Config[feature] == "true" {
			return p.Name
		}
		return project.Default
	}
	return scope.View{
		Project: p.Name, Profiles: where(projectkeys.Profiles), Images: where(projectkeys.Images), Volumes: where(projectkeys.Volumes),
		Networks: where(projectkeys.Networks), Zones: where(projectkeys.Zones),
	}
}

// View implements [scope.Views].
func (s *Service) View(_ context.Context, name string) (scope.View, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if k, ok := s.known[name]; ok {
		return k.view, nil
	}
	return scope.View{}, db.NoProject(name)
}

// List returns all projects by name.
func (s *Service) List(ctx context.Context) ([]api.Project, error) {
	var out []api.Project
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Projects(ctx, tx)
		if err != nil {
			return err
		}
		objects, err := db.ProjectObjects(ctx, tx, "")
		if err != nil {
			return err
		}
		has := map[string][]db.ProjectObject{}
		for _, o := range objects {
			has[of(o)] = append(has[of(o)], o)
		}
		for _, p := range all {
			out = append(out, describe(p, has[p.Name]))
		}
		return nil
	})
	return out, err
}

// Get returns a project.
func (s *Service) Get(ctx context.Context, name string) (api.Project, error) {
	var out api.Project
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, objects, err := load(ctx, tx, name)
		out = describe(p, objects)
		return err
	})
	return out, err
}

func load(ctx context.Context, tx *db.Tx, name string) (db.Project, []db.ProjectObject, error) {
	p, err := db.GetProject(ctx, tx, name)
	if err != nil {
		return p, nil, err
	}
	objects, err := db.ProjectObjects(ctx, tx, name)
	return p, objects, err
}

func describe(p db.Project, objects []db.ProjectObject) api.Project {
	out := api.Project{ProjectPut: api.ProjectPut{Config: p.Config, Description: p.Description}, Name: p.Name, UsedBy: []string{}}
	for _, o := range objects {
		out.UsedBy = append(out.UsedBy, ObjectURL(o))
	}
	return out
}

// Create adds a project, with a profile of its own if it has profiles.
func (s *Service) Create(ctx context.Context, req api.ProjectsPost) error {
	if err := project.CheckName(req.Name); err != nil {
		return err
	}
	config, err := projectkeys.Normal(projectkeys.WithFeatures(req.Config))
	if err != nil {
		return err
	}
	p := db.Project{Name: req.Name, Description: req.Description, Config: config}
	err = s.change(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.AddProject(ctx, tx, &p); err != nil {
			return err
		}
		return addProfile(ctx, tx, p)
	})
	if err == nil {
		s.Events.Lifecycle("project-created", URL(p.Name), nil)
	}
	return err
}

// Reinstate makes a project that is not there as it was, and reports whether it
// did. The default one, which is always there, gets what it had if nobody has
// touched it yet.
func (s *Service) Reinstate(ctx context.Context, p api.Project) (made bool, err error) {
	_, err = s.View(ctx, p.Name)
	switch {
	case errs.Is(err, errs.NotFound):
		return true, s.Create(ctx, api.ProjectsPost{ProjectPut: p.ProjectPut, Name: p.Name})
	case err != nil || p.Name != project.Default || bare(p.Config) || !bare(s.get(p.Name).config):
		return false, err
	}
	return true, s.Update(ctx, p.Name, p.ProjectPut)
}

// bare reports whether a configuration says no more than which features there are.
func bare(config map[string]string) bool {
	features := projectkeys.WithFeatures(nil)
	for key, value := range config {
		if features[key] == "" && value != "" {
			return false
		}
	}
	return true
}

func addProfile(ctx context.Context, tx *db.Tx, p db.Project) error {
	if viewOf(p).Profiles == project.Default {
		return nil
	}
	return db.AddProfile(ctx, tx, new(newProfile(p.Name)))
}

func newProfile(name string) db.Profile {
	return db.Profile{Name: project.Key(name, ownProfile), Description: "Default profile of project " + name}
}

// ownProfile is the profile that every project has which has profiles.
const ownProfile = "default"

// Update replaces description and configuration. What the project has of its
// own can be changed only while it has nothing.
func (s *Service) Update(ctx context.Context, name string, put api.ProjectPut) error {
	config, err := projectkeys.Normal(projectkeys.WithFeatures(put.Config))
	if err != nil {
		return err
	}
	err = s.change(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, objects, err := load(ctx, tx, name)
		if err != nil {
			return err
		}
		if changed := changedFeatures(p.Config, config); len(changed) > 0 {
			if err := s.checkEmpty(p, objects, "changes "+strings.Join(changed, ", ")); err != nil {
				return err
			}
		}
		before := viewOf(p)
		p.Description, p.Config = put.Description, config
		if err := db.UpdateProject(ctx, tx, p); err != nil {
			return err
		}
		if err := checkAll(ctx, tx, p); err != nil {
			return err
		}
		switch after := viewOf(p); {
		case before.Profiles == after.Profiles:
			return nil
		case after.Profiles == project.Default:
			return db.DeleteProfile(ctx, tx, project.Key(name, ownProfile))
		}
		return addProfile(ctx, tx, p)
	})
	if err == nil {
		s.Events.Lifecycle("project-updated", URL(name), nil)
	}
	return err
}

// Rename gives another name to a project that has nothing.
func (s *Service) Rename(ctx context.Context, name, to string) error {
	if err := project.CheckName(to); err != nil {
		return err
	}
	err := s.change(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, objects, err := load(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := s.checkEmpty(p, objects, "is renamed"); err != nil {
			return err
		}
		if viewOf(p).Profiles != project.Default {
			if err := db.RenameProfile(ctx, tx, project.Key(name, ownProfile), project.Key(to, ownProfile)); err != nil {
				return err
			}
		}
		return db.RenameProject(ctx, tx, name, to)
	})
	if err == nil {
		s.Events.Lifecycle("project-renamed", URL(to), map[string]any{"old_name": name})
	}
	return err
}

// Delete deletes a project that has nothing or, with force, all that it has
// as well.
func (s *Service) Delete(ctx context.Context, name string, force bool) error { //nolint:revive // It is what a client says.
	if name == project.Default {
		return errs.Newf(errs.Denied, "project %q cannot be deleted", name)
	}
	if force {
		if err := s.empty(ctx, name); err != nil {
			return err
		}
	}
	err := s.change(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, objects, err := load(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := s.checkEmpty(p, objects, "is deleted"); err != nil {
			return err
		}
		if viewOf(p).Profiles != project.Default {
			if err := db.DeleteProfile(ctx, tx, project.Key(name, ownProfile)); err != nil {
				return err
			}
		}
		return db.DeleteProject(ctx, tx, name)
	})
	if err == nil {
		s.Events.Lifecycle("project-deleted", URL(name), nil)
	}
	return err
}

func (s *Service) empty(ctx context.Context, name string) error {
	var objects []db.ProjectObject
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		_, objects, err = load(ctx, tx, name)
		return err
	})
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := s.Keep(ctx, o); err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	for _, kind := range removal {
		if kind == db.OfVolumes {
			if err := s.clearProfile(ctx, name); err != nil {
				return err
			}
		}
		for _, o := range foreign(name, objects) {
			if o.Kind != kind {
				continue
			}
			if err := s.Remove(ctx, o); err != nil && !errs.Is(err, errs.NotFound) {
				return fmt.Errorf("delete %s: %w", project.URL(ObjectURL(o)), err)
			}
		}
	}
	return nil
}

// clearProfile takes away what the profile that stays has of what is to go.
func (s *Service) clearProfile(ctx context.Context, name string) error {
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetProject(ctx, tx, name)
		if err != nil || viewOf(p).Profiles == project.Default {
			return err
		}
		return db.UpdateProfile(ctx, tx, newProfile(name))
	})
}

// removal is in which order what a project has goes: first what uses others.
var removal = []string{db.OfInstances, db.OfImages, db.OfProfiles, db.OfVolumes, db.OfNetworks, db.OfACLs, db.OfSets, db.OfZones}

// checkEmpty refuses what can be done only with a project that has nothing.
func (s *Service) checkEmpty(p db.Project, objects []db.ProjectObject, what string) error {
	if p.Name == project.Default {
		return errs.Newf(errs.Denied, "project %q is always there: nothing %s", p.Name, what)
	}
	own := foreign(p.Name, objects)
	if len(own) == 0 {
		return nil
	}
	return errs.Conflictf("project %q is not empty: it has %s, and only an empty project %s", p.Name, project.URL(ObjectURL(own[0])), what)
}

// foreign is what a project has beside the profile that it always has.
func foreign(name string, objects []db.ProjectObject) []db.ProjectObject {
	return slices.DeleteFunc(slices.Clone(objects), func(o db.ProjectObject) bool {
		return o.Kind == db.OfProfiles && o.Key == project.Key(name, ownProfile)
	})
}

// change changes projects, and what is known of them: at once, so that the next
// transaction is held to it.
func (s *Service) change(ctx context.Context, fn func(context.Context, *db.Tx) error) error {
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return s.read(ctx, tx)
	})
	if err != nil {
		return errors.Join(err, s.Open(ctx))
	}
	return nil
}

func changedFeatures(old, config map[string]string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(projectkeys.WithFeatures(nil))), func(key string) bool {
		return (old[key] == "true") == (config[key] == "true")
	})
}
