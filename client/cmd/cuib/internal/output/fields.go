package output

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// unknownField reports a field of a document that a type does not have, and
// which it has. Those are the fields of told, which can be a part of the type.
func unknownField(doc any, typ, told reflect.Type, at string) error {
	typ, told = element(typ), element(told)
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil // It knows itself what it has.
	}
	switch doc := doc.(type) {
	case map[string]any:
		switch typ.Kind() { //nolint:exhaustive // For all others the decoder has an error.
		case reflect.Struct:
			return unknownOf(doc, typ, told, at)
		case reflect.Map:
			for _, key := range slices.Sorted(maps.Keys(doc)) {
				if err := unknownField(doc[key], typ.Elem(), typ.Elem(), below(at, key)); err != nil {
					return err
				}
			}
		}
	case []any:
		for i, one := range doc {
			if typ.Kind() != reflect.Slice {
				break
			}
			if err := unknownField(one, typ.Elem(), typ.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknownOf is [unknownField] for a struct.
func unknownOf(doc map[string]any, typ, told reflect.Type, at string) error {
	have := fieldsOf(typ)
	for _, key := range slices.Sorted(maps.Keys(doc)) {
		i := slices.IndexFunc(have, func(f field) bool { return strings.EqualFold(f.name, key) }) // As the decoder.
		if i < 0 {
			var allowed []string
			for _, f := range fieldsOf(told) {
				allowed = append(allowed, f.name)
			}
			return errs.Invalidf("YAML: unknown field %q: allowed are %s", below(at, key), strings.Join(allowed, ", "))
		}
		if err := unknownField(doc[key], have[i].typ, have[i].typ, below(at, have[i].name)); err != nil {
			return err
		}
	}
	return nil
}

func below(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// element returns what a pointer points to.
func element(typ reflect.Type) reflect.Type {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	return typ
}

// A field is one of a struct, by its name in JSON.
type field struct {
	name string
	typ  reflect.Type
}

// fieldsOf returns the fields that a struct has in JSON, in their order.
func fieldsOf(typ reflect.Type) []field {
	var out []field
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case f.Anonymous && name == "":
			out = append(out, fieldsOf(element(f.Type))...)
		case name != "":
			out = append(out, field{name, f.Type})
		}
	}
	return out
}
