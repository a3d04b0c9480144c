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
	trimAgain = 5 * time.Second        // When much was still in use.
	trimLong  = time.Minute            // What is in use for so long is what the daemon needs.

	// trimAnswer is how large an answer is that leaves so much behind.
	trimAnswer = 64 << 10
)

// A trimmer gives memory back to the host that the daemon had for something
// large that is over: its runtime would take minutes for that. The zero value
// is ready to use.
type trimmer struct {
	mu    sync.Mutex
	timer *time.Timer // nil unless a trim is to come.
	due   time.Time   // When it comes.
	last  time.Time   // When the last one was.
	least uint64      // What the heap has when nothing is going on, as far as is known.
	much  time.Time   // Since when that and much more is in use; zero if it is not.
}

// soon has memory be given back in a moment, if there is some.
func (t *trimmer) soon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arm(max(trimAfter, time.Until(t.last.Add(trimPause))))
}

// arm has a trim be made, unless one comes before. The caller holds mu.
func (t *trimmer) arm(after time.Duration) {
	due := time.Now().Add(after)
	if t.timer != nil && (!due.Before(t.due) || !t.timer.Stop()) {
		return
	}
	t.timer, t.due = time.AfterFunc(after, t.trim), due
}

// trim is under way once at a time: the timer stays until it is over.
func (t *trimmer) trim() {
	t.mu.Lock()
	least := t.least
	t.mu.Unlock()
	has := heap()
	if has >= least+trimMin {
		debug.FreeOSMemory()
		has = heap()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer, t.last = nil, time.Now()
	if t.learn(has, t.last) {
		t.arm(trimAgain)
	}
}

// learn takes what the heap has after a trim, and reports whether to trim again:
// what needs much may be still going on. The caller holds mu.
func (t *trimmer) learn(has uint64, now time.Time) (again bool) {
	if has >= t.least+trimMin {
		if t.much.IsZero() {
			t.much = now
		}
		if now.Sub(t.much) < trimLong {
			return true
		}
		t.least = has
	}
	t.much = time.Time{}
	if t.least == 0 || has < t.least {
		t.least = has
	}
	return false
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
