package profiles

import "slices"

// What follows is for tables of keys of other things, such as networks, each of
// whose rows is a [Key] and something of its own.

// ErrValue is what is wrong with a value where the row's Allowed says all.
var ErrValue = errNo

// WrongValue words what is wrong with a value, which err says.
func (k Key) WrongValue(err error, value string) error { return refusal(err, value, k.Allowed) }

// RefuseValue is the error for a value that cannot be had for a reason; of a
// key without Allowed, none can.
func (k Key) RefuseValue(value, why string) error { return refuse(value, why, k.Allowed) }

// Describe returns what clients are told of a key.
func (k Key) Describe() Doc { return k.describe() }

// Unknown is the error for a name that is not among known; what says what it
// would be the name of. It suggests one that is near.
func Unknown(what, name string, known []string) error { return unknown(what, name, known) }

// CheckText reports what no key and no value of one may be.
func CheckText(name, value string) error { return checkText(name, value) }

// Matches reports whether a name is a pattern's, in which each * stands for
// some text.
func Matches(pattern, name string) bool { return matches(pattern, name) }

// Is reports whether a name is the key's, or one of its pattern.
func (k Key) Is(name string) bool { return matches(k.Name, name) }

// Find returns the first row of a table whose key has a name.
func Find[Row interface{ Is(name string) bool }](table []Row, name string) (row Row, ok bool) {
	i := slices.IndexFunc(table, func(r Row) bool { return r.Is(name) })
	if i < 0 {
		return row, false
	}
	return table[i], true
}

// AddDoc puts what clients are told of a key into the key's group.
func AddDoc(groups map[string]DocGroup, k Key, d Doc) {
	g := groups[k.Group]
	g.Keys = append(g.Keys, map[string]Doc{k.Name: d})
	groups[k.Group] = g
}
