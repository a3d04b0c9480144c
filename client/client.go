// Package client talks to a Cuib daemon.
//
// A [Client] has one method for each thing that the API can do, with the
// structs of package api. Its errors have the kinds of package errs: an
// instance that does not exist is [errs.NotFound] here as it is in the daemon,
// and a daemon that cannot be reached is [errs.Unavailable].
//
// What the daemon does in the background is an [Operation], which is waited
// for or watched. Requests share one connection; only streams (exec, console,
// events, SFTP) have their own.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// DefaultDir is where the daemon keeps its state if nothing else is said.
const DefaultDir = "/var/lib/cuib"

// A Client is a connection to one daemon. It is safe for concurrent use.
type Client struct {
	// Trace, if it is not nil, is told of each request after its answer.
	Trace func(method, path string, status int, took time.Duration)

	socket  string
	http    *http.Client
	project string // Empty is the default one.
	all     bool   // Lists are of all projects.
}

// New returns a client of the daemon that listens on the given unix socket.
// It does not connect before the first request.
func New(socket string) *Client {
	c := &Client{socket: socket}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableCompression: true,
	}}
	return c
}

// SocketPath returns the path of the daemon's socket as the environment has
// it: $CUIB_SOCKET, which may begin with unix://, else unix.socket in
// $CUIB_DIR, else in [DefaultDir].
func SocketPath(getenv func(string) string) string {
	if s := getenv("CUIB_SOCKET"); s != "" {
		return strings.TrimPrefix(strings.TrimPrefix(s, "unix://"), "unix:")
	}
	dir := getenv("CUIB_DIR")
	if dir == "" {
		dir = DefaultDir
	}
	return filepath.Join(dir, "unix.socket")
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, errs.Newf(errs.Unavailable, "no daemon at %s: is cuibd running?", c.socket)
	case errors.Is(err, unix.ECONNREFUSED):
		return nil, errs.Newf(errs.Unavailable, "nobody listens on %s: is cuibd running?", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return nil, errs.Newf(errs.Denied, "no access to %s: be root or a member of the group cuib", c.socket)
	}
	return nil, errs.Newf(errs.Unavailable, "connect to the daemon: %w", err)
}

// A call is one request.
type call struct {
	method, path string
	body         any // nil, an io.Reader, or what becomes JSON.
	header       http.Header
	etag         string // If it is not empty the object must still have it.
}

// do sends a request. The caller closes the answer's body.
func (c *Client) do(ctx context.Context, q call) (*http.Response, error) {
	body, typ, err := encode(q.body)
	if err != nil {
		return nil, err
	}
	target := c.target(q.path)
	req, err := http.NewRequestWithContext(ctx, q.method, "http://cuib"+target, body)
	if err != nil {
		return nil, errs.Invalidf("%w", err)
	}
	maps.Copy(req.Header, q.header)
	if typ != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", typ)
	}
	if q.etag != "" {
		req.Header.Set("If-Match", q.etag)
	}
	req.Header.Set("User-Agent", "cuib")
	start := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, transportError(ctx, err)
	}
	if c.Trace != nil {
		c.Trace(q.method, target, resp.StatusCode, time.Since(start))
	}
	return resp, nil
}

func encode(body any) (r io.Reader, contentType string, err error) {
	switch b := body.(type) {
	case nil:
		return nil, "", nil
	case io.Reader:
		return b, "application/octet-stream", nil
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, "", fmt.Errorf("encode request: %w", err)
	}
	return bytes.NewReader(data), "application/json", nil
}

// transportError drops the method and the URL that net/http puts before an
// error, which say nothing to a user.
func transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errs.Newf(errs.Canceled, "%w", context.Cause(ctx))
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return errs.Newf(errs.KindOf(op.Err), "%w", op.Err)
	}
	if errs.KindOf(err) != errs.Internal {
		return err
	}
	return errs.Newf(errs.Unavailable, "the daemon broke off: %w", err)
}

// An envelope is an answer whose metadata is not decoded yet.
type envelope struct {
	Type      string          `json:"type"`
	Operation string          `json:"operation"`
	ErrorCode int             `json:"error_code"`
	Error     string          `json:"error"`
	Metadata  json.RawMessage `json:"metadata"`

	etag string
}

// call sends a request and takes the answer out of its envelope.
func (c *Client) call(ctx context.Context, q call) (envelope, error) {
	resp, err := c.do(ctx, q)
	if err != nil {
		return envelope{}, err
	}
	defer resp.Body.Close()
	return open(resp)
}

func open(resp *http.Response) (envelope, error) {
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return envelope{}, errs.Newf(errs.Unavailable, "read the daemon's answer: %w", err)
	}
	var env envelope
	if err := json.Unmarshal(data, &env); err != nil {
		text := strings.TrimSpace(string(data))
		return envelope{}, errs.FromStatus(resp.StatusCode, fmt.Sprintf("the daemon answered %s: %.200s", resp.Status, text))
	}
	if env.Type == "error" || resp.StatusCode >= http.StatusBadRequest {
		return envelope{}, errorOf(env, resp)
	}
	env.etag = resp.Header.Get("ETag")
	return env, nil
}

func errorOf(env envelope, resp *http.Response) error {
	code := env.ErrorCode
	if code == 0 {
		code = resp.StatusCode
	}
	return errs.FromStatus(code, env.Error)
}

// get reads one object, or a list of them, and its ETag. It decodes in one
// pass, as lists can be long.
func get[T any](ctx context.Context, c *Client, path string) (T, string, error) {
	var out struct {
		Metadata T `json:"metadata"`
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return out.Metadata, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, err := open(resp)
		return out.Metadata, "", err
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return out.Metadata, "", errs.Newf(errs.Unavailable, "read the daemon's answer: %w", err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out.Metadata, "", fmt.Errorf("decode the answer to GET %s: %w", path, err)
	}
	return out.Metadata, resp.Header.Get("ETag"), nil
}

// list is [get] without the ETag.
func list[T any](ctx context.Context, c *Client, path string) (T, error) {
	out, _, err := get[T](ctx, c, path)
	return out, err
}

// send sends a request whose answer says no more than that it is done. It
// waits if the daemon does it in the background.
func (c *Client) send(ctx context.Context, q call) error {
	op, err := c.start(ctx, q)
	if err != nil {
		return err
	}
	return op.Wait(ctx)
}

// start sends a request that begins an operation. An answer that says that it
// is done already makes an operation that has ended.
func (c *Client) start(ctx context.Context, q call) (*Operation, error) {
	env, err := c.call(ctx, q)
	if err != nil {
		return nil, err
	}
	op := &Operation{c: c}
	if env.Type != "async" {
		op.StatusCode, op.Status = api.Success, api.Success.String()
		return op, nil
	}
	if err := json.Unmarshal(env.Metadata, &op.Operation); err != nil {
		return nil, fmt.Errorf("decode operation: %w", err)
	}
	return op, nil
}

// path joins elements to a path below /1.0, escaped. The elements are names,
// which can hold anything.
func path(elem ...string) string {
	var b strings.Builder
	b.WriteString("/1.0")
	for _, e := range elem {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(e))
	}
	return b.String()
}
