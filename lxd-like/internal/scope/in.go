package scope

import (
	"context"
	"maps"
	"reflect"
	"strings"

	"github.com/cuib/cuib/shared/api"
)

// inward translates from names to keys.
type inward struct {
	ctx   context.Context //nolint:containedctx // It is that of one call.
	views Views
}

func (t *inward) value(v reflect.Value, view View) error {
	switch v.Kind() { //nolint:exhaustive // In others there are no names.
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return t.value(v.Elem(), view)
	case reflect.Slice:
		for i := range v.Len() {
			if err := t.value(v.Index(i), view); err != nil {
				return err
			}
		}
	case reflect.Struct:
		return t.structure(v, view)
	}
	return nil
}

func (t *inward) structure(v reflect.Value, view View) error {
	p := planOf(v.Type())
	if p.project >= 0 {
		if name := v.Field(p.project).String(); name != "" {
			var err error
			if view, err = t.views.View(t.ctx, name); err != nil {
				return err
			}
		}
	}
	for _, f := range p.fields {
		at := v.Field(f.index)
		var err error
		switch f.kind {
		case "":
			err = t.value(at, view)
		case kindVolume:
			err = mapStrings(at, func(s string) (string, error) { return view.Key(volumeKind(v), s) })
		case "devices":
			err = mapDevices(devicesAt(at), view.Key)
		case "config":
			err = mapConfig(configAt(at), view.config)
		case "netconfig":
			err = mapConfig(configAt(at), view.netConfig)
		case "source":
			err = mapStrings(at, view.source)
		case "url": // Only the daemon says where things are.
		default:
			err = mapStrings(at, func(s string) (string, error) { return view.Key(f.kind, s) })
		}
		if err != nil {
			return err
		}
	}
	return nil
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
			return err
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
			return err
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
			return kindNetwork
		}
	case "source":
		if dev["type"] == "disk" && dev["pool"] != "" {
			return kindVolume
		}
	}
	return ""
}

func (v View) config(key, value string) (string, error) {
	switch key {
	case "boot.depends_on":
		return mapWords(value, func(s string) (string, error) { return v.Key(kindInstance, s) })
	case "boot.wait_for":
		return mapWords(value, func(s string) (string, error) {
			name, ok := strings.CutPrefix(s, "network:")
			if !ok {
				return s, nil
			}
			to, err := v.Key(kindNetwork, name)
			return "network:" + to, err
		})
	}
	return value, nil
}

func (v View) netConfig(key, value string) (string, error) {
	kind := netConfigKind(key)
	if kind == "" {
		return value, nil
	}
	return mapWords(value, func(s string) (string, error) { return v.Key(kind, s) })
}

func netConfigKind(key string) string {
	switch key {
	case "security.acls":
		return kindNetwork
	case "dns.zone.forward", "dns.zone.reverse.ipv4", "dns.zone.reverse.ipv6":
		return kindZone
	}
	return ""
}

// source is where a backup in a repository is of: instances/NAME or
// volumes/POOL/NAME.
func (v View) source(s string) (string, error) {
	if name, ok := strings.CutPrefix(s, "instances/"); ok {
		key, err := v.Key(kindInstance, name)
		return "instances/" + key, err
	}
	if rest, ok := strings.CutPrefix(s, "volumes/"); ok {
		if pool, name, ok := strings.Cut(rest, "/"); ok {
			key, err := v.Key(kindVolume, name)
			return "volumes/" + pool + "/" + key, err
		}
	}
	return s, nil
}
