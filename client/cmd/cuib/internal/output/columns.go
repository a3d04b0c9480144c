package output

import (
	"cmp"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// A Column is one attribute of what a list shows.
type Column[T any] struct {
	Key   byte // In the flag --columns.
	Name  string
	Help  string // What it shows, if Name is not enough.
	Value func(T) string
}

// Select returns the columns that spec, the value of a flag --columns, asks
// for. Commas in it mean nothing.
func Select[T any](all []Column[T], spec string) ([]Column[T], error) {
	var out []Column[T]
	for _, key := range []byte(strings.ReplaceAll(spec, ",", "")) {
		c, ok := Find(all, key)
		if !ok {
			return nil, errs.Invalidf("column %q is none of %s", key, keys(all))
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errs.Invalidf("no columns given: choose from %s", keys(all))
	}
	return out, nil
}

// Find returns the column with the given key.
func Find[T any](all []Column[T], key byte) (Column[T], bool) {
	for _, c := range all {
		if c.Key == key {
			return c, true
		}
	}
	return Column[T]{}, false
}

func keys[T any](all []Column[T]) string {
	var out []byte
	for _, c := range all {
		out = append(out, c.Key)
	}
	return string(out)
}

// Describe returns the lines of a help text that explain the columns.
func Describe[T any](all []Column[T]) string {
	var b strings.Builder
	for _, c := range all {
		b.WriteString("  " + string(c.Key) + "  " + cmp.Or(c.Help, strings.ToLower(c.Name)) + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Tabulate returns the table of items in the given columns.
func Tabulate[T any](columns []Column[T], items []T) Table {
	t := Table{Data: items}
	if items == nil {
		t.Data = []T{}
	}
	for _, c := range columns {
		t.Header = append(t.Header, c.Name)
	}
	for _, item := range items {
		row := make([]string, 0, len(columns))
		for _, c := range columns {
			row = append(row, c.Value(item))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
