package main

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/metrics"
	"testing"

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
	h := trim.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data := make([]byte, size)
		for i := 0; i < size; i += 4096 {
			data[i] = 1
		}
		_, _ = w.Write(data[:trimAnswer])
		runtime.KeepAlive(data)
	}))
	before := released()
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
	if trim.armed {
		t.Error("a small answer has memory be given back")
	}
}
