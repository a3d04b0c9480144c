package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/ws"
)

// Exec is a program to run in an instance, and the ends of its streams. With
// Interactive set there is a terminal: Stdin and Stdout are its two
// directions, and Stderr is not used.
type Exec struct {
	api.InstanceExecPost

	Stdin  io.Reader // nil for none. It can be read from after Exec has returned.
	Stdout io.Writer // nil drops it.
	Stderr io.Writer

	// Control, which may be nil, brings signals and sizes of the window.
	Control <-chan api.InstanceExecControl
}

// Exec runs a program in an instance and returns its exit status.
func (c *Client) Exec(ctx context.Context, instance string, x Exec) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	x.WaitForWS = true
	op, err := c.start(ctx, call{method: http.MethodPost, path: path("instances", instance, "exec"), body: x.InstanceExecPost})
	if err != nil {
		return -1, err
	}
	late := ""
	if !x.Interactive { // The daemon does not wait for it, and nor do we.
		late = "control"
		go op.control(ctx, x.Control)
	}
	conns, err := op.connect(ctx, late)
	if err != nil {
		return -1, preferOperation(ctx, op, err)
	}
	// What is asked for now has its answer when the streams end.
	waiting, ended := &Operation{op.Operation, c}, make(chan error, 1)
	go func() { ended <- waiting.Wait(ctx) }()
	if err := conns.carry(ctx, x); err != nil {
		return -1, err
	}
	if err := <-ended; err != nil {
		return -1, err
	}
	status, ok := waiting.Metadata["return"].(float64)
	if !ok {
		return -1, errs.Newf(errs.Internal, "the daemon gave no exit status")
	}
	return int(status), nil
}

// preferOperation returns why the operation failed if it did: that tells more
// than why its websockets could not be opened.
func preferOperation(ctx context.Context, op *Operation, err error) error {
	if werr := op.wait(ctx, 1); werr == nil && op.Failure() != nil {
		return op.Failure()
	}
	return err
}

// streams are the websockets of an exec or a console, by their names.
type streams map[string]*ws.Conn

// connect opens all websockets of the operation but one, at once: each takes the
// daemon a moment.
func (o *Operation) connect(ctx context.Context, but string) (streams, error) {
	fds, ok := o.Metadata["fds"].(map[string]any)
	if !ok {
		return nil, errs.Newf(errs.Internal, "the daemon gave no streams for the operation")
	}
	var mu sync.Mutex // Guards out.
	out := streams{}
	var opened errgroup.Group
	for name, value := range fds {
		secret, ok := value.(string)
		if !ok || name == but {
			continue
		}
		opened.Go(func() error {
			conn, err := o.websocket(ctx, secret)
			if err != nil {
				return fmt.Errorf("stream %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = conn
			return nil
		})
	}
	return out, opened.Wait()
}

// websocket opens one of the operation's.
func (o *Operation) websocket(ctx context.Context, secret string) (*ws.Conn, error) {
	return o.c.websocket(ctx, path("operations", o.ID, "websocket")+"?secret="+url.QueryEscape(secret))
}

// control opens the websocket for signals and passes them on. There is none any
// more if the program has ended.
func (o *Operation) control(ctx context.Context, in <-chan api.InstanceExecControl) {
	fds, _ := o.Metadata["fds"].(map[string]any)
	secret, ok := fds["control"].(string)
	if !ok {
		return
	}
	conn, err := o.websocket(ctx, secret)
	if err != nil {
		return
	}
	streams{"control": conn}.control(ctx, in) // It ends with ctx.
}

// carry moves the data of all streams until the outputs have ended.
func (s streams) carry(ctx context.Context, x Exec) error {
	if s["0"] == nil || !x.Interactive && (s["1"] == nil || s["2"] == nil) {
		return errs.Newf(errs.Internal, "the daemon gave too few streams for the operation")
	}
	if x.Interactive {
		go s.control(ctx, x.Control)
	}
	in := &input{r: x.Stdin}
	go func() { _ = s["0"].Send(in) }() // That the program reads no more is no error.

	var out errgroup.Group
	if x.Interactive {
		out.Go(func() error { return s["0"].Receive(orDiscard(x.Stdout)) })
	} else {
		out.Go(func() error { return s["1"].Receive(orDiscard(x.Stdout)) })
		out.Go(func() error { return s["2"].Receive(orDiscard(x.Stderr)) })
	}
	err := out.Wait()
	if ctx.Err() != nil {
		return errs.Newf(errs.Canceled, "%w", context.Cause(ctx))
	}
	return errors.Join(err, in.failure())
}

// control passes signals and sizes on. Nothing comes back, but reading is what
// answers pings.
func (s streams) control(ctx context.Context, in <-chan api.InstanceExecControl) {
	conn := s["control"]
	if conn == nil {
		return
	}
	go func() { _ = conn.Receive(io.Discard) }()
	for {
		select {
		case msg, ok := <-in:
			if !ok || conn.WriteJSON(msg) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// An input that can't be read ends for the program, and remembers why.
type input struct {
	r io.Reader // nil is empty.

	mu  sync.Mutex // Guards err.
	err error
}

func (in *input) Read(p []byte) (int, error) {
	if in.r == nil {
		return 0, io.EOF
	}
	n, err := in.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.err = fmt.Errorf("read the input: %w", err)
		return n, io.EOF
	}
	return n, err
}

func (in *input) failure() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Console is the two directions of an instance's console.
type Console struct {
	api.InstanceConsolePost

	Stdin   io.Reader // Its end detaches.
	Stdout  io.Writer
	Control <-chan api.InstanceExecControl // Sizes of the window; may be nil.
}

// Console attaches to the console of an instance until Stdin ends or the
// instance stops.
func (c *Client) Console(ctx context.Context, instance string, con Console) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if con.Type == "" {
		con.Type = "console"
	}
	op, err := c.start(ctx, call{method: http.MethodPost, path: path("instances", instance, "console"), body: con.InstanceConsolePost})
	if err != nil {
		return err
	}
	conns, err := op.connect(ctx, "")
	if err != nil {
		return preferOperation(ctx, op, err)
	}
	tty := conns["0"]
	if tty == nil {
		return errs.Newf(errs.Internal, "the daemon gave no stream for the console")
	}
	go conns.control(ctx, con.Control)
	end := make(chan error, 2)
	go func() { end <- tty.Send(con.Stdin) }()
	go func() { end <- tty.Receive(con.Stdout) }()
	err = <-end
	for _, conn := range conns {
		conn.Close()
	}
	if ctx.Err() != nil {
		return errs.Newf(errs.Canceled, "%w", context.Cause(ctx))
	}
	return err
}

// download returns the body of an answer that has no envelope.
func (c *Client) download(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer resp.Body.Close()
		_, err := open(resp)
		return nil, err
	}
	return resp.Body, nil
}
