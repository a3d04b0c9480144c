package instances

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
	"github.com/cuib/cuib/storage"
)

// An index holds the instances that run. The zero value is ready to use.
type index struct {
	mu      sync.Mutex // Guards what follows.
	running map[string]*active
	shut    bool // Nothing is admitted any more.
}

// active is an instance that runs. Its fields are guarded by the lock of the
// instance, but for done.
type active struct {
	volume storage.Volume
	pool   string
	ids    idmap.Map // That its root is mounted with.
	cpus   string    // That it is bound to; empty for all.
	disks  disks
	wish   wish
	ready  int           // Its init that said that it is ready; guarded by the index.
	deaths []time.Time   // When it died lately, and was started again.
	done   chan struct{} // Closed when it has ended and all of it is cleaned up.
}

// wish is what is to become of an instance that ends.
type wish int

const (
	wishNothing wish = iota // Nobody asked it to end.
	wishStop                // Somebody asked it to end.
	wishRestart             // Who asked it to end starts it again.
	wishLate                // Somebody asked it to end, and does not wait for that any more.
	wishHost                // The host shuts down: what runs now is to run again.
)

func (x *index) get(name string) *active {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.running[name]
}

func (x *index) put(name string, a *active) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.running == nil {
		x.running = map[string]*active{}
	}
	x.running[name] = a
}

// admit is put, for an instance that is about to start.
func (x *index) admit(name string, a *active) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.shut {
		return errs.Newf(errs.Unavailable, "the daemon is shutting down")
	}
	if x.running == nil {
		x.running = map[string]*active{}
	}
	x.running[name] = a
	return nil
}

// shutDoor makes admit refuse all from now on, and returns the names of what
// runs or is about to.
func (x *index) shutDoor() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.shut = true
	return slices.Sorted(maps.Keys(x.running))
}

func (x *index) isShut() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shut
}

func (x *index) drop(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.running, name)
}

// load counts the instances that are bound to each processor, but for one.
func (x *index) load(except string) map[int]int {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[int]int{}
	for name, a := range x.running {
		if name == except || a.cpus == "" {
			continue
		}
		cpus, err := profiles.ParseCPUs(a.cpus)
		if err != nil {
			continue
		}
		for _, n := range cpus {
			out[n]++
		}
	}
	return out
}

// bind notes which processors an instance is bound to.
func (x *index) bind(name, cpus string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a := x.running[name]; a != nil {
		a.cpus = cpus
	}
}
