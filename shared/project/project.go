// Package project is about the names of what is in projects.
//
// Clients name an object by its name and its project. Inside the daemon an
// object has one name, its key: in the project "default" the name itself, in
// others PROJECT_NAME for an instance, which its files on the host have as
// well, and PROJECT%NAME for all else. Neither sign can be in a name of that
// kind, nor in a project's. So whatever keeps objects by name, on disk and in
// memory, keeps those of all projects apart.
package project

import (
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// Default is the project of requests that name none. It is always there.
const Default = "default"

const (
	ofInstances = "_"
	ofOthers    = "%"
)

// Key is the key of an object that is no instance. An empty project is the
// default one.
func Key(project, name string) string { return join(project, ofOthers, name) }

// Split is the reverse of [Key].
func Split(key string) (project, name string) { return split(key, ofOthers) }

// Name is the name of what has a key, without its project.
func Name(key string) string {
	_, name := Split(key)
	return name
}

// Of is the project of what has a key.
func Of(key string) string {
	project, _ := Split(key)
	return project
}

// Instance is the key of an instance. An empty project is the default one.
func Instance(project, name string) string { return join(project, ofInstances, name) }

// SplitInstance is the reverse of [Instance].
func SplitInstance(key string) (project, name string) { return split(key, ofInstances) }

// InstanceName is the name of the instance that has a key: its host name.
func InstanceName(key string) string {
	_, name := SplitInstance(key)
	return name
}

// OfInstance is the project of the instance that has a key.
func OfInstance(key string) string {
	project, _ := SplitInstance(key)
	return project
}

func join(project, sign, name string) string {
	if project == "" || project == Default {
		return name
	}
	return project + sign + name
}

// split leaves alone what follows a slash: a snapshot's name can have any sign.
func split(key, sign string) (project, name string) {
	object, _, _ := strings.Cut(key, "/")
	if project, _, ok := strings.Cut(object, sign); ok {
		return project, key[len(project)+len(sign):]
	}
	return Default, key
}

// IsInstanceName reports whether what a client says can be the name of an
// instance, and not the key of another project's.
func IsInstanceName(name string) bool { return plain(name, ofInstances) }

// IsName is [IsInstanceName] for all else.
func IsName(name string) bool { return plain(name, ofOthers) }

// plain reports whether there is no sign in what precedes a slash.
func plain(name, sign string) bool {
	object, _, _ := strings.Cut(name, "/")
	return !strings.Contains(object, sign)
}

// CheckName reports what is wrong with the name of a project.
func CheckName(name string) error {
	const want = `1 to 63 letters, digits, and ".", "-", with a letter or digit first`
	ok := len(name) <= 63 && !strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(letters+digits+".-", r) }) && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "-")
	switch {
	case name == "":
		return errs.Invalidf("project name: it is empty, want %s", want)
	case !ok:
		return errs.Invalidf("project name: got %q, want %s", name, want)
	}
	return nil
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)
