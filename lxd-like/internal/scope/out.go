package scope

import (
	"reflect"
	"strings"

	"github.com/cuib/cuib/shared/project"
)

// outward translates from keys to names.
type outward struct{}

// value returns the project of the names that it has found, or an empty text.
func (t outward) value(v reflect.Value) string {
	switch v.Kind() { //nolint:exhaustive // In others there are no structs.
	case reflect.Pointer:
		if !v.IsNil() {
			return t.value(v.Elem())
		}
	case reflect.Slice:
		if v.Len() > 0 && !tagged(v.Type(), map[reflect.Type]bool{}) {
			return ""
		}
		for i := range v.Len() {
			t.value(v.Index(i))
		}
	case reflect.Struct:
		return t.structure(v)
	}
	return ""
}

// structure also says in which project that is whose names it translates.
func (t outward) structure(v reflect.Value) (in string) {
	p := planOf(v.Type())
	for _, f := range p.fields {
		if found := t.field(v, f); found != "" {
			in = found
		}
	}
	if p.project >= 0 && in != "" {
		v.Field(p.project).SetString(in)
	}
	return in
}

func (t outward) field(v reflect.Value, f planned) (in string) {
	at := v.Field(f.index)
	switch f.kind {
	case "":
		if found := t.value(at); f.embedded {
			in = found
		}
	case "devices":
		_ = mapDevices(devicesAt(at), nameOf)
	case "config":
		_ = mapConfig(configAt(at), configName)
	case "netconfig":
		_ = mapConfig(configAt(at), netConfigName)
	case "source":
		in = sources(at)
	case "url":
		in = urls(at)
	default:
		kind := f.kind
		if kind == kindVolume {
			kind = volumeKind(v)
		}
		if at.Kind() == reflect.String && at.Len() > 0 {
			in = projectOf(kind, at.String())
		}
		_ = mapStrings(at, func(s string) (string, error) { return nameOf(kind, s) })
	}
	return in
}

// nameOf is the reverse of [View.Key]. Its error is always nil.
func nameOf(kind, key string) (string, error) {
	switch kind {
	case kindImage:
		return key, nil
	case kindInstance, kindNew:
		return project.InstanceName(key), nil
	}
	return project.Name(key), nil
}

// configName is the reverse of [View.config].
func configName(key, value string) (string, error) {
	switch key {
	case "boot.depends_on":
		return mapWords(value, func(s string) (string, error) { return nameOf(kindInstance, s) })
	case "boot.wait_for":
		return mapWords(value, func(s string) (string, error) {
			if name, ok := strings.CutPrefix(s, "network:"); ok {
				return "network:" + project.Name(name), nil
			}
			return s, nil
		})
	}
	return value, nil
}

func netConfigName(key, value string) (string, error) {
	kind := netConfigKind(key)
	if kind == "" {
		return value, nil
	}
	return mapWords(value, func(s string) (string, error) { return nameOf(kind, s) })
}

// sources translates what a backup is of, or several of them. It returns the
// project of the one.
func sources(v reflect.Value) (in string) {
	if v.Kind() == reflect.String {
		in, _ = sourceOf(v.String())
	}
	_ = mapStrings(v, sourceName)
	return in
}

func sourceName(s string) (string, error) {
	if name, ok := strings.CutPrefix(s, "instances/"); ok {
		return "instances/" + project.InstanceName(name), nil
	}
	if rest, ok := strings.CutPrefix(s, "volumes/"); ok {
		if pool, name, ok := strings.Cut(rest, "/"); ok {
			return "volumes/" + pool + "/" + project.Name(name), nil
		}
	}
	return s, nil
}

// urls translates a path, whose project it returns, or paths.
func urls(v reflect.Value) (in string) {
	if v.Kind() == reflect.String {
		_, in = project.Path(v.String())
	}
	_ = mapStrings(v, func(s string) (string, error) { return project.URL(s), nil })
	return in
}
