package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
)

// Server returns what there is to say of the daemon and its host, and the
// ETag of the daemon's configuration.
func (c *Client) Server(ctx context.Context) (api.Server, string, error) {
	return get[api.Server](ctx, c, "/1.0")
}

// Resources returns the hardware of the daemon's host.
func (c *Client) Resources(ctx context.Context) (api.Resources, error) {
	return list[api.Resources](ctx, c, path("resources"))
}

// UpdateServer replaces the configuration of the daemon.
func (c *Client) UpdateServer(ctx context.Context, put api.ServerPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: "/1.0", body: put, etag: etag})
}

// Ready returns nil if the daemon has done what it does at its start.
func (c *Client) Ready(ctx context.Context) error {
	return c.send(ctx, call{method: http.MethodGet, path: "/internal/ready"})
}

// Shutdown stops the instances as their configuration says, and the daemon,
// which starts them again at its next start. It returns when the instances
// have ended and the daemon is about to. That goes on when ctx ends; another
// call with Force ends it quickly.
func (c *Client) Shutdown(ctx context.Context, req ShutdownRequest) error {
	p := "/internal/shutdown?force=" + url.QueryEscape(fmt.Sprint(req.Force))
	return c.send(ctx, call{method: http.MethodPut, path: p})
}

// ShutdownRequest says how the daemon is to go.
type ShutdownRequest struct {
	Force bool // End instances at once, and do not wait for operations.
}

// A Query is a request as the API has it.
type Query struct {
	Method string
	Path   string // Begins with a slash; can have a query.
	Body   []byte // JSON, or nothing.
}

// An Answer is what a [Query] gave.
type Answer struct {
	Body      []byte          // All of it.
	Metadata  json.RawMessage // nil if the answer was not JSON.
	Operation *Operation      // nil if nothing runs in the background.
}

// Query sends any request.
func (c *Client) Query(ctx context.Context, q Query) (Answer, error) {
	cl := call{method: q.Method, path: q.Path}
	if len(q.Body) > 0 {
		cl.body = json.RawMessage(q.Body)
	}
	resp, err := c.do(ctx, cl)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer: %w", err)
	}
	out := Answer{Body: data}
	var env envelope
	if json.Unmarshal(data, &env) != nil || env.Type == "" {
		return out, nil // A file.
	}
	if env.Type == "error" {
		return out, errorOf(env, resp)
	}
	out.Metadata = env.Metadata
	if env.Type == "async" {
		out.Operation = &Operation{c: c}
		if err := json.Unmarshal(env.Metadata, &out.Operation.Operation); err != nil {
			return out, fmt.Errorf("decode operation: %w", err)
		}
	}
	return out, nil
}
