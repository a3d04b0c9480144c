package scope

import (
	"context"
	"reflect"
	"strings"
)

// inward translates from names to keys.
type inward struct {
	ctx   context.Context //nolint:containedctx // It is that of one call.
	views Views
}

func (t *inward) value(v reflect.Value, view View) error {
	switch v.Kind() {
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
	default:
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
			err = mapDevices(at, view.Key)
		case "config":
			err = mapConfig(at, view.config)
		case "netconfig":
			err = mapConfig(at, view.netConfig)
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
	switch v.Kind() {
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
func mapConfig(v reflect.Value, fn func(key, value string) (string, error)) error {
	var out reflect.Value
	for iter := v.MapRange(); iter.Next(); {
		to, err := fn(iter.Key().String(), iter.Value().String())
		if err != nil {
			return err
		}
		if to == iter.Value().String() {
			continue
		}
		if !out.IsValid() {
			out = copyMap(v)
		}
		out.SetMapIndex(iter.Key(), reflect.ValueOf(to).Convert(v.Type().Elem()))
	}
	if out.IsValid() {
		v.Set(out)
	}
	return nil
}

func copyMap(v reflect.Value) reflect.Value {
	out := reflect.MakeMapWithSize(v.Type(), v.Len())
	for iter := v.MapRange(); iter.Next(); {
		out.SetMapIndex(iter.Key(), iter.Value())
	}
	return out
}

// mapDevices is [mapConfig] for devices by name. fn is told of what kind of
// object a device's option names another.
func mapDevices(v reflect.Value, fn func(kind, value string) (string, error)) error {
	var out reflect.Value
	for iter := v.MapRange(); iter.Next(); {
		dev := reflect.New(iter.Value().Type()).Elem()
		dev.Set(iter.Value())
		err := mapConfig(dev, func(key, value string) (string, error) {
			kind := optionKind(dev, key)
			if kind == "" {
				return value, nil
			}
			return mapWords(value, func(s string) (string, error) { return fn(kind, s) })
		})
		if err != nil {
			return err
		}
		if dev.UnsafePointer() == iter.Value().UnsafePointer() {
			continue
		}
		if !out.IsValid() {
			out = copyMap(v)
		}
		out.SetMapIndex(iter.Key(), dev)
	}
	if out.IsValid() {
		v.Set(out)
	}
	return nil
}

// optionKind is the kind of object that an option of a device names, or empty.
func optionKind(dev reflect.Value, key string) string {
	option := func(name string) string {
		v := dev.MapIndex(reflect.ValueOf(name))
		if !v.IsValid() {
			return ""
		}
		return v.String()
	}
	switch option("type") + " " + key {
	case "nic network", "nic security.acls":
		return kindNetwork
	case "disk source":
		if option("pool") != "" {
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
