// Package projectkeys has the table of configuration keys of projects, and what
// projects that limit or restrict say of what is in them. What checks a value,
// the descriptions that clients are given and docs/config-keys.md are all made
// from the table's rows.
//
// It is pure: it knows no database and looks at no host.
package projectkeys

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

// The keys that others ask for.
const (
	Images   = "features.images"
	Networks = "features.networks"
	Zones    = "features.networks.zones"
	Profiles = "features.profiles"
	Buckets  = "features.storage.buckets"
	Volumes  = "features.storage.volumes"

	BackupCompression = "backups.compression_algorithm"
	ImageCompression  = "images.compression_algorithm"
	ImageExpiry       = "images.remote_cache_expiry"
	MACPattern        = "network.hwaddr_pattern"

	Restricted = "restricted"
)

// A Key is a row of the table.
type Key struct {
	profiles.Key // A change of any key is live.

	// Vacuous says why the key has nothing to act on here; empty if it has.
	Vacuous string

	// check reports what is wrong with a value, which is not empty:
	// profiles.ErrValue where Allowed says all. Nil accepts any text.
	check func(value string) error
}

// Keys returns the whole table, by group.
func Keys() []Key {
	return slices.Concat(
		group("features", featureKeys()),
		group("limits", limitKeys()),
		group("restricted", restrictedKeys()),
		group("specific", specificKeys()),
	)
}

func group(name string, keys []Key) []Key {
	for i := range keys {
		keys[i].Group, keys[i].Live = name, true
	}
	return keys
}

var table = sync.OnceValue(Keys)

// find returns the row for a key.
func find(name string) (Key, bool) { return profiles.Find(table(), name) }

// Normal is a configuration as it is kept: without keys that have no value, and
// with true and false for all spellings of them. It reports the first key, by
// name, that is unknown or has a bad value.
func Normal(config map[string]string) (map[string]string, error) {
	out := make(map[string]string, len(config))
	for _, name := range slices.Sorted(maps.Keys(config)) {
		value, err := normal(name, config[name])
		if err != nil {
			return nil, err
		}
		if value != "" {
			out[name] = value
		}
	}
	return out, nil
}

func normal(name, value string) (string, error) {
	if err := profiles.CheckText(name, value); err != nil {
		return "", err
	}
	k, ok := find(name)
	if !ok {
		if why, no := refused(name, value); no {
			return "", errs.Invalidf("%s: %w", name, k.RefuseValue(value, why))
		}
		var known []string
		for _, k := range table() {
			known = append(known, k.Name)
		}
		return "", profiles.Unknown("project configuration key", name, known)
	}
	if value == "" {
		return "", nil
	}
	if err := k.wrong(value); err != nil {
		return "", errs.Invalidf("%s: %w", name, err)
	}
	given := value
	if k.Type == profiles.Bool {
		on, _ := profiles.ParseBool(value) // It is valid.
		value = strconv.FormatBool(on)
	}
	if why, no := refused(name, value); no {
		return "", errs.Invalidf("%s: %w", name, profiles.Key{}.RefuseValue(given, why))
	}
	return value, nil
}

// wrong reports what is wrong with a value.
func (k Key) wrong(value string) error {
	if k.Type != profiles.Blob && strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }) {
		return k.WrongValue(profiles.ErrValue, value)
	}
	if k.check == nil {
		return nil
	}
	return k.WrongValue(k.check(value), value)
}

// WithFeatures is a configuration in which all features are: what it does not
// say is as a new project has it.
func WithFeatures(config map[string]string) map[string]string {
	out := map[string]string{}
	for _, k := range featureKeys() {
		out[k.Name] = k.Default
	}
	for key, value := range config {
		if value != "" {
			out[key] = value
		}
	}
	return out
}

// Value is what a key says in a configuration, or what holds if it is not set.
func Value(config map[string]string, name string) string {
	if v := config[name]; v != "" {
		return v
	}
	k, _ := find(name)
	return k.Default
}

// Metadata returns the table as GET /1.0/metadata/configuration has it.
func Metadata() map[string]map[string]profiles.DocGroup {
	all := map[string]profiles.DocGroup{}
	for _, k := range table() {
		d := k.Describe()
		if k.Vacuous != "" {
			d.Long = strings.TrimSpace(d.Long + " It has no effect: " + k.Vacuous + ".")
		}
		profiles.AddDoc(all, k.Key, d)
	}
	return map[string]map[string]profiles.DocGroup{"project": all}
}
