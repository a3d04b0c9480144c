package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// quick is how long an operation runs before somebody who watches it is worth
// a connection of its own. Most end before.
const quick = 150 * time.Millisecond

// An Operation is something that the daemon does, or did, in the background.
// The embedded struct is as it was last heard of.
type Operation struct {
	api.Operation

	c *Client
}

// Operations returns what runs in the background, oldest first.
func (c *Client) Operations(ctx context.Context) ([]api.Operation, error) {
	byStatus, err := list[map[string][]api.Operation](ctx, c, path("operations")+"?recursion=1")
	if err != nil {
		return nil, err
	}
	var out []api.Operation
	for _, some := range byStatus {
		out = append(out, some...)
	}
	sortBy(out, func(o api.Operation) string { return o.CreatedAt.UTC().Format(time.RFC3339Nano) + o.ID })
	return out, nil
}

// Operation returns one operation.
func (c *Client) Operation(ctx context.Context, id string) (*Operation, error) {
	desc, err := list[api.Operation](ctx, c, path("operations", id))
	if err != nil {
		return nil, err
	}
	return &Operation{desc, c}, nil
}

// CancelOperation asks an operation to stop.
func (c *Client) CancelOperation(ctx context.Context, id string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("operations", id)})
}

// Ended tells whether the operation is over.
func (o *Operation) Ended() bool { return o.StatusCode >= api.Success }

// Failure returns why the operation failed, or nil.
func (o *Operation) Failure() error {
	switch {
	case o.StatusCode == api.Canceled:
		return errs.Newf(errs.Canceled, "%s", o.Err)
	case o.StatusCode != api.Failure:
		return nil
	case o.ErrCode != 0:
		return errs.FromStatus(int(o.ErrCode), o.Err)
	}
	return errs.Newf(errs.Internal, "%s", o.Err)
}

// Wait waits until the operation has ended, and returns why it failed.
func (o *Operation) Wait(ctx context.Context) error {
	for !o.Ended() {
		if err := o.wait(ctx, -1); err != nil {
			return err
		}
	}
	return o.Failure()
}

// wait waits for the given number of seconds at most; -1 is for ever.
func (o *Operation) wait(ctx context.Context, seconds int) error {
	desc, err := list[api.Operation](ctx, o.c, path("operations", o.ID, "wait")+"?timeout="+strconv.Itoa(seconds))
	if err != nil {
		return err
	}
	o.Operation = desc
	return nil
}

// beat is how often somebody who watches is told that nothing has changed.
const beat = time.Second

// Watch is [Operation.Wait] that calls changed with each change of the
// operation and now and then without one, on the goroutine of the caller. It
// does not for an operation that ends at once.
func (o *Operation) Watch(ctx context.Context, changed func(api.Operation)) error {
	if o.Ended() {
		return o.Failure()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := make(chan error, 1)
	waiting := &Operation{o.Operation, o.c}
	go func() {
		err := waiting.Wait(ctx)
		end <- err
	}()
	timer := time.NewTimer(quick)
	defer timer.Stop()
	changes := make(chan api.Operation, 16)
	alive := time.NewTicker(beat)
	defer alive.Stop()
	last := o.Operation
	for {
		select {
		case err := <-end:
			o.Operation = waiting.Operation
			return err
		case <-timer.C:
			go o.c.follow(ctx, o.ID, changes)
		case last = <-changes:
			changed(last)
		case <-alive.C:
			changed(last)
		}
	}
}

// follow sends an operation to changes, as it is and then each time that it
// changes. Progress is a comfort: an error only ends it.
func (c *Client) follow(ctx context.Context, id string, changes chan<- api.Operation) {
	events, err := c.Events(ctx, "operation")
	if err != nil {
		return
	}
	defer events.Close()
	send := func(desc api.Operation) bool {
		select {
		case changes <- desc:
			return true
		case <-ctx.Done():
			return false
		}
	}
	if now, err := c.Operation(ctx, id); err != nil || !send(now.Operation) {
		return
	}
	for {
		e, err := events.Next(ctx)
		if err != nil {
			return
		}
		var desc api.Operation
		if json.Unmarshal(e.Metadata, &desc) == nil && desc.ID == id && !send(desc) {
			return
		}
	}
}

// Progress returns the text of the operation's progress, or "".
func Progress(desc api.Operation) string {
	for k, v := range desc.Metadata {
		if text, ok := v.(string); ok && strings.HasSuffix(k, "_progress") {
			return text
		}
	}
	return ""
}

// Made returns the name of the object of a kind, such as "instances", that
// the operation is about, or "".
func (o *Operation) Made(kind string) string {
	for _, url := range o.Resources[kind] {
		url, _, _ = strings.Cut(url, "?")
		if i := strings.LastIndexByte(url, '/'); i >= 0 {
			return url[i+1:]
		}
	}
	return ""
}
