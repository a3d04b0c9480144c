package rest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/ops"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// A response writes an answer. One that returns an error has written nothing.
type response func(http.ResponseWriter, *http.Request) error

// synced is the answer of a request that is done.
func synced(metadata any) response {
	return envelope(http.StatusOK, api.Response{Type: "sync", Status: api.Success.String(), StatusCode: int(api.Success), Metadata: metadata})
}

// done is the answer of a change that is done or has failed.
func done(err error) (response, error) {
	if err != nil {
		return nil, err
	}
	return synced(struct{}{}), nil
}

// got is the answer of a request that reads something.
func got[T any](v T, err error) (response, error) {
	if err != nil {
		return nil, err
	}
	return synced(v), nil
}

// tagged is the answer of a request that reads something whose writable part
// is given: the ETag is of that.
func tagged(v, writable any) (response, error) {
	tag, err := etag(writable)
	if err != nil {
		return nil, err
	}
	return withHeader(synced(v), "ETag", tag), nil
}

// created is the answer of a request that has made what is at url.
func created(url string, err error) (response, error) {
	if err != nil {
		return nil, err
	}
	resp := envelope(http.StatusCreated, api.Response{Type: "sync", Status: api.Success.String(), StatusCode: int(api.Success), Metadata: struct{}{}})
	return withHeader(resp, "Location", project.URL(url)), nil
}

func asyncResponse(op *ops.Op) response {
	url := "/1.0/operations/" + op.ID
	resp := envelope(http.StatusAccepted, api.Response{
		Type: "async", Status: api.OperationCreated.String(), StatusCode: int(api.OperationCreated),
		Operation: url, Metadata: op.Describe(),
	})
	return withHeader(resp, "Location", url)
}

func errorResponse(err error) response {
	code := errs.Status(err)
	return envelope(code, api.Response{Type: "error", Error: err.Error(), ErrorCode: code})
}

func notAllowed(method string, methods map[string]handle) response {
	allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	const code = http.StatusMethodNotAllowed
	msg := fmt.Sprintf("method %s is not allowed here: use %s", method, allow)
	return withHeader(envelope(code, api.Response{Type: "error", Error: msg, ErrorCode: code}), "Allow", allow)
}

func withHeader(resp response, key, value string) response {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set(key, value)
		return resp(w, r)
	}
}

// envelope writes body, all of it or nothing.
func envelope(status int, body api.Response) response {
	return func(w http.ResponseWriter, r *http.Request) error {
		body.Metadata = wire(body.Metadata)
		body.Error = project.Text(project.From(r.Context()), body.Error)
		if err := json.NewEncoder(enveloper{w, status}).Encode(body); err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
		return nil
	}
}

// An enveloper writes what is an answer in one piece.
type enveloper struct {
	w      http.ResponseWriter
	status int
}

func (e enveloper) Write(b []byte) (int, error) {
	e.w.Header().Set("Content-Type", "application/json")
	e.w.WriteHeader(e.status)
	_, _ = e.w.Write(b) // The client may be gone.
	return len(b), nil
}

// A raw is an answer without an envelope.
type raw struct {
	data     io.ReadCloser
	name     string // File name for the client; empty for none.
	typ      string // Content type; empty for application/octet-stream.
	size     int64  // Negative for unknown.
	modified time.Time
	live     bool // What is read goes to the client at once.
}

func (f raw) response() response {
	return func(w http.ResponseWriter, r *http.Request) error {
		defer f.data.Close()
		h := w.Header()
		h.Set("Content-Type", orDefault(f.typ, "application/octet-stream"))
		if f.name != "" {
			h.Set("Content-Disposition", fmt.Sprintf("inline;filename=%q", f.name))
		}
		if f.size >= 0 {
			h.Set("Content-Length", fmt.Sprint(f.size))
		}
		if !f.modified.IsZero() {
			h.Set("Last-Modified", f.modified.UTC().Format(http.TimeFormat))
		}
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead {
			return nil
		}
		if _, err := io.Copy(f.to(w), f.data); err != nil {
			panic(http.ErrAbortHandler) // The client sees that the end is missing, if it is not gone.
		}
		return nil
	}
}

// to returns where the data goes.
func (f raw) to(w http.ResponseWriter) io.Writer {
	if !f.live {
		return w
	}
	c := http.NewResponseController(w)
	_ = c.Flush() // The client has the header, however long nothing comes.
	return flusher{w, c}
}

// A flusher keeps nothing back.
type flusher struct {
	w io.Writer
	c *http.ResponseController
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	return n, errors.Join(err, f.c.Flush())
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// switchTo answers 101 and hands the connection to serve, in the protocol
// that the client asked for.
func switchTo(protocol string, serve func(net.Conn)) response {
	return func(w http.ResponseWriter, _ *http.Request) error {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return fmt.Errorf("take over the connection: %w", err)
		}
		defer conn.Close() //nolint:errcheck // All was written before.
		_ = conn.SetDeadline(time.Time{})
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
		if rw.Flush() == nil {
			serve(hijacked{conn, rw.Reader})
		}
		return nil
	}
}

// hijacked is a connection of which the HTTP server has read ahead.
type hijacked struct {
	net.Conn

	r *bufio.Reader
}

func (h hijacked) Read(b []byte) (int, error) { return h.r.Read(b) }
