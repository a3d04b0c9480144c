package instances

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/undo"
)

// A Change returns what an instance, or a snapshot, is to be, from what it is, or
// an error if it is not what the client has read. It is called more than once.
type Change[Put any] = func(now Put) (Put, error)

// Update checks a change of an instance's configuration, or a request to put
// a snapshot back.
func (s *Service) Update(ctx context.Context, name string, change Change[api.InstancePut]) (ops.Job, error) {
	in, err := s.load(ctx, name)
	if err != nil {
		return ops.Job{}, err
	}
	put, err := change(s.describe(in).InstancePut)
	if err != nil {
		return ops.Job{}, err
	}
	if put.Restore != "" {
		return s.restoreJob(ctx, in, put, change)
	}
	next, err := s.updated(ctx, in, put)
	if err != nil {
		return ops.Job{}, err
	}
	want, err := s.checkChange(ctx, in, next)
	s.unplan(want)
	if err != nil {
		return ops.Job{}, err
	}
	if err := s.admitChange(ctx, next); err != nil {
		return ops.Job{}, err
	}
	return ops.Job{
		Description: "Updating instance", Objects: objects(name), Resources: resources(name),
		Run: func(ctx context.Context, op *ops.Op) error {
			s.tellHooks(next, in, op)
			return s.UpdateNow(ctx, name, change)
		},
	}, nil
}

