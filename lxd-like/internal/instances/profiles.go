package instances

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// Profiles returns all profiles by name.
func (s *Service) Profiles(ctx context.Context) ([]api.Profile, error) {
	var out []api.Profile
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Profiles(ctx, tx)
		if err != nil {
			return err
		}
		rows, err := db.InstanceHeads(ctx, tx, "")
		if err != nil {
			return err
		}
		users := map[string][]string{}
		for _, row := range rows {
			for _, name := range row.Profiles {
				users[name] = append(users[name], row.Name)
			}
		}
		out = make([]api.Profile, 0, len(all))
		for _, p := range all {
			out = append(out, apiProfile(p, users[p.Name]))
		}
		return nil
	})
	return out, err
}

// Profile returns a profile.
func (s *Service) Profile(ctx context.Context, name string) (api.Profile, error) {
	var out api.Profile
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := db.GetProfile(ctx, tx, name)
		if err != nil {
			return err
		}
		users, err := db.NamesUsingProfile(ctx, tx, name)
		out = apiProfile(p, users)
		return err
	})
	return out, err
}

func apiProfile(p db.Profile, users []string) api.Profile {
	out := api.Profile{
		ProfilePut: api.ProfilePut{Config: apiConfig(p.Config), Description: p.Description, Devices: apiDevices(p.Devices)},
		Name:       p.Name, UsedBy: []string{}, Project: "default",
	}
	for _, u := range users {
		out.UsedBy = append(out.UsedBy, instanceURL(u))
	}
	return out
}

func profileURL(name string) string { return "/1.0/profiles/" + url.PathEscape(name) }

// CreateProfile adds a profile, which no instance has yet.
func (s *Service) CreateProfile(ctx context.Context, req api.ProfilesPost) error {
	if err := profiles.CheckProfileName(req.Name); err != nil {
		return err
	}
	p := newProfile(req.Name, req.ProfilePut)
	if err := s.validateProfile(ctx, p); err != nil {
		return err
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetProfile(ctx, tx, req.Name); err == nil {
			return errs.Conflictf("profile %q exists already", req.Name)
		}
		return db.AddProfile(ctx, tx, &p)
	})
	if err == nil {
		s.Events.Lifecycle("profile-created", profileURL(req.Name), nil)
	}
	return err
}

func newProfile(name string, put api.ProfilePut) db.Profile {
	return db.Profile{Name: name, Description: put.Description, Config: given(put.Config), Devices: givenDevices(put.Devices)}
}

func (s *Service) validateProfile(ctx context.Context, p db.Profile) error {
	if err := profiles.ValidateProfile(profiles.Config{Options: p.Config, Devices: p.Devices}); err != nil {
		return err
	}
	return s.checkParents(ctx, p.Devices)
}

// RenameProfile gives a profile another name. Its instances keep it.
func (s *Service) RenameProfile(ctx context.Context, name, to string) error {
	if project.Name(name) == defaultProfile {
		return errs.Newf(errs.Denied, "profile %q cannot be renamed", name)
	}
	if err := profiles.CheckProfileName(to); err != nil {
		return err
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetProfile(ctx, tx, to); err == nil {
			return errs.Conflictf("profile %q exists already", to)
		}
		return db.RenameProfile(ctx, tx, name, to)
	})
	if err == nil {
		s.Events.Lifecycle("profile-renamed", profileURL(to), map[string]any{"old_name": name})
	}
	return err
}

// DeleteProfile deletes a profile that no instance has.
func (s *Service) DeleteProfile(ctx context.Context, name string) error {
	if project.Name(name) == defaultProfile {
		return errs.Newf(errs.Denied, "profile %q cannot be deleted", name)
	}
	err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		users, err := db.NamesUsingProfile(ctx, tx, name)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return errs.Conflictf("profile %q is in use by instance %q", name, users[0])
		}
		return db.DeleteProfile(ctx, tx, name)
	})
	if err == nil {
		s.Events.Lifecycle("profile-deleted", profileURL(name), nil)
	}
	return err
}

// UpdateProfile changes a profile. It checks the change against all instances
// that have the profile, applies it to those that run, and writes it down; if
// one of them cannot take it, none keeps it.
func (s *Service) UpdateProfile(ctx context.Context, name string, put api.ProfilePut) (err error) {
	next := newProfile(name, put)
	if err := s.validateProfile(ctx, next); err != nil {
		return err
	}
	users, err := s.profileUsers(ctx, next)
	if err != nil {
		return err
	}
	defer users.unlock()
	before, after := users.before, users.after

	var u undo.Stack
	defer u.Unwind(ctx, &err)

	wants := make([]plan, len(after))
	defer func() {
		for _, want := range wants {
			s.unplan(want)
		}
	}()
	for i, in := range after {
		if wants[i], err = s.checkChange(ctx, before[i], in); err != nil {
			return fmt.Errorf("profile %q: instance %q: %w", name, in.Name, err)
		}
	}
	if err := s.admitProfile(ctx, next); err != nil {
		return err
	}
	if err := s.changeAll(ctx, before, after, wants, &u); err != nil {
		return fmt.Errorf("profile %q: %w", name, err)
	}
	err = s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.UpdateProfile(ctx, tx, next); err != nil {
			return err
		}
		return s.writeVolatile(ctx, tx, before, after)
	})
	if err != nil {
		return err
	}
	for i, in := range after {
		s.tellGuest(before[i], in)
	}
	s.Events.Lifecycle("profile-updated", profileURL(name), nil)
	return nil
}

