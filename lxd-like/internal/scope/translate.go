package scope

import (
	"maps"
	"reflect"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A namer translates what names an object of a kind: [View.Key] and its reverse
// are two.
type namer func(kind, name string) (string, error)

// translate translates the field of a struct that has a tag.
func translate(of reflect.Value, f planned, fn namer) error {
	at := of.Field(f.index)
	switch f.kind {
	case kindDevices:
		return mapDevices(devicesAt(at), fn)
	case kindConfig:
		return mapConfig(configAt(at), func(key, value string) (string, error) { return configNames(key, value, fn) })
	case kindNetConfig:
		return mapConfig(configAt(at), func(key, value string) (string, error) { return netConfigNames(key, value, fn) })
	case kindSource:
		return mapStrings(at, func(s string) (string, error) { return sourceName(s, fn) })
	}
	kind := f.nameKind(of)
	return mapStrings(at, func(s string) (string, error) { return fn(kind, s) })
}

// configNames translates what the value of an instance's key names.
func configNames(key, value string, fn namer) (string, error) {
	switch key {
	case "boot.depends_on":
		return mapWords(value, func(s string) (string, error) { return fn(Instance, s) })
	case "boot.wait_for":
		return mapWords(value, func(s string) (string, error) {
			name, ok := strings.CutPrefix(s, "network:")
			if !ok {
				return s, nil
			}
			to, err := fn(Network, name)
			return "network:" + to, err
		})
	}
	return value, nil
}

// netConfigNames translates what the value of a network's key names.
func netConfigNames(key, value string, fn namer) (string, error) {
	kind := ""
	switch key {
	case "security.acls":
		kind = Network
	case "dns.zone.forward", "dns.zone.reverse.ipv4", "dns.zone.reverse.ipv6":
		kind = Zone
	default:
		return value, nil
	}
	return mapWords(value, func(s string) (string, error) { return fn(kind, s) })
}

// sourceName translates what a backup in a repository is of: instances/NAME,
// volumes/POOL/NAME, or the host.
func sourceName(source string, fn namer) (string, error) {
	kind := SourceKind(source)
	if kind == "" {
		return source, nil
	}
	at := strings.LastIndexByte(source, '/') + 1
	to, err := fn(kind, source[at:])
	return source[:at] + to, err
}

// mapStrings changes a string, or strings of a slice, in whose place it then
// puts another.
func mapStrings(v reflect.Value, fn func(string) (string, error)) error {
	switch v.Kind() { //nolint:exhaustive // In others there are no names.
	case reflect.String:
		to, err := fn(v.String())
		if err == nil {
			v.SetString(to)
		}
		return err
	case reflect.Slice:
		var out reflect.Value
		for i := range v.Len() {
			to, err := fn(v.Index(i).String())
			if err != nil {
				return err
			}
			if to == v.Index(i).String() {
				continue
			}
			if !out.IsValid() {
				out = reflect.AppendSlice(reflect.MakeSlice(v.Type(), 0, v.Len()), v)
			}
			out.Index(i).SetString(to)
		}
		if out.IsValid() {
			v.Set(out)
		}
	default:
		panic("scope: a tag is at a " + v.Kind().String())
	}
	return nil
}

// mapConfig puts another map in the place of one that fn changes anything of.
// fn answers with what a key's value becomes.
func mapConfig(at *api.ConfigMap, fn func(key, value string) (string, error)) error {
	var out api.ConfigMap
	for key, value := range *at {
		to, err := fn(key, value)
		if err != nil {
			return errs.Newf(errs.KindOf(err), "%s: %w", key, err)
		}
		if to == value {
			continue
		}
		if out == nil {
			out = maps.Clone(*at)
		}
		out[key] = to
	}
	if out != nil {
		*at = out
	}
	return nil
}

// mapDevices is [mapConfig] for devices by name. fn is told of what kind of
// object a device's option names another.
func mapDevices(at *api.DevicesMap, fn func(kind, value string) (string, error)) error {
	var out api.DevicesMap
	for name, dev := range *at {
		changed := false
		to := dev
		err := mapConfig(&to, func(key, value string) (string, error) {
			kind := optionKind(dev, key)
			if kind == "" {
				return value, nil
			}
			words, err := mapWords(value, func(s string) (string, error) { return fn(kind, s) })
			changed = changed || words != value
			return words, err
		})
		if err != nil {
			return errs.Newf(errs.KindOf(err), "device %q: %w", name, err)
		}
		if !changed {
			continue
		}
		if out == nil {
			out = maps.Clone(*at)
		}
		out[name] = to
	}
	if out != nil {
		*at = out
	}
	return nil
}

// devicesAt and configAt are what the field with such a tag is.
func devicesAt(v reflect.Value) *api.DevicesMap {
	return v.Addr().Interface().(*api.DevicesMap) //nolint:forcetypeassert // What else has such a tag is a mistake.
}

func configAt(v reflect.Value) *api.ConfigMap {
	return v.Addr().Interface().(*api.ConfigMap) //nolint:forcetypeassert // Likewise.
}

// optionKind is the kind of object that an option of a device names, or empty.
func optionKind(dev api.ConfigMap, key string) string {
	switch key {
	case "network", "security.acls":
		if dev["type"] == "nic" {
			return Network
		}
	case "source":
		if dev["type"] == "disk" && dev["pool"] != "" {
			return Volume
		}
	}
	return ""
}

// mapWords changes each of the words of a list, which have commas between
// them.
func mapWords(list string, fn func(string) (string, error)) (string, error) {
	words := strings.Split(list, ",")
	for i, word := range words {
		bare := strings.TrimSpace(word)
		if bare == "" {
			continue
		}
		to, err := fn(bare)
		if err != nil {
			return "", err
		}
		words[i] = strings.Replace(word, bare, to, 1)
	}
	return strings.Join(words, ","), nil
}
