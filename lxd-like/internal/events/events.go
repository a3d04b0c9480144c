// Package events hands the daemon's events to those who listen.
package events

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/project"
)

// backlog is how many events a listener may be behind before it is dropped.
const backlog = 1024

// A Hub hands each event to all listeners. Its zero value is ready to use,
// and its methods are safe for concurrent use.
type Hub struct {
	mu        sync.Mutex // Guards what follows.
	listeners map[*Listener]bool
}

// A Listener receives the events of some types. All listeners have the same, and change nothing of them.
type Listener struct {
	C     <-chan *api.Event // Closed when the listener is too slow, or ended.
	c     chan *api.Event
	types []string // None for all.
	hub   *Hub
}

// Listen returns a listener to events of the given types, or of all.
func (h *Hub) Listen(types ...string) *Listener {
	c := make(chan *api.Event, backlog)
	l := &Listener{C: c, c: c, types: types, hub: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == nil {
		h.listeners = map[*Listener]bool{}
	}
	h.listeners[l] = true
	return l
}

// Close ends the listener.
func (l *Listener) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.drop(l)
}

// drop removes l. The caller holds mu.
func (h *Hub) drop(l *Listener) {
	if h.listeners[l] {
		delete(h.listeners, l)
		close(l.c)
	}
}

// Publish hands an event of the given project and type to all who listen. It never
// blocks: a listener that is too far behind is dropped.
func (h *Hub) Publish(in, typ string, metadata any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.listeners) == 0 {
		return
	}
	data, err := json.Marshal(metadata)
	if err != nil {
		return // Only for a type that no caller has.
	}
	e := &api.Event{Type: typ, Timestamp: time.Now(), Metadata: data, Location: "none", Project: in}
	for l := range h.listeners {
		if len(l.types) > 0 && !slices.Contains(l.types, typ) {
			continue
		}
		select {
		case l.c <- e:
		default:
			h.drop(l)
		}
	}
}

// Lifecycle publishes that action, such as "instance-created", happened to
// the object with the given URL.
func (h *Hub) Lifecycle(action, source string, details map[string]any) {
	_, in := project.Path(source)
	if in != project.Default {
		details = maps.Clone(details)
		for key, value := range details {
			if text, ok := value.(string); ok {
				details[key] = project.Text(in, text)
			}
		}
	}
	h.Publish(in, "lifecycle", api.EventLifecycle{Action: action, Source: project.URL(source), Context: details, Project: in})
}
