package main

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/cuib/cuib/shared/testenv"
)

// released returns how much memory the runtime has given back to the host.
func released() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// TestTrim has a large answer be made, and looks for the memory that it took.
func TestTrim(t *testing.T) {
	const size = 64 << 20
	trim := &trimmer{}
	var before uint64
	h := trim.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data := make([]byte, size)
		for i := 0; i < size; i += 4096 {
			data[i] = 1
		}
		before = released() // What was released before can be in use again.
		_, _ = w.Write(data[:trimAnswer])
		runtime.KeepAlive(data)
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if got := w.Body.Len(); got != trimAnswer {
		t.Errorf("the answer has %d bytes", got)
	}
	testenv.Eventually(t, "the memory is the host's again", func() bool { return released() >= before+size/2 })
}

// TestSmallAnswers leaves memory alone that is needed again at once.
func TestSmallAnswers(t *testing.T) {
	trim := &trimmer{}
	h := trim.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, trimAnswer-1)) }))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if trim.timer != nil {
		t.Error("a small answer has memory be given back")
	}
}

// TestLearn takes what is in use for a while not for what the daemon needs, and
// what stays in use for that.
func TestLearn(t *testing.T) {
	trim := &trimmer{}
	now := time.Now()
	const little, much = 4 << 20, 4<<20 + 2*trimMin
	for _, step := range []struct {
		after time.Duration
		has   uint64
		again bool
		least uint64
	}{
		{has: much, again: true, least: 0},
		{after: time.Second, has: little, least: little},
		{after: time.Hour, has: much, again: true, least: little},
		{after: trimLong - 1, has: much, again: true, least: little},
		{after: 1, has: much, least: much},
		{after: 1, has: much + trimMin - 1, least: much},
		{after: 1, has: little, least: little},
	} {
		now = now.Add(step.after)
		if again := trim.learn(step.has, now); again != step.again || trim.least != step.least {
			t.Errorf("has %d: again %t, needs %d; want %t, %d", step.has, again, trim.least, step.again, step.least)
		}
	}
}

// TestSoonerTrim brings forward a trim that would be made later.
func TestSoonerTrim(t *testing.T) {
	trim := &trimmer{}
	trim.arm(time.Hour)
	trim.soon()
	if until := time.Until(trim.due); until > trimPause {
		t.Errorf("it comes in %v", until)
	}
	trim.arm(time.Hour)
	if until := time.Until(trim.due); until > trimPause {
		t.Errorf("then it comes in %v", until)
	}
	testenv.Eventually(t, "it comes", func() bool {
		trim.mu.Lock()
		defer trim.mu.Unlock()
		return !trim.last.IsZero()
	})
}
