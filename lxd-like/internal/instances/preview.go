package instances

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
)

// PreviewProfile says what a change of a profile would change of which
// instances, and which of them would refuse it. It changes nothing.
func (s *Service) PreviewProfile(ctx context.Context, name string, put api.ProfilePut) ([]api.InstanceChange, error) {
	next := newProfile(name, put)
	if err := s.validateProfile(ctx, next); err != nil {
		return nil, err
	}
	if _, err := s.userNames(ctx, name); err != nil {
		return nil, err
	}
	before, after, err := s.usersWith(ctx, next)
	if err != nil {
		return nil, err
	}
	all := make([]api.InstanceChange, 0, len(after))
	for i, in := range after {
		if c := s.preview(ctx, before[i], in); len(c.Changes) > 0 || c.Error != "" {
			all = append(all, c)
		}
	}
	return all, nil
}

// Preview says what a change of an instance's own configuration would change.
func (s *Service) Preview(ctx context.Context, name string, put api.InstancePut) ([]api.InstanceChange, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return nil, err
	}
	next, err := s.updated(ctx, in, put)
	if err != nil {
		return nil, err
	}
	return []api.InstanceChange{s.preview(ctx, in, next)}, nil
}

func (s *Service) preview(ctx context.Context, in, next *instance) api.InstanceChange {
	out := api.InstanceChange{Instance: in.Name, Status: s.code(in.Name).String(), Changes: s.changes(in, next)}
	want, err := s.checkChange(ctx, in, next)
	s.unplan(want)
	if err != nil {
		out.Error = err.Error()
	}
	return out
}

// changes lists what differs between two expanded configurations, by key.
func (s *Service) changes(in, next *instance) []api.ConfigChange {
	before, after := flat(in.expanded), flat(next.expanded)
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	all := []api.ConfigChange{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if before[key] == after[key] || strings.HasPrefix(key, "volatile.") {
			continue
		}
		c := api.ConfigChange{Key: key, Before: before[key], After: after[key], When: api.WhenStart}
		if s.index.get(in.Name) != nil && isLive(key) {
			c.When = api.WhenNow
		}
		all = append(all, c)
	}
	return all
}

// prefixDevices is before the names of devices where keys and devices are
// listed together.
const prefixDevices = "devices."

// flat has the options of a configuration and those of its devices, the latter
// as devices.NAME.OPTION.
func flat(c profiles.Config) map[string]string {
	all := maps.Clone(c.Options)
	if all == nil {
		all = map[string]string{}
	}
	for name, dev := range c.Devices {
		for option, v := range dev {
			all[prefixDevices+name+"."+option] = v
		}
	}
	return all
}

// isLive reports whether a change reaches a running instance at once. Devices
// are taken out and put in again; their initial.* are for when they are made.
func isLive(key string) bool {
	if strings.HasPrefix(key, prefixDevices) {
		return !strings.Contains(key, ".initial.")
	}
	k, _ := profiles.Lookup(key)
	return k.Live
}
