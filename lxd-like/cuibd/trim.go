package main

import (
	"bufio"
	"net"
	"net/http"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// What a trimmer gives back, and when.
const (
	trimAfter = 300 * time.Millisecond // When what needed it is likely to be over.
	trimPause = 2 * time.Second        // Between two times.
	trimMin   = 6 << 20                // Less is not worth the work.

	// trimAnswer is how large an answer is that leaves so much behind.
	trimAnswer = 64 << 10
)

// A trimmer gives memory back to the host that the daemon had for something
// large that is over: its runtime would take minutes for that. The zero value
// is ready to use.
type trimmer struct {
	mu    sync.Mutex
	armed bool      // A trim is on its way.
	last  time.Time // When the last one was.
	least uint64    // What the heap has when nothing is going on, as far as is known.
}

// soon has memory be given back in a moment, if there is some.
func (t *trimmer) soon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.armed {
		return
	}
	t.armed = true
	time.AfterFunc(max(trimAfter, time.Until(t.last.Add(trimPause))), t.trim)
}

// trim is under way once at a time.
func (t *trimmer) trim() {
	has := heap()
	if has >= t.least+trimMin {
		debug.FreeOSMemory()
		has = heap()
	} else {
		has = min(has, t.least)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armed, t.last, t.least = false, time.Now(), has
}

// heap returns how much memory of the host's the heap has, in use or not.
func heap() uint64 {
	all := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(all)
	has := uint64(0)
	for _, s := range all {
		has += s.Value.Uint64()
	}
	return has
}

// publish tells of an operation, at whose end memory is given back.
func (d *daemon) publish(project, typ string, metadata any) {
	d.events.Publish(project, typ, metadata)
	d.trim.soon()
}

// handler is a handler after whose large answers memory is given back.
func (t *trimmer) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &counter{ResponseWriter: w}
		h.ServeHTTP(c, r)
		if c.n >= trimAnswer {
			t.soon()
		}
	})
}

// A counter counts what is written.
type counter struct {
	http.ResponseWriter

	n int
}

// Write implements [http.ResponseWriter].
func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n += n
	return n, err
}

// Unwrap is for [http.ResponseController].
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Hijack implements [http.Hijacker], which websockets need to see.
func (c *counter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(c.ResponseWriter).Hijack()
}
