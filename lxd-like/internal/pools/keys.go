package pools

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/units"
	"github.com/cuib/cuib/storage"
)

// The keys that all pools have, beside user.* and volume.*.
const (
	keySource  = "source"
	keySize    = "size"
	keyInitial = "volatile.initial_source"
	keyWipe    = "source.wipe"

	userPrefix   = "user."
	volumePrefix = "volume."
)

// commonKeys are the keys that pools of all drivers have, with a sentence
// each and a check of values that are not empty.
var commonKeys = map[string]struct {
	doc   string
	check func(value string) error
}{
	keySource:           {"Where the pool is: what it may be is the driver's matter.", anything},
	keySize:             {"How large the pool's file is.", isSize},
	keyWipe:             {"Whether what is on the source, a device or file, may be lost.", isBool},
	keyInitial:          {"The source as it was given when the pool was made.", anything},
	"rsync.bwlimit":     {"Accepted from other container managers, without effect: nothing is copied with rsync.", isRate},
	"rsync.compression": {"Accepted from other container managers, without effect: nothing is copied with rsync.", isBool},
}

func anything(string) error { return nil }

func isSize(value string) error {
	n, err := units.ParseBytes(value)
	if err == nil && n <= 0 {
		err = errs.Invalidf("%q is no size: use one such as 20GiB", value)
	}
	return err
}

// isRate takes what rsync does: a number of KiB a second, or a size.
func isRate(value string) error {
	if _, err := units.ParseBytes(value); err != nil {
		return errs.Invalidf("%q is no rate: use one such as 10MiB", value)
	}
	return nil
}

func isBool(value string) error {
	if !slices.Contains([]string{"true", "false"}, value) {
		return errs.Invalidf("%q is neither true nor false", value)
	}
	return nil
}

// checkKey returns an error if the driver has no such key, or the key no such
// value.
func checkKey(driver string, typ storage.Type, key, value string) error {
	if name, ok := strings.CutPrefix(key, volumePrefix); ok {
		return checkVolumeDefault(typ, key, name, value)
	}
	if strings.HasPrefix(key, userPrefix) {
		return nil
	}
	check := anything
	common, ok := commonKeys[key]
	if ok && key != keyWipe {
		check = common.check
	} else if _, ok := typ.Options[key]; !ok {
		return errs.Invalidf("configuration key %q is not known to storage driver %q: use %s", key, driver, strings.Join(known(typ), ", "))
	}
	if value == "" {
		return nil
	}
	if key == keyWipe {
		check = isBool
	}
	err := check(value)
	if err == nil && typ.CheckOption != nil {
		err = typ.CheckOption(key, value)
	}
	if err != nil {
		return fmt.Errorf("configuration key %q: %w", key, err)
	}
	return nil
}

// known returns the keys that users set on pools of a driver.
func known(typ storage.Type) []string {
	keys := slices.Collect(maps.Keys(typ.Options))
	for key := range commonKeys {
		if key != keyWipe {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	keys = slices.DeleteFunc(slices.Compact(keys), func(k string) bool { return strings.HasPrefix(k, "volatile.") })
	return append(keys, "user.*", "volume.*")
}

// checkVolumeDefault checks a default for the volumes of a pool: name is the
// volumes' key.
func checkVolumeDefault(typ storage.Type, key, name, value string) error {
	if strings.HasPrefix(name, "volatile.") {
		return errs.Invalidf("configuration key %q: what begins with volatile. has no default", key)
	}
	if value == "" {
		return nil
	}
	err := profiles.CheckVolumeKey(name, value, typ.VolumeOptions)
	if _, ok := typ.VolumeOptions[name]; ok && err == nil && typ.CheckOption != nil {
		err = typ.CheckOption(name, value)
	}
	if err != nil {
		return fmt.Errorf("configuration key %q: %w", key, err)
	}
	return nil
}

// isLive reports whether a key of a pool can change; size is not one of these.
func isLive(typ storage.Type, key string) bool {
	return strings.HasPrefix(key, userPrefix) || strings.HasPrefix(key, volumePrefix) || strings.HasPrefix(key, "rsync.") ||
		slices.Contains(typ.Live, key)
}

// checkApart returns an error if the source of a new pool is, holds, or is in
// that of another.
func checkApart(p db.Pool, others []db.Pool) error {
	source := p.Config[keySource]
	if !filepath.IsAbs(source) {
		return nil // None, or a name, about which the driver knows.
	}
	for _, other := range others {
		theirs := other.Config[keySource]
		if other.Name == p.Name || !filepath.IsAbs(theirs) {
			continue
		}
		if within(source, theirs) || within(theirs, source) {
			return errs.Conflictf("configuration key \"source\": %s is where storage pool %q is, in %s", source, other.Name, theirs)
		}
	}
	return nil
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	path, dir = filepath.Clean(path), filepath.Clean(dir)
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// VolumeOptions are the keys that only volumes of the pool's driver have.
func (s *Service) VolumeOptions(ctx context.Context, pool string) ([]string, error) {
	p, err := s.record(ctx, pool)
	return slices.Sorted(maps.Keys(s.Types[p.Driver].VolumeOptions)), err
}

// CheckVolumeOption reports what is wrong with an option that only volumes of
// the pool's driver have, as a root disk gives it to its volume.
func (s *Service) CheckVolumeOption(ctx context.Context, pool, key, value string) error {
	p, err := s.record(ctx, pool)
	if err != nil {
		return err
	}
	typ := s.Types[p.Driver]
	if _, ok := typ.VolumeOptions[key]; !ok {
		return errs.Invalidf("%s: got %q, and volumes of storage pool %q, whose driver is %s, have no such key: want %s",
			key, value, pool, p.Driver, cmp.Or(strings.Join(slices.Sorted(maps.Keys(typ.VolumeOptions)), ", "), "none"))
	}
	if typ.CheckOption == nil {
		return nil
	}
	if err := typ.CheckOption(key, value); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
