// Package profiles knows what configurations of instances may say: the table
// of configuration keys, that of devices and their options, how profiles and
// an instance's own settings make one configuration, and what the settings
// mean.
//
// It is pure: it looks at no host. Where a value depends on one, such as a
// percentage of the memory, the caller says what the host has.
package profiles

import (
	"maps"
	"slices"

	"github.com/cuib/cuib/shared/errs"
)

// A Config is what a profile or an instance says, or what both say together.
type Config struct {
	Options map[string]string
	Devices map[string]Device
}

// A Device is what a configuration says of one device: its type, and the
// options of that.
type Device = map[string]string

// Expand returns the configuration of an instance that says own itself and
// has the profiles, in order. What comes later wins, key by key and device by
// device, and own comes last.
func Expand(own Config, profiles ...Config) Config {
	out := Config{Options: map[string]string{}, Devices: map[string]Device{}}
	for _, c := range append(slices.Clip(profiles), own) {
		maps.Copy(out.Options, c.Options)
		for name, dev := range c.Devices {
			out.Devices[name] = maps.Clone(dev)
		}
	}
	return out
}

// ValidateProfile reports what is wrong with a profile. Beside what is wrong
// in an instance too, that is a key which belongs to one instance.
func ValidateProfile(c Config) error {
	for name := range sorted(c.Options) {
		if k, ok := Lookup(name); ok && k.OwnOnly {
			return errs.Invalidf("%s: a profile cannot have it, only an instance", name)
		}
	}
	if err := ValidateOptions(c.Options); err != nil {
		return err
	}
	return ValidateDevices(c.Devices)
}

// ValidateExpanded reports what is wrong with a configuration as a whole,
// whose parts are valid: an instance needs a root disk, and devices must not
// be in each other's way.
func ValidateExpanded(c Config) error {
	if _, _, err := Root(c); err != nil {
		return err
	}
	if err := checkHostNIC(c); err != nil {
		return err
	}
	return distinct(c.Devices)
}

// Root returns the device that is an instance's root disk.
func Root(c Config) (name string, dev Device, err error) {
	for n, d := range sorted(c.Devices) {
		if !IsRoot(d) {
			continue
		}
		if name != "" {
			return "", nil, errs.Invalidf("devices %q and %q are both root disks, and an instance has one", name, n)
		}
		name, dev = n, d
	}
	if name == "" {
		return "", nil, errs.Invalidf(`the instance has no root disk: neither it nor a profile of it has a device of type disk with path "/" and a pool`)
	}
	if dev["pool"] == "" {
		return "", nil, errs.Invalidf("device %q: the root disk names no pool", name)
	}
	return name, dev, nil
}

// IsRoot reports whether a device is a root disk.
func IsRoot(d Device) bool { return d["type"] == "disk" && cleanPath(d["path"]) == "/" }

// distinct reports devices that want the same place or name inside or on the
// host.
func distinct(devices map[string]Device) error {
	users := map[string]string{}
	for name, dev := range sorted(devices) {
		for _, place := range places(dev) {
			if other, taken := users[place]; taken {
				return errs.Invalidf("devices %q and %q both want %s", other, name, place)
			}
			users[place] = name
		}
	}
	return nil
}

// places says what only one device can have.
func places(d Device) []string {
	if t := typeByName()[d["type"]]; t.places != nil {
		return t.places(d)
	}
	return nil
}
