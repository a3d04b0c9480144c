package transfer

import (
	"strings"
	"sync"

	"github.com/cuib/cuib/storage"
)

// Names of what is hidden: the prefix, an id, and what it is.
const (
	copyPrefix    = "." + storage.ForCopy + "-"
	refreshing    = "refresh"
	refreshPrefix = "." + refreshing + "-"
	idLen         = 12 // As by [storage.NewHidden].

	// Of a refresh: the target as it was, which becomes the sign that all is
	// there, and the snapshots that are new, until then.
	oldSuffix  = "-old"
	doneSuffix = "-done"
	newInfix   = "-new-"
)

// active has the names of this process that are in use: [RecoverRefresh],
// which may come late for a pool that was missing, leaves them alone.
var active sync.Map

// hide returns a name that nothing has, for a copy or a refresh, and a function
// that ends its use.
func hide(what string) (name string, done func()) {
	name = storage.NewHidden(what)
	active.Store(name, true)
	return name, func() { active.Delete(name) }
}

// isLeft reports whether a name is one of a kind that a process left that was
// killed.
func isLeft(name, prefix string) bool {
	if !strings.HasPrefix(name, prefix) {
		return false
	}
	_, used := active.Load(name[:min(len(name), len(prefix)+idLen)])
	return !used
}
