// Package ws carries streams over websockets, at both ends.
//
// A stream is the binary messages of one direction of a connection, and an
// empty text message is its end. Connections that carry documents, such as
// events and the control messages of an exec, have text messages instead.
package ws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

const (
	// pingEvery is how often KeepAlive sends a ping.
	pingEvery = 10 * time.Second

	// controlWait is how long a ping or a close may wait for a message that
	// is being written.
	controlWait = time.Second

	handshakeTimeout = 10 * time.Second

	// serverBuffer is small: what a server sends goes out without a copy, and
	// what it receives is read past the buffer.
	serverBuffer = 4 << 10

	// clientBuffer is what a client masks at a time.
	clientBuffer = 128 << 10

	// maxDocument bounds what ReadMessage returns.
	maxDocument = 16 << 20
)

// A Conn is a websocket. One goroutine may read and any number may write.
type Conn struct {
	c  *websocket.Conn
	wm sync.Mutex // Held while a message is written.
}

// Upgrade makes a websocket of a request. If it fails it has answered.
func Upgrade(w http.ResponseWriter, r *http.Request) (*Conn, error) {
	u := websocket.Upgrader{
		HandshakeTimeout: handshakeTimeout,
		ReadBufferSize:   serverBuffer,
		WriteBufferSize:  serverBuffer,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(api.Response{Type: "error", ErrorCode: status, Error: reason.Error()})
		},
	}
	c, err := u.Upgrade(w, r, nil)
	if err != nil {
		return nil, errs.Invalidf("websocket: %w", err)
	}
	return &Conn{c: c}, nil
}

// IsUpgrade reports whether a client asks for a websocket.
func IsUpgrade(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// A Dialer opens websockets to a server.
type Dialer struct {
	// Dial connects to the server. It is called once for each websocket.
	Dial   func(ctx context.Context) (net.Conn, error)
	Header http.Header
}

// Open connects to the given path and query of the server. If the server
// answers with an error, Open returns that, with its kind.
func (d Dialer) Open(ctx context.Context, path string) (*Conn, error) {
	dialer := websocket.Dialer{
		NetDialContext:   func(ctx context.Context, _, _ string) (net.Conn, error) { return d.Dial(ctx) },
		HandshakeTimeout: handshakeTimeout,
		ReadBufferSize:   serverBuffer,
		WriteBufferSize:  clientBuffer,
	}
	c, resp, err := dialer.DialContext(ctx, "ws://cuib"+path, d.Header)
	if err != nil {
		return nil, refused(resp, fmt.Errorf("websocket %s: %w", path, err))
	}
	return &Conn{c: c}, nil
}

// refused returns the error that a server answered with, or err if it did not.
func refused(resp *http.Response, err error) error {
	if resp == nil {
		return err
	}
	defer resp.Body.Close()
	var answer api.Response
	if json.NewDecoder(resp.Body).Decode(&answer) != nil || answer.Error == "" {
		return err
	}
	return errs.FromStatus(resp.StatusCode, answer.Error)
}

// ReadMessage returns the next message; text is false for a binary one. Its
// error is [io.EOF] when the other end closed the connection, and
// [io.ErrUnexpectedEOF] when that disappeared.
func (c *Conn) ReadMessage() (text bool, data []byte, err error) {
	text, r, err := c.next()
	if err != nil {
		return false, nil, err
	}
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(r, maxDocument+1))
	if err != nil {
		return false, nil, closed(err)
	}
	if n > maxDocument {
		return false, nil, errs.Invalidf("websocket: message is larger than %d bytes", maxDocument)
	}
	return text, buf.Bytes(), nil
}

// next returns a reader of the next message.
func (c *Conn) next() (text bool, r io.Reader, err error) {
	typ, r, err := c.c.NextReader()
	if err != nil {
		return false, nil, closed(err)
	}
	return typ == websocket.TextMessage, r, nil
}

// closed makes io.EOF of the close of the other end, and
// io.ErrUnexpectedEOF of its disappearance.
func closed(err error) error {
	switch e, ok := errors.AsType[*websocket.CloseError](err); {
	case !ok:
		return err
	case e.Code == websocket.CloseAbnormalClosure:
		return io.ErrUnexpectedEOF
	default:
		return io.EOF
	}
}

// WriteText writes a text message.
func (c *Conn) WriteText(data []byte) error { return c.write(websocket.TextMessage, data) }

// WriteBinary writes a binary message.
func (c *Conn) WriteBinary(data []byte) error { return c.write(websocket.BinaryMessage, data) }

// WriteJSON writes v as a text message.
func (c *Conn) WriteJSON(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	return c.WriteText(data)
}

func (c *Conn) write(typ int, data []byte) error {
	c.wm.Lock()
	defer c.wm.Unlock()
	return c.c.WriteMessage(typ, data)
}

// KeepAlive pings the other end until ctx ends or the connection does.
func (c *Conn) KeepAlive(ctx context.Context) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if !c.ping() {
				return
			}
		}
	}
}

// ping reports whether the connection lives. A long message in the way of the
// ping means that it does.
func (c *Conn) ping() bool {
	err := c.c.WriteControl(websocket.PingMessage, nil, time.Now().Add(controlWait))
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return true
	}
	return err == nil
}

// Close tells the other end that nothing follows, and closes the connection.
// What was written before still arrives.
func (c *Conn) Close() {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.c.WriteControl(websocket.CloseMessage, bye, time.Now().Add(controlWait)) // The other end may be gone.
	_ = c.c.Close()
}

// Abort closes the connection at once, also under a message being written.
func (c *Conn) Abort() { _ = c.c.Close() }

// Watch returns a context that ends with ctx or with the connection. It reads
// what the other end sends, to no use, and pings it; nobody else may read.
func (c *Conn) Watch(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for {
			if _, _, err := c.c.NextReader(); err != nil {
				return
			}
		}
	}()
	go c.KeepAlive(ctx)
	return ctx
}
