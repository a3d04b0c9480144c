package scope

import (
	"reflect"
	"sync"
)

// A plan is what of a type there is to translate.
type plan struct {
	fields  []planned
	project int // The index of the field with the project, or -1.
}

// A planned is a field that has a tag, or something in it that has one.
type planned struct {
	index    int
	name     string
	kind     string // Of the tag; empty if what is in it has to be looked at.
	embedded bool
}

var plans sync.Map // By reflect.Type.

func planOf(t reflect.Type) plan {
	if p, ok := plans.Load(t); ok {
		return p.(plan) //nolint:forcetypeassert // It holds nothing else.
	}
	p := plan{project: -1}
	for i := range t.NumField() {
		f := t.Field(i)
		kind := f.Tag.Get("key")
		switch {
		case !f.IsExported():
		case kind == "project":
			p.project = i
		case kind != "" || tagged(f.Type, map[reflect.Type]bool{t: true}):
			p.fields = append(p.fields, planned{index: i, name: f.Name, kind: kind, embedded: f.Anonymous})
		}
	}
	plans.Store(t, p)
	return p
}

// tagged reports whether values of a type can have a field with a tag in them.
func tagged(t reflect.Type, seen map[reflect.Type]bool) bool {
	switch kind := t.Kind(); {
	case kind == reflect.Pointer || kind == reflect.Slice:
		return tagged(t.Elem(), seen)
	case kind != reflect.Struct || seen[t]:
		return false // What is in maps and interfaces is not translated.
	}
	seen[t] = true
	for f := range t.Fields() {
		if f.IsExported() && (f.Tag.Get("key") != "" || tagged(f.Type, seen)) {
			return true
		}
	}
	return false
}
