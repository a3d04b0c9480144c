package scope

import (
	"context"
	"reflect"
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
		var err error
		switch f.kind {
		case "":
			err = t.value(v.Field(f.index), view)
		case kindURL: // Only the daemon says where things are.
		default:
			err = translate(v, f, view.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
