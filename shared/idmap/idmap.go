// Package idmap maps user and group ids of instances to those of the host.
package idmap

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/cuib/cuib/shared/errs"
)

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

// Kind says which ids are meant.
type Kind uint8

// The kinds of ids.
const (
	User Kind = iota
	Group
)

// Default maps size users and as many groups, from 0, to base and those
// after it.
func Default(base, size int64) Map {
	return Map{{UID: true, GID: true, Host: base, Size: size}}
}

// ToHost returns the host's id for one of the instance.
func (m Map) ToHost(k Kind, id int64) (host int64, ok bool) {
	if m == nil {
		return id, true
	}
	for _, e := range m {
		if e.has(k) && id >= e.Inside && id-e.Inside < e.Size {
			return e.Host + id - e.Inside, true
		}
	}
	return 0, false
}

// ToGuest returns the instance's id for one of the host.
func (m Map) ToGuest(k Kind, id int64) (inside int64, ok bool) {
	if m == nil {
		return id, true
	}
	for _, e := range m {
		if e.has(k) && id >= e.Host && id-e.Host < e.Size {
			return e.Inside + id - e.Host, true
		}
	}
	return 0, false
}

// Overlaps reports whether an id of the host is in both maps.
func (m Map) Overlaps(o Map) bool {
	for _, a := range m {
		for _, b := range o {
			same := a.UID && b.UID || a.GID && b.GID
			if same && a.host().overlaps(b.host()) {
				return true
			}
		}
	}
	return false
}

// Merge returns m with the ids that extra maps taken out of m's entries,
// which are split for that. It is how raw.idmap changes an instance's map; the
// nil map of a privileged instance it leaves.
func (m Map) Merge(extra []Entry) (Map, error) {
	if m == nil || len(extra) == 0 {
		return m, nil
	}
	var out Map
	for _, k := range []Kind{User, Group} {
		merged, err := merge(m, extra, k)
		if err != nil {
			return nil, err
		}
		out = append(out, merged...)
	}
	return join(out), nil
}

func (e Entry) has(k Kind) bool { return k == User && e.UID || k == Group && e.GID }

func (e Entry) only(k Kind) Entry {
	e.UID, e.GID = k == User, k == Group
	return e
}

func (e Entry) host() Range   { return Range{e.Host, e.Size} }
func (e Entry) inside() Range { return Range{e.Inside, e.Size} }

// merge is [Map.Merge] for ids of one kind.
func merge(m Map, extra []Entry, k Kind) (Map, error) {
	var rest, added Map
	for _, e := range m {
		if e.has(k) {
			rest = append(rest, e.only(k))
		}
	}
	for _, x := range extra {
		if !x.has(k) {
			continue
		}
		x = x.only(k)
		for _, a := range added {
			if a.inside().overlaps(x.inside()) || a.host().overlaps(x.host()) {
				return nil, errs.Invalidf("the ids %s inside or %s of the host are mapped twice", x.inside(), x.host())
			}
		}
		for _, e := range m {
			if e.has(k) && e.host().overlaps(x.host()) {
				return nil, errs.Invalidf("the host's ids %s are of the instance's own range %s", x.host(), e.host())
			}
		}
		rest, added = cut(rest, x.inside()), append(added, x)
	}
	return append(rest, added...), nil
}

// cut takes the ids of r inside out of the map.
func cut(m Map, r Range) Map {
	var out Map
	for _, e := range m {
		if !e.inside().overlaps(r) {
			out = append(out, e)
			continue
		}
		if before := r.First - e.Inside; before > 0 {
			head := e
			head.Size = before
			out = append(out, head)
		}
		if skip := r.end() - e.Inside; skip < e.Size {
			out = append(out, Entry{e.UID, e.GID, e.Inside + skip, e.Host + skip, e.Size - skip})
		}
	}
	return out
}

// join orders the entries of a map and makes one of those of users and
// groups that are the same.
func join(m Map) Map {
	slices.SortStableFunc(m, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Inside, b.Inside), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Size, b.Size))
	})
	var out Map
	for _, e := range m {
		if n := len(out) - 1; n >= 0 && out[n].inside() == e.inside() && out[n].Host == e.Host {
			out[n].UID, out[n].GID = out[n].UID || e.UID, out[n].GID || e.GID
			continue
		}
		out = append(out, e)
	}
	return out
}

// wireEntry is an entry as instances' volatile.idmap.* keys have it.
type wireEntry struct {
	Isuid, Isgid           bool
	Hostid, Nsid, Maprange int64
}

// MarshalJSON writes the map as the configuration keys volatile.idmap.* have
// it; a nil map is an empty array.
func (m Map) MarshalJSON() ([]byte, error) {
	out := make([]wireEntry, 0, len(m))
	for _, e := range m {
		out = append(out, wireEntry{e.UID, e.GID, e.Host, e.Inside, e.Size})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what [Map.MarshalJSON] writes.
func (m *Map) UnmarshalJSON(data []byte) error {
	var in []wireEntry
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*m = nil
	for _, e := range in {
		if e.Hostid < 0 || e.Nsid < 0 || e.Maprange < 1 || !e.Isuid && !e.Isgid {
			return errs.Invalidf("id map has an impossible entry %+v", e)
		}
		*m = append(*m, Entry{UID: e.Isuid, GID: e.Isgid, Inside: e.Nsid, Host: e.Hostid, Size: e.Maprange})
	}
	return nil
}