const (
	// profileBulk is how many instances get the devices of a profile at once:
	// most of the time programs are waited for that run beside the guests.
	profileBulk = 8

	// profileFew is how many are not worth that.
	profileFew = 4
)

// changeAll is change for many instances, whose options change one after the
// other, as that takes no time and they share the host's processors. What
// takes it back is on u, also if it fails.
func (s *Service) changeAll(ctx context.Context, before, after []*instance, wants []plan, u *undo.Stack) error {
	for i, in := range after {
		if err := s.changeOptions(ctx, before[i], in, u); err != nil {
			return fmt.Errorf("instance %q: %w", in.Name, err)
		}
	}
	stacks := make([]undo.Stack, len(after))
	defer func() {
		for i := range stacks {
			u.Take(&stacks[i])
		}
	}()
	one := func(i int) error {
		if err := s.changeDevices(ctx, before[i], after[i], wants[i], &stacks[i]); err != nil {
			return fmt.Errorf("instance %q: %w", after[i].Name, err)
		}
		return nil
	}
	if len(after) <= profileFew {
		for i := range after {
			if err := one(i); err != nil {
				return err
			}
		}
		return nil
	}
	g, stopped := errgroup.WithContext(ctx)
	g.SetLimit(profileBulk)
	for i := range after {
		if stopped.Err() != nil {
			break // One has failed.
		}
		g.Go(func() error { return one(i) })
	}
	return g.Wait()
}

// writeVolatile writes down what the daemon must remember of the instances
// that changed with a profile.
func (s *Service) writeVolatile(ctx context.Context, tx *db.Tx, before, after []*instance) error {
	for i, in := range after {
		keys := changedKeys(before[i].Config, in.Config)
		if len(keys) == 0 {
			continue
		}
		if err := db.PatchInstanceConfig(ctx, tx, in.Name, keys); err != nil {
			return err
		}
	}
	return nil
}

// changedKeys is the patch that makes after of before.
func changedKeys(before, after map[string]string) map[string]string {
	keys := map[string]string{}
	for k := range before {
		if _, ok := after[k]; !ok {
			keys[k] = ""
		}
	}
	for k, v := range after {
		if before[k] != v {
			keys[k] = v
		}
	}
	return keys
}

// profileUsers are the instances that have a profile, with their locks held.
type profileUsers struct {
	before, after []*instance // As they are, and as the new profile makes them.
	unlock        func()
}

func (s *Service) profileUsers(ctx context.Context, next db.Profile) (profileUsers, error) {
	for {
		names, err := s.userNames(ctx, next.Name)
		if err != nil {
			return profileUsers{}, err
		}
		users := profileUsers{unlock: s.locks.LockAll(names...)}
		users.before, users.after, err = s.usersWith(ctx, next)
		if err != nil {
			users.unlock()
			return profileUsers{}, err
		}
		if slices.EqualFunc(users.before, names, func(in *instance, name string) bool { return in.Name == name }) {
			return users, nil
		}
		users.unlock() // One came or went before the locks were held.
	}
}

func (s *Service) userNames(ctx context.Context, profile string) ([]string, error) {
	var names []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.GetProfile(ctx, tx, profile); err != nil {
			return err
		}
		var err error
		names, err = db.NamesUsingProfile(ctx, tx, profile)
		return err
	})
	return names, err
}

func (s *Service) usersWith(ctx context.Context, next db.Profile) (before, after []*instance, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		before, after = nil, nil
		rows, err := db.InstancesUsingProfile(ctx, tx, next.Name)
		if err != nil {
			return err
		}
		profs, err := db.Profiles(ctx, tx)
		if err != nil {
			return err
		}
		slices.SortFunc(rows, func(a, b db.Instance) int { return cmp.Compare(a.Name, b.Name) })
		now := profilesByName(profs)
		then := maps.Clone(now)
		then[next.Name] = next
		for _, row := range rows {
			in, out := newInstance(row, choose(now, row.Profiles)), newInstance(row, choose(then, row.Profiles))
			forgetNICs(in, out)
			before, after = append(before, in), append(after, out)
		}
		return nil
	})
	return before, after, err
}
