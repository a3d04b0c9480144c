package kit

import (
	"context"
	"slices"
	"strings"
)

// What follows completes KEY= of what can be set, by what the daemon says that
// there is.

// InstanceSettings completes keys of instances and profiles.
func InstanceSettings(ctx context.Context, e *Env, _ []string) ([]string, error) {
	return e.settings(ctx, place{entity: "instance"})
}

// ProjectSettings completes keys of projects.
func ProjectSettings(ctx context.Context, e *Env, _ []string) ([]string, error) {
	return e.settings(ctx, place{entity: "project"})
}

// server is where the keys of the daemon are.
var server = place{entity: "server"}

// ConfigTargets completes names of instances and, as an instance can be left
// out, keys of the daemon that can be set.
func ConfigTargets(ctx context.Context, e *Env, args []string) ([]string, error) {
	names, err := Instances(ctx, e, args)
	if err != nil {
		return nil, err
	}
	keys, err := e.settings(ctx, server)
	return append(names, keys...), err
}

// TargetSettings completes keys of an instance, or of the daemon if the first
// argument is one of its keys.
func TargetSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	if strings.Contains(args[0], "=") {
		return e.settings(ctx, server)
	}
	return InstanceSettings(ctx, e, args)
}

// ConfigSources completes names of instances and keys of the daemon: those that
// there are, and those of users that it has.
func ConfigSources(ctx context.Context, e *Env, args []string) ([]string, error) {
	names, err := Instances(ctx, e, args)
	if err != nil {
		return nil, err
	}
	keys, err := e.settings(ctx, server)
	if err != nil {
		return nil, err
	}
	s, _, err := e.Client().Server(ctx)
	have := KeysOf(s.Config)
	for _, key := range keys {
		if key, one := strings.CutSuffix(key, "="); one {
			have = append(have, key)
		}
	}
	slices.Sort(have)
	return append(names, slices.Compact(have)...), err
}

// PoolSettings completes keys of the storage pool that is the first argument.
func PoolSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	p, _, err := e.Client().StoragePool(ctx, args[0])
	if err != nil {
		return nil, err
	}
	return e.settings(ctx, place{"storage-" + p.Driver, "pool-conf"})
}

// NewPoolSettings completes keys of a new storage pool, whose driver is the
// second argument.
func NewPoolSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	return e.settings(ctx, place{"storage-" + args[1], "pool-conf"})
}

// VolumeSettings completes keys of volumes in the storage pool that is the
// first argument.
func VolumeSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	p, _, err := e.Client().StoragePool(ctx, args[0])
	if err != nil {
		return nil, err
	}
	return e.settings(ctx, place{entity: "storage-volume"}, place{"storage-" + p.Driver, "volume-conf"})
}

// NetworkSettings completes keys of the network that is the first argument.
func NetworkSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	n, _, err := e.Client().Network(ctx, args[0])
	if err != nil {
		return nil, err
	}
	return NewNetworkSettings(n.Type)(ctx, e, args)
}

// NewNetworkSettings completes keys of a new network of a type.
func NewNetworkSettings(typ string) Completer {
	return func(ctx context.Context, e *Env, _ []string) ([]string, error) {
		return e.settings(ctx, place{entity: networkEntity + typ})
	}
}

// NetworkTypes completes types of networks.
func NetworkTypes(ctx context.Context, e *Env, _ []string) ([]string, error) {
	all, err := e.Client().ConfigurationKeys(ctx)
	var out []string
	for entity, groups := range all {
		if typ, ok := strings.CutPrefix(entity, networkEntity); ok && groups["network-conf"] != nil { // Zones are none.
			out = append(out, typ)
		}
	}
	slices.Sort(out)
	return out, err
}

// networkEntity is what the daemon calls what it describes of a type of
// networks.
const networkEntity = "network-"

// deviceEntity is what the daemon calls what it describes of a type of devices.
const deviceEntity = "device-"

// DeviceTypes completes types of devices.
func DeviceTypes(ctx context.Context, e *Env, _ []string) ([]string, error) {
	all, err := e.Client().ConfigurationKeys(ctx)
	if err != nil {
		return nil, err
	}
	out := []string{"none"} // It has no options.
	for entity := range all {
		if typ, ok := strings.CutPrefix(entity, deviceEntity); ok && typ != "none" {
			out = append(out, typ)
		}
	}
	slices.Sort(out)
	return out, nil
}

// NewDeviceSettings completes options of a new device, whose type is the third
// argument.
func NewDeviceSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	return e.settings(ctx, place{entity: deviceEntity + args[2]})
}

// InstanceDeviceSettings completes options of the device that is the second
// argument, of the instance that is the first.
func InstanceDeviceSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	in, _, err := e.Client().Instance(ctx, args[0])
	if err != nil {
		return nil, err
	}
	return e.settings(ctx, place{entity: deviceEntity + in.ExpandedDevices[args[1]]["type"]})
}

// ProfileDeviceSettings is the same for a profile.
func ProfileDeviceSettings(ctx context.Context, e *Env, args []string) ([]string, error) {
	p, _, err := e.Client().Profile(ctx, args[0])
	if err != nil {
		return nil, err
	}
	return e.settings(ctx, place{entity: deviceEntity + p.Devices[args[1]]["type"]})
}

// A place is where keys are in what the daemon describes; all groups if none
// is given.
type place struct{ entity, group string }

func (e *Env) settings(ctx context.Context, places ...place) ([]string, error) {
	all, err := e.Client().ConfigurationKeys(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range places {
		for name, keys := range all[p.entity] {
			if p.group == "" || p.group == name {
				out = append(out, keys...)
			}
		}
	}
	out = slices.DeleteFunc(out, func(key string) bool { return strings.HasPrefix(key, "volatile.") })
	for i, key := range out {
		if many, ok := strings.CutSuffix(key, "*"); ok {
			out[i] = many
		} else {
			out[i] = key + "="
		}
	}
	slices.Sort(out)
	return out, nil
}
