package pools

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// Update changes a pool's description and configuration. What cannot be
// changed may be left out.
func (s *Service) Update(ctx context.Context, name string, put api.StoragePoolPut) error {
	s.change.Lock()
	defer s.change.Unlock()

	p, err := s.record(ctx, name)
	if err != nil {
		return err
	}
	typ, err := s.typ(p.Driver)
	if err != nil {
		return err
	}
	if onlyWithout(p.Config, put.Config, keySize) {
		return errs.Invalidf("configuration key \"size\": a storage pool that is %s large stays so, and cannot lose that; it can grow", p.Config[keySize])
	}
	put.Config = s.wished(p, put.Config)
	for k, v := range put.Config {
		if p.Config[k] == v {
			continue
		}
		if err := checkKey(p.Driver, typ, k, v); err != nil {
			return err
		}
	}
	c, err := changed(p, typ, put)
	if err != nil {
		return err
	}
	if err := s.apply(ctx, p, c); err != nil {
		return err
	}
	if err := s.DB.Do(ctx, func(ctx context.Context, tx *db.Tx) error { return db.UpdatePool(ctx, tx, c.next) }); err != nil {
		return err
	}
	s.Events.Lifecycle("storage-pool-updated", url(name), nil)
	return nil
}

// A change is what an update does to a pool.
type change struct {
	next db.Pool
	size int64             // To grow to; 0 to stay.
	live map[string]string // Keys that the driver applies.
}

// changed returns what put changes.
func changed(p db.Pool, typ storage.Type, put api.StoragePoolPut) (change, error) {
	c := change{next: p, live: map[string]string{}}
	c.next.Description, c.next.Config = put.Description, maps.Clone(p.Config)
	set := func(k, v string) {
		if slices.Contains(typ.Live, k) && v != p.Config[k] {
			c.live[k] = v
		}
		c.next.Config[k] = v
		if v == "" {
			delete(c.next.Config, k)
		}
	}
	for k := range p.Config {
		if _, kept := put.Config[k]; !kept && isLive(typ, k) {
			set(k, "")
		}
	}
	for k, v := range put.Config {
		switch {
		case v == p.Config[k]:
		case isLive(typ, k):
			set(k, v)
		case k == keySize && v != "":
			var err error
			if c.size, err = larger(p.Config[k], v); err != nil {
				return c, err
			}
			set(k, v)
		default:
			return c, errs.Invalidf("configuration key %q of a storage pool cannot be changed", k)
		}
	}
	return c, nil
}

// onlyWithout reports whether a request has all that users see of a pool, and
// more than nothing, but one key. Who has much else left out has just not said it.
func onlyWithout(have, given map[string]string, key string) bool {
	if _, kept := given[key]; kept || have[key] == "" {
		return false
	}
	for k := range have {
		if _, kept := given[k]; !kept && k != key && !strings.HasPrefix(k, "volatile.") {
			return false
		}
	}
	return len(given) > 0
}

// larger returns the size after, if it is larger than before.
func larger(before, after string) (int64, error) {
	size, err := units.ParseBytes(after)
	if err != nil {
		return 0, fmt.Errorf("configuration key \"size\": %w", err)
	}
	if old, err := units.ParseBytes(before); err == nil && size < old {
		return 0, errs.Invalidf("configuration key \"size\": a storage pool cannot become smaller, since what is in it would have to move: it has %s", before)
	}
	return size, nil
}

// apply has the driver do what changes. The caller holds change.
func (s *Service) apply(ctx context.Context, p db.Pool, c change) error {
	if c.size == 0 && len(c.live) == 0 {
		return nil
	}
	d, err := s.opened(ctx, p.Name)
	if d == nil && err == nil {
		d, err = s.openPool(ctx, p)
	}
	if err != nil {
		return err
	}
	if len(c.live) > 0 {
		a, ok := d.(storage.Adjuster)
		if !ok {
			return errs.Invalidf("the keys of a pool of storage driver %q cannot be changed", p.Driver)
		}
		if err := a.Adjust(ctx, c.live); err != nil {
			return fmt.Errorf("change storage pool %q: %w", p.Name, err)
		}
	}
	if c.size == 0 {
		return nil
	}
	g, ok := d.(storage.Grower)
	if !ok {
		return errs.Invalidf("configuration key \"size\": a pool of storage driver %q has the room of what it is on", p.Driver)
	}
	if err := g.Grow(ctx, c.size); err != nil {
		return fmt.Errorf("grow storage pool %q: %w", p.Name, err)
	}
	return nil
}
