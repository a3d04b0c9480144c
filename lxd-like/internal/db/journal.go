package db

import (
	"slices"
	"sync"
)

// A Mark is a moment in the life of an open database. The zero value is before
// all that it holds.
type Mark uint64

// Changes are what transactions have added, changed or removed between two
// marks, each name once.
type Changes struct {
	All       bool // More than is noted: whatever is kept of it has to be read anew.
	Instances []string
	Profiles  []string
}

// remembered is how many changes a journal has at least, once it had as many.
const remembered = 1024

// A journal notes what transactions change, for those who keep something of all
// instances in memory: they read what has changed, and not all. The zero value is
// ready to use.
type journal struct {
	mu    sync.Mutex // Guards what follows.
	last  Mark       // Of the newest change.
	notes []note     // The newest of all, in order; their marks have no gaps.
}

// A note says that a row with a key has changed; kind is one of [ProjectObject].
type note struct{ kind, key string }

// noted adds what a transaction has changed that is committed.
func (j *journal) noted(some []note) {
	if len(some) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last += Mark(len(some))
	j.notes = append(j.notes, some...)
	if len(j.notes) > 2*remembered {
		j.notes = slices.Clone(j.notes[len(j.notes)-remembered:])
	}
}

// Since returns what has changed since a mark, and the mark of now. Whoever reads
// that in a transaction that begins later has it as it is at this mark, or as it
// was made after that, which the next call tells.
func (d *DB) Since(m Mark) (Changes, Mark) {
	// A transaction that is committed and not noted yet has the next mark.
	d.journal.mu.Lock()
	defer d.journal.mu.Unlock()
	now := d.journal.last + 1 // Zero is nobody's.
	missed := uint64(now - m)
	if m == 0 || missed > uint64(len(d.journal.notes)) {
		return Changes{All: true}, now
	}
	var c Changes
	for _, n := range d.journal.notes[len(d.journal.notes)-int(missed):] {
		switch n.kind {
		case OfInstances:
			c.Instances = append(c.Instances, n.key)
		case OfProfiles:
			c.Profiles = append(c.Profiles, n.key)
		}
	}
	for _, list := range []*[]string{&c.Instances, &c.Profiles} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return c, now
}

// note has the journal know of a change when the transaction is committed.
func (tx *Tx) note(kind string, keys ...string) {
	for _, key := range keys {
		tx.notes = append(tx.notes, note{kind, key})
	}
}
