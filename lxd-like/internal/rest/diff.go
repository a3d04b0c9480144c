package rest

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// keptBack is how much of a long answer is made before any of it is written:
// until then it can become an error yet.
const keptBack = 1 << 20

// diffInstance says what changed in an instance. It is of the extension
// cuib_snapshot_diff.
func (s *Server) diffInstance(r *http.Request) (response, error) {
	name, q := r.PathValue("name"), r.URL.Query()
	return streamed(func(fn func(any) error) error {
		return s.Instances.Diff(r.Context(), name, q.Get("from"), q.Get("to"), func(c api.FileChange) error { return fn(c) })
	}), nil
}

// streamed is the answer of a request for a list that can be longer than is
// good to hold in memory. each calls fn with each element.
func streamed(each func(fn func(any) error) error) response {
	return func(w http.ResponseWriter, _ *http.Request) error {
		l := listWriter{w: w}
		if err := each(l.add); err != nil {
			if l.written {
				panic(http.ErrAbortHandler) // The client sees that the end is missing.
			}
			return err
		}
		l.end()
		return nil
	}
}

// A listWriter writes the answer of [streamed].
type listWriter struct {
	w       http.ResponseWriter
	buf     bytes.Buffer
	some    bool // There is an element.
	written bool
}

func (l *listWriter) add(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if l.some {
		l.buf.WriteByte(',')
	} else {
		l.begin()
	}
	l.buf.Write(data)
	if l.buf.Len() < keptBack {
		return nil
	}
	return l.flush()
}

func (l *listWriter) begin() {
	l.some = true
	l.buf.WriteString(`{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":[`)
}

func (l *listWriter) flush() error {
	if !l.written {
		l.written = true
		l.w.Header().Set("Content-Type", "application/json")
		l.w.WriteHeader(http.StatusOK)
	}
	_, err := l.buf.WriteTo(l.w)
	return err
}

func (l *listWriter) end() {
	if !l.some {
		l.begin()
	}
	l.buf.WriteString("]}\n")
	_ = l.flush() // The client may be gone.
}
