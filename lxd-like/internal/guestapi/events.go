package guestapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/cuib/cuib/shared/ws"
)

// backlog is how many events a guest may be behind.
const backlog = 64

// An event is one as guests get it.
type event struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Metadata  any       `json:"metadata"`
}

// A listener is a connection that is told of events.
type listener struct {
	types  []string
	events chan []byte // Closed when nothing follows.
	conn   *conn
}

// Tell tells a guest of an event, if it listens.
func (s *Server) Tell(name, typ string, metadata any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.doors[name]
	if d == nil || len(d.listeners) == 0 {
		return
	}
	data, err := json.Marshal(event{typ, time.Now(), metadata})
	if err != nil {
		return // Only for a type that no caller has.
	}
	for l := range d.listeners {
		if !slices.Contains(l.types, typ) {
			continue
		}
		select {
		case l.events <- data:
		default: // It does not read: what is written to it may never end.
			d.drop(l)
			_ = l.conn.Conn.Close() // Its handler closes it for good.
		}
	}
}

// drop ends a listener. The caller holds the server's mu.
func (d *door) drop(l *listener) {
	if d.listeners[l] {
		delete(d.listeners, l)
		close(l.events)
	}
}

// listenTo adds a listener to a door; it returns nil if that has too many.
func (s *Server) listenTo(d *door, c *conn, types []string) *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(d.listeners) >= maxListeners || d.fd < 0 {
		return nil
	}
	l := &listener{types: types, events: make(chan []byte, backlog), conn: c}
	d.listeners[l] = true
	return l
}

func (s *Server) leave(d *door, l *listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.drop(l)
}

// events tells a guest of events, by a websocket or by an answer that goes on
// and on, until one of the two has enough.
func (s *Server) events(w http.ResponseWriter, r *http.Request, d *door) error {
	types, err := wantedTypes(r)
	if err != nil {
		return err
	}
	c, _ := r.Context().Value(connKey{}).(*conn) // It has one.
	l := s.listenTo(d, c, types)
	if l == nil {
		http.Error(w, "too many connections wait for events", http.StatusTooManyRequests)
		return nil
	}
	defer s.leave(d, l)
	if !ws.IsUpgrade(r) {
		return stream(w, r, l)
	}
	socket, err := ws.Upgrade(w, r)
	if err != nil {
		return nil // Upgrade has answered.
	}
	defer socket.Close()
	pass(socket.Watch(r.Context()), l, socket.WriteText)
	return nil
}

// stream sends events one a line.
func stream(w http.ResponseWriter, r *http.Request, l *listener) error {
	to, err := long(w)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Transfer-Encoding", "identity") // It ends with the connection, as the peers' do.
	w.WriteHeader(http.StatusOK)
	send := func(data []byte) error {
		if _, err := to.Write(data); err != nil {
			return err
		}
		return to.control.Flush()
	}
	_ = send(nil) // The guest may be gone; that is seen below.
	pass(r.Context(), l, func(data []byte) error { return send(slices.Concat(data, []byte("\n"))) })
	return nil
}

// pass sends a listener's events until ctx ends, or one of the two has enough.
func pass(ctx context.Context, l *listener, send func([]byte) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case data, ok := <-l.events:
			if !ok || send(data) != nil {
				return
			}
		}
	}
}
