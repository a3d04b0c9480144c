package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// websocket opens a websocket. It is closed when ctx ends.
func (c *Client) websocket(ctx context.Context, path string) (*ws.Conn, error) {
	path = c.target(path)
	conn, err := ws.Dialer{Dial: c.dial, Header: http.Header{"User-Agent": {"cuib"}}}.Open(ctx, path)
	if err != nil {
		return nil, transportError(ctx, err)
	}
	if c.Trace != nil {
		c.Trace("WS", path, http.StatusSwitchingProtocols, 0)
	}
	context.AfterFunc(ctx, func() { conn.Abort() })
	return conn, nil
}

// Events are the events that the daemon publishes.
type Events struct {
	conn *ws.Conn
}

// Events subscribes to the events of some types, or of all. They end with
// ctx.
func (c *Client) Events(ctx context.Context, types ...string) (*Events, error) {
	p := path("events")
	if len(types) > 0 {
		p += "?type=" + url.QueryEscape(strings.Join(types, ","))
	}
	conn, err := c.websocket(ctx, p)
	if err != nil {
		return nil, err
	}
	return &Events{conn}, nil
}

// Next waits for the next event. It returns [io.EOF] when the daemon has
// ended the stream.
func (e *Events) Next(ctx context.Context) (api.Event, error) {
	var out api.Event
	_, data, err := e.conn.ReadMessage()
	switch {
	case err == nil:
		err = json.Unmarshal(data, &out)
		return out, err
	case ctx.Err() != nil:
		return out, errs.Newf(errs.Canceled, "%w", context.Cause(ctx))
	case errors.Is(err, io.EOF):
		return out, io.EOF
	}
	return out, errs.Newf(errs.Unavailable, "the stream of events broke off: %w", err)
}

// Close ends the subscription.
func (e *Events) Close() { e.conn.Close() }
