package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// patience is how long who needs a volume alone waits for the end of a use of
// its files.
const patience = 5 * time.Second

// A target is what can be mounted: a volume or, if snapshot is not empty, a
// snapshot of it.
type target struct {
	Ref

	snapshot string
}

func (t target) volume() storage.Volume { return snapshotVolume(t.Ref, t.snapshot) }

func (t target) String() string {
	if t.snapshot == "" {
		return fmt.Sprintf("volume %q in storage pool %q", t.Name, t.Pool)
	}
	return fmt.Sprintf("snapshot %q of volume %q in storage pool %q", t.snapshot, t.Name, t.Pool)
}

// parseTarget reads the pool and the source of a disk.
func parseTarget(pool, source string) (target, error) {
	name, snapshot, err := profiles.ParseVolumeSource(source)
	return target{Ref{Pool: pool, Name: name}, snapshot}, err
}

// uses say who uses what is mounted. The zero value is ready to use.
type uses struct {
	mu sync.Mutex // Guards of, and what is in it.
	of map[target]*use
}

// A use is by whom something is used.
type use struct {
	holders  map[holder]bool
	visitors int           // Readers and writers of files, by the API.
	idle     chan struct{} // Closed when the last visitor leaves.
}

// A holder is a device of an instance.
type holder struct{ instance, device string }

func (u *use) free() bool { return len(u.holders) == 0 && u.visitors == 0 }

// change calls fn with the use of a target, and reports whether nobody uses it
// after that.
func (u *uses) change(t target, fn func(*use)) (free bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = map[target]*use{}
	}
	one := u.of[t]
	if one == nil {
		one = &use{holders: map[holder]bool{}}
		u.of[t] = one
	}
	fn(one)
	if one.free() {
		delete(u.of, t)
	}
	return one.free()
}

// free reports whether nobody uses a target.
func (u *uses) free(t target) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.of[t] == nil
}

// instances returns the names of the instances that use a volume, other than
// by its snapshots.
func (u *uses) instances(ref Ref) []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	names := map[string]bool{}
	if one := u.of[target{Ref: ref}]; one != nil {
		for h := range one.holders {
			names[h.instance] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// within are the targets in use that are a volume, or snapshots of it.
func (u *uses) within(ref Ref) []target {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []target
	for t := range u.of {
		if t.Ref == ref {
			out = append(out, t)
		}
	}
	return out
}

// state says what keeps targets from being alone: instances, by name, and what
// is closed when a visitor has left.
func (u *uses) state(targets []target) (instances []string, idle <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	names := map[string]bool{}
	for _, t := range targets {
		one := u.of[t]
		if one == nil {
			continue
		}
		for h := range one.holders {
			names[h.instance] = true
		}
		if one.visitors > 0 {
			idle = one.idle
		}
	}
	return slices.Sorted(maps.Keys(names)), idle
}

// Look returns what there is to know of the source of a disk, VOLUME or
// VOLUME/SNAPSHOT, before it is attached. It does not say who uses it.
func (s *Service) Look(ctx context.Context, pool, source string) (api.StorageVolume, error) {
	t, err := parseTarget(pool, source)
	if err != nil {
		return api.StorageVolume{}, err
	}
	v, err := s.look(ctx, t)
	return describe(v, nil), err
}

func (s *Service) look(ctx context.Context, t target) (v db.Volume, err error) {
	err = s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		if v, err = loadTx(ctx, tx, t.Ref); err != nil || t.snapshot == "" {
			return err
		}
		snap, err := db.GetVolumeSnapshot(ctx, tx, t.Ref, t.snapshot)
		if err == nil && snap.Status != db.Ready && !storage.Hidden(t.snapshot) {
			err = errs.NotFoundf("%s not found: it is being created or deleted", t)
		}
		return err
	})
	return v, err
}

// Attach mounts the source of a disk for a device of an instance, which may
// run, and returns the directory to show to it. To attach it again does
// nothing.
func (s *Service) Attach(ctx context.Context, pool, source, instance, device string) (dir string, err error) {
	t, err := parseTarget(pool, source)
	if err != nil {
		return "", err
	}
	unlock := s.locks.Lock(t.Ref.String())
	defer unlock()
	if err := s.claims.admits(t.Ref); err != nil {
		return "", err
	}
	v, err := s.look(ctx, t)
	if err != nil {
		return "", err
	}
	d, err := s.driver(ctx, pool)
	if err != nil {
		return "", err
	}
	dir, err = d.Mount(ctx, t.volume(), nil)
	if err == nil && v.ContentType == iso {
		dir, err = s.mountISO(t, dir)
	}
	if err != nil {
		if s.uses.free(t) {
			err = errors.Join(err, s.unmount(context.WithoutCancel(ctx), d, t))
		}
		return "", fmt.Errorf("mount %s: %w", t, err)
	}
	s.uses.change(t, func(u *use) { u.holders[holder{instance, device}] = true })
	return dir, nil
}

