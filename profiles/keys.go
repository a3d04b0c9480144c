package profiles

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/cuib/cuib/shared/errs"
)

// A Type is the type of a key's or option's value.
type Type string

// The types.
const (
	Bool    Type = "bool"
	Integer Type = "integer"
	String  Type = "string"
	Blob    Type = "blob" // Several lines.
)

// A Key is a row of the table of configuration keys.
type Key struct {
	Name      string // With * for any text, as in user.*.
	Group     string // Of keys that are documented together.
	Type      Type
	Default   string // What holds where it is not set; empty where that says nothing.
	Allowed   string // Says which values are allowed, after "want".
	Live      bool   // A change reaches a running instance at once, and else when it starts.
	Condition string // When the key is of use; empty for always.
	OwnOnly   bool   // An instance has it and no profile.
	Doc       string // One sentence.
	Differs   string // How it differs from what LXD and Incus make of it, if it does.

	check func(value string) error

	// checkName reports what is wrong with the text in place of the *; nil for
	// nothing.
	checkName func(text string) error
}

// Check reports what is wrong with a value. An empty one unsets the key and
// is always allowed.
func (k Key) Check(value string) error {
	if value == "" || k.check == nil {
		return nil
	}
	return refusal(k.check(value), value, k.Allowed)
}

// refusal words what a check says of a value.
func refusal(err error, value, allowed string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNo):
		return errs.Invalidf("got %s, want %s", quote(value), allowed)
	default:
		return errs.Invalidf("%w", err)
	}
}

// refuse is the error for what nothing can have here. If other values can be
// had, allowed says which.
func refuse(value, why, allowed string) error {
	err := errs.Invalidf("got %s, but it cannot be set: %s", quote(value), why)
	if allowed == "" {
		return err
	}
	return errs.Invalidf("%w; want %s", err, allowed)
}

// quote quotes what a user gave, if it is long only its beginning.
func quote(v string) string {
	const most = 200
	if len(v) <= most {
		return strconv.Quote(v)
	}
	return fmt.Sprintf("%q and so on (%d bytes)", v[:most], len(v))
}

// The lengths that names and values of keys and options may have.
const (
	maxName  = 255
	maxValue = 512 << 10 // A request can be twice as long.
)

// checkText reports what no key, option or value of one may be.
func checkText(name, value string) error {
	switch {
	case len(name) > maxName:
		return errs.Invalidf("unknown key %s, want a name of at most %d bytes", quote(name), maxName)
	case !printable(name):
		return errs.Invalidf("unknown key %s, want a name without control characters", quote(name))
	case len(value) > maxValue:
		return errs.Invalidf("%s: got %s, want at most %d bytes", name, quote(value), maxValue)
	case strings.ContainsRune(value, 0):
		return errs.Invalidf("%s: got %s, want a text without NUL bytes", name, quote(value))
	}
	return nil
}

// printable reports whether a text is of one line without control characters.
func printable(v string) bool { return strings.IndexFunc(v, unicode.IsControl) < 0 }

// byName has the rows whose names have no *.
var byName = sync.OnceValue(func() map[string]Key {
	m := make(map[string]Key)
	for _, k := range Keys() {
		if !strings.Contains(k.Name, "*") {
			m[k.Name] = k
		}
	}
	return m
})

// patterns are the rows that byName lacks, those first that say most.
var patterns = sync.OnceValue(func() []Key {
	all := slices.DeleteFunc(Keys(), func(k Key) bool { return !strings.Contains(k.Name, "*") })
	slices.SortStableFunc(all, func(a, b Key) int { return cmp.Compare(len(b.Name), len(a.Name)) })
	return all
})

// Lookup returns the row for a key, which can be one with a * for it.
func Lookup(name string) (Key, bool) {
	if k, ok := byName()[name]; ok {
		return k, true
	}
	for _, k := range patterns() {
		prefix, suffix, _ := strings.Cut(k.Name, "*")
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		if middle, ok := strings.CutSuffix(rest, suffix); ok && middle != "" {
			return k, true
		}
	}
	return Key{}, false
}

// ValidateOptions reports the first key, by name, that is unknown or has a
// bad value.
func ValidateOptions(opts map[string]string) error {
	for name, value := range sorted(opts) {
		if err := checkText(name, value); err != nil {
			return err
		}
		k, ok := Lookup(name)
		if why, no := refusedKey(name, value); no {
			return wrap(name, refuse(value, why, k.Allowed))
		}
		if !ok {
			return unknown("configuration key", name, slices.Collect(maps.Keys(byName())))
		}
		if err := checkSuffix(k, name); err != nil {
			return err
		}
		if err := k.Check(value); err != nil {
			return wrap(name, err)
		}
	}
	return nil
}

// checkSuffix reports what is wrong with the text in place of a *.
func checkSuffix(k Key, name string) error {
	if k.checkName == nil {
		return nil
	}
	prefix, suffix, _ := strings.Cut(k.Name, "*")
	text := strings.TrimSuffix(strings.TrimPrefix(name, prefix), suffix)
	if err := k.checkName(text); err != nil {
		return errs.Invalidf("unknown configuration key %s: %w", quote(name), err)
	}
	return nil
}

// unknown is the error for a name that is not among known. It suggests one
// that is near.
func unknown(what, name string, known []string) error {
	if near, ok := nearest(name, known); ok {
		return errs.Invalidf("unknown %s %s, did you mean %q?", what, quote(name), near)
	}
	return errs.Invalidf("unknown %s %s", what, quote(name))
}

// nearest returns the name with the fewest changed letters, if they are few.
func nearest(name string, known []string) (string, bool) {
	best, least := "", min(3, len(name)/3+1)
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	return best, best != ""
}

// distance returns how many letters are inserted, removed or changed between
// a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

func wrap(name string, err error) error { return errs.Newf(errs.KindOf(err), "%s: %w", name, err) }

// sorted yields a map by its keys, so that the first error is always the same.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
