// Package mirror keeps in memory what a service asks again and again about all
// instances, so that what is done for one of them does not read the others.
package mirror

import (
	"context"
	"slices"
	"sync"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
)

// A Mirror has a T of each instance that there is, which is never changed. It reads
// an instance again when that or a profile of it was changed, by whatever way: it
// asks the database and no events. Its methods are safe for concurrent use.
type Mirror[T any] struct {
	of func(in db.Instance, expanded profiles.Config) T

	mu    sync.Mutex // Guards what follows.
	mark  db.Mark
	names []string // In order.
	all   map[string]T
}

// New returns a mirror of what is made of instances, and of what those are with
// their profiles. It reads nothing until it is asked.
func New[T any](of func(in db.Instance, expanded profiles.Config) T) *Mirror[T] {
	return &Mirror[T]{of: of}
}

// Read calls fn with all instances as they are now: their names in order, and what
// is kept of them. It is not called in a transaction. Nothing changes them until fn
// returns.
func (m *Mirror[T]) Read(ctx context.Context, d *db.DB, fn func(names []string, all map[string]T)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	changes, now := d.Since(m.mark)
	if err := m.follow(ctx, d, changes); err != nil {
		return err
	}
	m.mark = now
	fn(m.names, m.all)
	return nil
}

// follow reads what has changed.
func (m *Mirror[T]) follow(ctx context.Context, d *db.DB, changes db.Changes) error {
	if !changes.All && len(changes.Instances) == 0 && len(changes.Profiles) == 0 {
		return nil
	}
	var rows []db.Instance
	byName := map[string]profiles.Config{}
	err := d.View(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		if rows, err = changed(ctx, tx, changes); err != nil || len(rows) == 0 {
			return err
		}
		profs, err := db.Profiles(ctx, tx)
		for _, p := range profs {
			byName[p.Name] = profiles.Config{Options: p.Config, Devices: p.Devices}
		}
		return err
	})
	if err != nil {
		return err
	}
	if changes.All {
		m.all, m.names = make(map[string]T, len(rows)), nil
	}
	for _, name := range changes.Instances {
		m.drop(name) // It may be gone.
	}
	for _, in := range rows {
		var has []profiles.Config
		for _, name := range in.Profiles {
			if p, ok := byName[name]; ok {
				has = append(has, p)
			}
		}
		m.put(in.Name, m.of(in, profiles.Expand(profiles.Config{Options: in.Config, Devices: in.Devices}, has...)))
	}
	return nil
}

// changed returns the instances to be read; one can be there several times, alike.
func changed(ctx context.Context, tx *db.Tx, changes db.Changes) ([]db.Instance, error) {
	if changes.All {
		return db.Instances(ctx, tx)
	}
	rows, err := db.InstancesLeft(ctx, tx, changes.Instances)
	for _, p := range changes.Profiles {
		if err != nil {
			break
		}
		var some []db.Instance
		some, err = db.InstancesUsingProfile(ctx, tx, p)
		rows = append(rows, some...)
	}
	return rows, err
}

func (m *Mirror[T]) drop(name string) {
	if i, found := slices.BinarySearch(m.names, name); found {
		m.names = slices.Delete(m.names, i, i+1)
		delete(m.all, name)
	}
}

func (m *Mirror[T]) put(name string, t T) {
	if i, found := slices.BinarySearch(m.names, name); !found {
		m.names = slices.Insert(m.names, i, name)
	}
	m.all[name] = t
}