// Detach ends what Attach began. The last one unmounts.
func (s *Service) Detach(ctx context.Context, pool, source, instance, device string) error {
	t, err := parseTarget(pool, source)
	if err != nil {
		return err
	}
	return s.drop(ctx, t, func(u *use) { delete(u.holders, holder{instance, device}) })
}

// drop takes a user of a target away, and unmounts it after the last.
func (s *Service) drop(ctx context.Context, t target, user func(*use)) error {
	unlock := s.locks.Lock(t.Ref.String())
	defer unlock()
	if free := s.uses.change(t, user); !free {
		return nil
	}
	d, err := s.driver(ctx, t.Pool)
	if err != nil {
		return err
	}
	if err := s.unmount(ctx, d, t); err != nil {
		return fmt.Errorf("unmount %s: %w", t, err)
	}
	return nil
}

// unmount unmounts a target that nobody uses. The caller holds the lock.
func (s *Service) unmount(ctx context.Context, d storage.Driver, t target) error {
	if err := s.unmountISO(t); err != nil {
		return err
	}
	return d.Unmount(ctx, t.volume())
}

// visit mounts a target for who reads or writes its files, and returns what
// ends that.
func (s *Service) visit(ctx context.Context, t target) (dir string, leave func(), err error) {
	unlock := s.locks.Lock(t.Ref.String())
	defer unlock()
	if err := s.claims.admits(t.Ref); err != nil {
		return "", nil, err
	}
	if _, err := s.look(ctx, t); err != nil {
		return "", nil, err
	}
	d, err := s.driver(ctx, t.Pool)
	if err != nil {
		return "", nil, err
	}
	if dir, err = d.Mount(ctx, t.volume(), nil); err != nil {
		return "", nil, fmt.Errorf("mount %s: %w", t, err)
	}
	s.uses.change(t, func(u *use) {
		if u.visitors == 0 {
			u.idle = make(chan struct{})
		}
		u.visitors++
	})
	later := context.WithoutCancel(ctx)
	return dir, func() {
		err := s.drop(later, t, func(u *use) {
			if u.visitors--; u.visitors == 0 {
				close(u.idle)
			}
		})
		if err != nil {
			s.Log.ErrorContext(later, "cannot unmount a volume after the use of its files", "volume", t.String(), "err", err)
		}
	}, nil
}

// alone locks a volume while nobody uses some targets of it, and nothing of
// those is mounted. It waits a while for the end of uses of files.
func (s *Service) alone(ctx context.Context, d storage.Driver, ref Ref, pick func() []target) (unlock func(), err error) {
	t := time.NewTimer(patience)
	defer t.Stop()
	for {
		unlock := s.locks.Lock(ref.String())
		targets := pick()
		instances, idle := s.uses.state(targets)
		switch {
		case len(instances) > 0:
			err = errs.Conflictf("%s is in use by %s: stop it, or detach the volume", targets[0], named(instances))
		case idle == nil:
			err = s.unmountAll(ctx, d, targets)
		}
		if err != nil {
			unlock()
			return nil, err
		}
		if idle == nil {
			return unlock, nil
		}
		unlock()
		select {
		case <-idle:
		case <-t.C:
			return nil, errs.Conflictf("the files of %s are in use", targets[0])
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// aloneWith is alone for one target.
func (s *Service) aloneWith(ctx context.Context, d storage.Driver, t target) (unlock func(), err error) {
	return s.alone(ctx, d, t.Ref, func() []target { return []target{t} })
}

// aloneWithAll is alone for a volume and all its snapshots.
func (s *Service) aloneWithAll(ctx context.Context, d storage.Driver, ref Ref) (unlock func(), err error) {
	return s.alone(ctx, d, ref, func() []target {
		out := []target{{Ref: ref}}
		for _, t := range s.uses.within(ref) {
			if t.snapshot != "" {
				out = append(out, t)
			}
		}
		return out
	})
}

func (s *Service) unmountAll(ctx context.Context, d storage.Driver, targets []target) error {
	for _, t := range targets {
		if err := s.unmount(ctx, d, t); err != nil {
			return err
		}
	}
	return nil
}

// still calls fn while the instances that use a volume are frozen, and nobody
// mounts or unmounts it.
func (s *Service) still(ctx context.Context, ref Ref, fn func() error) error {
	for {
		names, again := s.uses.instances(ref), false
		err := s.frozen(ctx, names, func() error {
			unlock := s.locks.Lock(ref.String())
			defer unlock()
			again = slices.ContainsFunc(s.uses.instances(ref), func(name string) bool { return !slices.Contains(names, name) })
			if again {
				return nil // One came before the lock was held.
			}
			return fn()
		})
		if err != nil || !again {
			return err
		}
	}
}

func (s *Service) frozen(ctx context.Context, names []string, fn func() error) error {
	if len(names) == 0 {
		return fn()
	}
	return s.Instances.Frozen(ctx, names, fn)
}

// maxNamed is how many users of a volume an error names.
const maxNamed = 5

// named lists users in an error.
func named(users []string) string {
	if len(users) <= maxNamed {
		return strings.Join(users, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(users[:maxNamed], ", "), len(users)-maxNamed)
}
