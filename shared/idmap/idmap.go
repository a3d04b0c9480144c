// Package idmap maps user and group ids of instances to those of the host.
package idmap

// An Entry maps the ids [Inside, Inside+Size) of an instance to
// [Host, Host+Size) of the host, for users, groups or both.
type Entry struct {
	UID, GID     bool
	Inside, Host int64
	Size         int64
}

// A Map is the whole mapping of an instance. A nil map is that of a
// privileged instance, which has the host's ids.
type Map []Entry