// UpdateNow changes an instance's configuration, all of it or nothing. What
// can change while the instance runs does; the rest waits for its next start.
// Nobody else changes the instance meanwhile.
func (s *Service) UpdateNow(ctx context.Context, name string, change Change[api.InstancePut]) error {
	in, unlock, err := s.locked(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	put, err := change(s.describe(in).InstancePut)
	if err != nil {
		return err
	}
	next, err := s.updated(ctx, in, put)
	if err != nil {
		return err
	}
	want, err := s.checkChange(ctx, in, next)
	defer func() { s.unplan(want) }()
	if err != nil {
		return err
	}
	if err := s.admitChange(ctx, next); err != nil {
		return err
	}
	if err := s.update(ctx, in, next, want); err != nil {
		return fmt.Errorf("update instance %q: %w", name, err)
	}
	s.tellGuest(in, next)
	s.event("instance-updated", name, nil)
	return nil
}

// changed returns the instance as the request wants it.
func (s *Service) changed(ctx context.Context, in *instance, put api.InstancePut) (*instance, error) {
	if put.Stateful {
		return nil, errs.Newf(errs.Unsupported, "stateful instances are not supported")
	}
	if err := s.checkVolatile(in.Name, in.Config, put.Config); err != nil {
		return nil, err
	}
	next := &instance{Instance: in.Instance}
	next.Config, next.Devices = given(put.Config), givenDevices(put.Devices)
	keepInternal(in.Config, next.Config, s.index.get(in.Name) != nil)
	next.Description, next.Ephemeral, next.Profiles = put.Description, put.Ephemeral, put.Profiles
	if put.Architecture != "" {
		next.Architecture = put.Architecture
	}
	if next.Profiles == nil {
		next.Profiles = []string{}
	}
	if next.Architecture != in.Architecture {
		if err := checkArchitecture(&next.Architecture); err != nil {
			return nil, err
		}
	}
	if err := s.refresh(ctx, next); err != nil {
		return nil, err
	}
	forgetNICs(in, next)
	return next, nil
}

// updated is changed for an instance that stays where it is.
func (s *Service) updated(ctx context.Context, in *instance, put api.InstancePut) (*instance, error) {
	next, err := s.changed(ctx, in, put)
	if err != nil {
		return nil, err
	}
	keepRoot(in, next)
	if id := put.Config[keyUUID]; id != "" && id != in.Config[keyUUID] {
		// It is what another instance has: clients send that to a copy that
		// they have brought up to date, and it is where it is.
		_, was, _ := root(next.expanded)
		next.putRoot(in.Pool)
		if _, err := s.fitRoot(ctx, next, was); err != nil {
			return nil, err
		}
	}
	return next, s.keepNICs(ctx, in, next)
}

// keepNICs keeps what is remembered of the instance's NICs where a client gives
// it what is another's: clients do so that bring a copy up to date.
func (s *Service) keepNICs(ctx context.Context, in, next *instance) error {
	var given []string
	for k, v := range next.Config {
		if isNICKey(k) && !strings.HasSuffix(k, ".name") && v != in.Config[k] { // Each guest has its own eth0.
			given = append(given, k)
		}
	}
	if len(given) == 0 {
		return nil
	}
	taken := map[string]bool{}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.Instances(ctx, tx)
		for _, other := range all {
			for _, k := range given {
				taken[k] = taken[k] || other.Name != in.Name && other.Config[k] == next.Config[k]
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	own := map[string]string{}
	for _, k := range given {
		if taken[k] {
			own[k] = in.Config[k] // Or nothing.
		}
	}
	next.apply(own)
	return nil
}

// keepRoot keeps the instance's own root disk where a client leaves it out and
// a profile has one in another pool: clients do so that bring a copy in
// another pool up to date.
func keepRoot(in, next *instance) {
	name, disk, ok := root(next.expanded)
	if !ok || disk["pool"] == in.Pool || next.Devices[name] != nil || in.Devices[name]["pool"] != in.Pool {
		return
	}
	next.Devices, next.expanded.Devices = maps.Clone(next.Devices), maps.Clone(next.expanded.Devices)
	next.Devices[name], next.expanded.Devices[name] = in.Devices[name], in.Devices[name]
}

// keepInternal keeps what only the daemon may change, whatever the client
// says: clients send back what they read, which can be old. The addresses and
// names of NICs are the user's too; if they are left out, a running instance
// keeps them.
func keepInternal(before, next map[string]string, running bool) { //nolint:revive // Not exported.
	for k := range next {
		if isInternal(k) {
			delete(next, k)
		}
	}
	for k, v := range before {
		_, given := next[k]
		if isInternal(k) || running && isNICKey(k) && !given {
			next[k] = v
		}
	}
}

// isInternal reports whether only the daemon may change the key: all that is
// volatile but the addresses and names of NICs, which users may move between
// instances.
func isInternal(key string) bool {
	return strings.HasPrefix(key, "volatile.") && !isNICKey(key)
}

// nicOptions are what is remembered of a NIC, in keys volatile.NAME.OPTION.
var nicOptions = []string{".hwaddr", ".name", ".host_name"}

// forgetNICs makes next forget the addresses and names of the devices that in
// has and next has not any more: one of that name that comes later is another.
func forgetNICs(in, next *instance) {
	gone := map[string]string{}
	for name := range in.expanded.Devices {
		if _, stays := next.expanded.Devices[name]; stays {
			continue
		}
		for _, option := range slices.Concat(nicOptions, []string{".last_state.ip_addresses", ownerOption}) {
			gone["volatile."+name+option] = ""
		}
	}
	next.apply(gone)
}

func isNICKey(key string) bool {
	for _, option := range nicOptions {
		if strings.HasPrefix(key, "volatile.") && strings.HasSuffix(key, option) && !strings.Contains(key, ".last_state.") {
			return true
		}
	}
	return false
}

// checkChange reports why the instance cannot become next, before anything
// is touched. It returns what the devices are planned to be if they change, also
// with an error: the caller unplans it.
func (s *Service) checkChange(ctx context.Context, in, next *instance) (plan, error) {
	if err := s.checkVolumes(ctx, next); err != nil {
		return nil, err
	}
	want, err := s.checkNext(ctx, in, next)
	if err != nil {
		return want, err
	}
	if err := samePool(in, next); err != nil {
		return want, err
	}
	if err := s.checkRepository(ctx, in, next); err != nil {
		return want, err
	}
	if err := s.checkDependencies(ctx, in, next); err != nil {
		return want, err
	}
	if err := s.checkAliases(ctx, in, next); err != nil {
		return want, err
	}
	return want, s.checkLive(ctx, in, next, want)
}

// couldBe is checkNext of which only the answer matters.
func (s *Service) couldBe(ctx context.Context, in, next *instance) error {
	want, err := s.checkNext(ctx, in, next)
	s.unplan(want)
	return err
}

// checkNext is validate for what an instance is to become. It plans the devices
// if they change.
func (s *Service) checkNext(ctx context.Context, in, next *instance) (plan, error) {
	if !sameDevices(in, next) {
		return s.validateWith(ctx, in, next)
	}
	if err := s.validateOptions(ctx, next); err != nil || sameLimits(in, next) {
		return nil, err
	}
	return nil, s.checkLimits(ctx, next)
}

// checkRepository reports a backup repository that is not there. in is nil for a
// new instance.
func (s *Service) checkRepository(ctx context.Context, in, next *instance) error {
	const key = "backups.repository"
	name := next.expanded.Options[key]
	if name == "" || in != nil && in.expanded.Options[key] == name {
		return nil
	}
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetRepository(ctx, tx, name)
		return err
	})
	if err != nil {
		return errs.Newf(errs.KindOf(asInvalid(err)), "%s: %w", key, err)
	}
	return nil
}

func samePool(in, next *instance) error {
	name, disk, ok := root(next.expanded)
	if ok && disk["pool"] != in.Pool {
		return errs.Invalidf("device %q: the root disk is in storage pool %q, want that here: move the instance to have it in %q", name, in.Pool, disk["pool"])
	}
	return nil
}

// update makes the instance, whose lock is held, what next says, with devices as
// they are planned: live first, and if that goes well, in the database.
func (s *Service) update(ctx context.Context, in, next *instance, want plan) (err error) {
	var u undo.Stack
	defer u.Unwind(ctx, &err)

	if err := s.change(ctx, in, next, want, &u); err != nil {
		return err
	}
	return s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdateInstance(ctx, tx, next.Instance) })
}
