package volumes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/shared/undo"
)

// Rename gives a volume another name. The devices of instances that do not
// run, and of profiles, follow it; while an instance runs with it, it is
// refused.
func (s *Service) Rename(ctx context.Context, ref Ref, to string) error {
	if err := profiles.CheckVolumeName(to); err != nil {
		return err
	}
	next := Ref{Pool: ref.Pool, Name: to}
	if _, err := s.custom(ctx, ref); err != nil {
		return err
	}
	if err := s.stays(ctx, ref, to); err != nil {
		return err
	}
	if err := s.free(ctx, next); err != nil {
		return err
	}
	release, err := s.claims.take("renamed", ref, next)
	if err != nil {
		return err
	}
	defer release()
	f, err := s.follow(ctx, ref, func(f *following) error { return s.rename(ctx, ref, to, f) })
	if err != nil {
		return fmt.Errorf("rename volume %q to %q: %w", ref.Name, to, err)
	}
	s.event("storage-volume-renamed", next, map[string]any{"old_name": ref.Name, "type": "custom"})
	f.tell(s)
	return nil
}

// renameJob checks a request for another project within a pool.
func (s *Service) renameJob(ctx context.Context, ref Ref, to string) (ops.Job, error) {
	next := Ref{Pool: ref.Pool, Name: to}
	if err := s.free(ctx, next); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Moving volume", Objects: objects(ref, next), Resources: resources(next),
		Run: func(ctx context.Context, _ *ops.Op) error { return s.Rename(ctx, ref, to) },
	}, nil
}

// stays reports users of a volume that is to come into another project, where
// they would not find it.
func (s *Service) stays(ctx context.Context, ref Ref, to string) error {
	return s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error { return staysTx(ctx, tx, ref, to) })
}

func staysTx(ctx context.Context, tx *db.Tx, ref Ref, to string) error {
	if project.Of(ref.Name) == project.Of(to) {
		return nil
	}
	by, err := usersOf(ctx, tx, ref)
	if err != nil {
		return err
	}
	return unused(target{Ref: ref}, by)
}

// rename writes down first what name the volume gets: Recover takes back a
// renaming that a crash cut short.
func (s *Service) rename(ctx context.Context, ref Ref, to string, f *following) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	v, err := s.load(ctx, ref)
	if err != nil {
		return err
	}
	d, err := s.driver(ctx, ref.Pool)
	if err != nil {
		return err
	}
	unlock, err := s.aloneWithAll(ctx, d, ref)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.patch(ctx, &v, map[string]string{keyRenaming: to}); err != nil {
		return err
	}
	u.Push("unmark the volume", func(ctx context.Context) error { return s.patch(ctx, &v, map[string]string{keyRenaming: ""}) })

	if err := d.Rename(ctx, volume(ref), to); err != nil {
		return err
	}
	next := Ref{Pool: ref.Pool, Name: to}
	u.Push("rename the volume back", func(ctx context.Context) error { return d.Rename(ctx, volume(next), ref.Name) })
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.PatchVolumeConfig(ctx, tx, ref, map[string]string{keyRenaming: ""}); err != nil {
			return err
		}
		if err := db.RenameVolume(ctx, tx, ref, to); err != nil {
			return err
		}
		return f.write(ctx, tx, ref, next)
	})
}

// following is the change of the devices that show a volume which gets another
// name, or comes into another pool.
type following struct {
	names     []string // Of instances that are held.
	instances []string // That have changed.
	profiles  []string
}

// follow calls fn while nothing changes the instances that have a volume in
// their devices.
func (s *Service) follow(ctx context.Context, ref Ref, fn func(*following) error) (*following, error) {
	for {
		names, err := s.instancesOf(ctx, ref)
		if err != nil {
			return nil, err
		}
		f, again := &following{names: names}, false
		err = s.held(ctx, names, func() error {
			now, err := s.instancesOf(ctx, ref)
			if again = err == nil && !slices.Equal(now, names); again || err != nil {
				return err // One came or went before all were held.
			}
			return fn(f)
		})
		if err != nil || !again {
			return f, err
		}
	}
}

func (s *Service) held(ctx context.Context, names []string, fn func() error) error {
	if len(names) == 0 {
		return fn()
	}
	return s.Instances.Held(ctx, names, fn)
}

// instancesOf returns the names of the instances that have a volume in their
// devices, or in those of their profiles.
func (s *Service) instancesOf(ctx context.Context, ref Ref) ([]string, error) {
	var names []string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := usersOf(ctx, tx, ref)
		names = names[:0]
		for _, u := range all {
			if name, ok := strings.CutPrefix(u, instanceURL("")); ok {
				names = append(names, name)
			}
		}
		return err
	})
	return names, err
}

// write changes the devices of instances and profiles.
func (f *following) write(ctx context.Context, tx *db.Tx, from, to Ref) error {
	f.instances, f.profiles = nil, nil
	if err := staysTx(ctx, tx, from, to.Name); err != nil {
		return err
	}
	for _, name := range f.names {
		in, err := db.GetInstance(ctx, tx, name)
		if err != nil {
			return err
		}
		next, changed := moved(in.Devices, from, to)
		if !changed {
			continue
		}
		in.Devices = next
		if err := db.UpdateInstance(ctx, tx, in); err != nil {
			return err
		}
		f.instances = append(f.instances, name)
	}
	all, err := db.Profiles(ctx, tx)
	if err != nil {
		return err
	}
	for _, p := range all {
		next, changed := moved(p.Devices, from, to)
		if !changed {
			continue
		}
		p.Devices = next
		if err := db.UpdateProfile(ctx, tx, p); err != nil {
			return err
		}
		f.profiles = append(f.profiles, p.Name)
	}
	return nil
}

// tell tells who listens what has changed.
func (f *following) tell(s *Service) {
	for _, name := range f.instances {
		s.Events.Lifecycle("instance-updated", instanceURL(name), nil)
	}
	for _, name := range f.profiles {
		s.Events.Lifecycle("profile-updated", profileURL(name), nil)
	}
}

// moved returns devices of which those that show a volume show it where it is
// now.
func moved(devices map[string]map[string]string, from, to Ref) (next map[string]map[string]string, changed bool) {
	next = maps.Clone(devices)
	for name, dev := range devices {
		if !profiles.IsVolume(dev) {
			continue
		}
		t, err := parseTarget(dev["pool"], profiles.VolumeSource(dev))
		if err != nil || t.Ref != from {
			continue
		}
		dev = maps.Clone(dev)
		dev["pool"], dev["source"] = to.Pool, to.Name
		if t.snapshot != "" && dev["source.snapshot"] == "" {
			dev["source"] += "/" + t.snapshot
		}
		next[name], changed = dev, true
	}
	return next, changed
}
