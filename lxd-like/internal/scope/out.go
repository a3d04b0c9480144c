package scope

import (
	"reflect"

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

// field returns the project of what a field names.
func (t outward) field(v reflect.Value, f planned) (in string) {
	at := v.Field(f.index)
	switch f.kind {
	case "":
		if found := t.value(at); f.embedded {
			in = found
		}
		return in
	case kindURL:
		return urls(at)
	}
	if at.Kind() == reflect.String && at.Len() > 0 {
		in = f.projectIn(v)
	}
	_ = translate(v, f, nameOf) // It never fails.
	return in
}

// nameOf is the reverse of [View.Key]. Its error is always nil.
func nameOf(kind, key string) (string, error) {
	switch kind {
	case Image:
		return key, nil
	case Instance, kindNew:
		return project.InstanceName(key), nil
	}
	return project.Name(key), nil
}

// urls translates a path, whose project it returns, or paths.
func urls(v reflect.Value) (in string) {
	if v.Kind() == reflect.String {
		_, in = project.Path(v.String())
	}
	_ = mapStrings(v, func(s string) (string, error) { return project.URL(s), nil })
	return in
}
